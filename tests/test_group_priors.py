"""Parameters by group: the joint density against its definition, draws, errors, and what a reader does with them."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from torch import Tensor

from pgm_rnn.emissions import Gaussian
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.by_group import ByGroup, Groups
from pgm_rnn.sequence_model.draws import Draws
from pgm_rnn.sequence_model.priors import WithPriors
from tests.cases import every
from tests.instances import LENGTHS, make_model, ragged, some_family

LABELS = ["b", "a", "b"]
LAST = torch.tensor([1, 0, 1])
"""The number of each sequence's group, by hand."""


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def some_program(name: str, **options: Any) -> tuple[SequenceModel, WithPriors, str, Tensor]:
    """A model, its last finite parameter by group around a normal population, and observations."""
    family = some_family(name)
    model = make_model(name, family, **options)
    parameter, value = [(n, p.detach()) for n, p in model.named_parameters() if p.isfinite().all()][-1]
    law = ByGroup(dist.Normal, loc=dist.Normal(value, 0.5), scale=dist.HalfNormal(torch.ones_like(value)))
    return model, WithPriors(model, {parameter: law}, groups=LABELS), parameter, ragged(family)


def log_probs(program: Any, values: dict[str, Tensor], x: Tensor, **options: Any) -> Any:
    trace: Any = poutine.trace(poutine.condition(program, values)).get_trace(x, **options)
    trace.compute_log_prob()
    return trace


@every("exact model of vectors")
def test_the_joint_density_is_that_of_each_group_alone_times_the_population(name: str) -> None:
    model, program, parameter, x = some_program(name)
    values = program.draw()
    trace = log_probs(program, values, x, lengths=LENGTHS)
    loc, scale, own = (values[n].double() for n in (f"{parameter}_loc", f"{parameter}_scale", parameter))
    by_hand = torch.stack([_alone(model, parameter, own[LAST[n]], x[n : n + 1], LENGTHS[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(trace.nodes["x"]["log_prob"], by_hand[:, 0])
    kept = dict(model.named_parameters())[parameter].detach()
    population = -0.5 * ((own - loc) / scale) ** 2 - scale.log() - 0.918938533204672742
    hyper = -0.5 * ((loc - kept) / 0.5) ** 2 + 0.693147180559945309 - 0.918938533204672742
    hyper = hyper - 0.5 * scale**2 - 0.225791352644727432  # log sqrt(2 / pi)
    torch.testing.assert_close(trace.log_prob_sum(), by_hand.sum() + population.sum() + hyper.sum())
    swapped = torch.stack(
        [_alone(model, parameter, own[1 - LAST[n]], x[n : n + 1], LENGTHS[n : n + 1]) for n in range(3)]
    )
    assert float((swapped - by_hand).abs().max()) > 1e-6  # the wrong group has another density


@torch.no_grad()
def _alone(model: SequenceModel, parameter: str, value: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
    """log p(x) of the model with this value of the parameter, by no code of groups."""
    raw = dict(model.named_parameters())[parameter]
    kept = raw.detach().clone()
    raw.copy_(value)
    found = model.log_prob(x, lengths=lengths)
    raw.copy_(kept)
    return found


# Models of vectors, options, and draws side by side.


def normal_program(**options: Any) -> tuple[LinearGaussianSSM, WithPriors, Tensor]:
    """A linear Gaussian model whose transition matrix differs by group, and whose observations do not."""
    model = LinearGaussianSSM.random(2, 2, seed=0, **options).double()
    law = ByGroup(
        lambda mean, spread: dist.Normal(mean, spread[..., None, None]),
        mean=dist.Normal(torch.zeros(2, 2).double(), 0.3),
        spread=dist.HalfNormal(double(0.3)[0]),
    )
    offset = dist.Normal(model.emission_matrix.detach(), 0.1)
    program = WithPriors(model, {"transition_matrix": law, "emission_matrix": offset}, groups=LABELS)
    return model, program, torch.randn(3, 5, 2, dtype=torch.float64)


def test_a_mean_and_a_matrix_may_differ_by_group_in_a_linear_gaussian_model() -> None:
    model, program, x = normal_program()
    values = program.draw()
    assert values["transition_matrix"].shape == (2, 2, 2)
    x[1, 2:] = torch.nan  # a gap
    found = log_probs(program, values, x, lengths=LENGTHS + 1).nodes["x"]["log_prob"]
    for n, group in enumerate(LABELS):
        own = {**_moments(model), "emission_matrix": values["emission_matrix"]}
        alone = LinearGaussianSSM(**own, transition_matrix=values["transition_matrix"]["ab".index(group)])
        torch.testing.assert_close(found[n], alone.log_prob(x[n : n + 1], lengths=LENGTHS[n : n + 1] + 1)[0].detach())


def _moments(model: LinearGaussianSSM) -> dict[str, Any]:
    names = ("initial_mean", "initial_cov", "transition_cov", "emission_cov")
    return {name: value.detach() for name, value in model.moments().items() if name in names}


def test_inputs_and_a_mask_go_with_their_sequences() -> None:
    _, program, x = normal_program(input_dim=1)
    values, inputs, mask = program.draw(), torch.randn(3, 5, 1).double(), torch.rand(3, 5) < 0.7
    mask[:, 0] = True
    found = log_probs(program, values, x, inputs=inputs, mask=mask).nodes["x"]["log_prob"]
    for n, group in enumerate(LABELS):
        twin = program.model_at(values, group)
        expected = twin.log_prob(x[n : n + 1], inputs=inputs[n : n + 1], mask=mask[n : n + 1])
        torch.testing.assert_close(found[n], expected[0].detach())
    assert not torch.allclose(found, log_probs(program, values, x, inputs=inputs).nodes["x"]["log_prob"])


@every("exact model of vectors")
def test_draws_side_by_side_and_their_gradients_are_those_of_each_alone(name: str) -> None:
    _, program, _, x = some_program(name)
    each = [{n: v.requires_grad_() for n, v in program.draw().items()} for _ in range(3)]
    alone = torch.stack([log_probs(program, draw, x, lengths=LENGTHS).log_prob_sum() for draw in each])
    expected = torch.autograd.grad(alone.sum(), [value for draw in each for value in draw.values()])
    stacked = {}
    for site in program.names:
        values = torch.stack([draw[site] for draw in each])
        stacked[site] = values if site in program.by_group else values[:, None]
    with pyro.plate("draws", 3, dim=-2):
        together = log_probs(program, stacked, x, lengths=LENGTHS)
    assert together.nodes["x"]["log_prob"].shape == (3, 3)
    torch.testing.assert_close(together.log_prob_sum(), alone.sum())
    found = torch.autograd.grad(together.log_prob_sum(), [value for draw in each for value in draw.values()])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_model_that_cannot_be_mapped_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    _, program, x = normal_program()
    values = program.draw()
    x[0, 1] = torch.nan
    at_once = log_probs(program, values, x, lengths=LENGTHS).nodes["x"]["log_prob"]

    def refused(*_: Any, **__: Any) -> Any:
        raise RuntimeError("vmap: no rule")

    monkeypatch.setattr(Draws, "at_once", refused)
    one_by_one = log_probs(program, values, x, lengths=LENGTHS).nodes["x"]["log_prob"]
    torch.testing.assert_close(one_by_one, at_once)


def test_rows_of_lengths_are_checked_under_vmap() -> None:
    model = LinearGaussianSSM.random(2, 2, seed=0).double()
    x = model.sample(3, 4, seed=0).x

    def of_lengths(lengths: Tensor) -> Tensor:
        from pgm_rnn.sequence_model.densities import marginal_log_prob
        from pgm_rnn.sequences import Sequences

        return marginal_log_prob(model, Sequences(x[:1], LENGTHS[:1])._replace(lengths=lengths), "model")

    for wrong in (0, 5):
        with pytest.raises(ValueError, match=rf"expected lengths in 1..T = 1..4, got {wrong} at index 1"):
            torch.func.vmap(of_lengths)(torch.tensor([[4], [wrong]]))


# What a reader does with a program.


def hmm_program(labels: Any = LABELS) -> tuple[HMM, WithPriors]:
    """Means by group, transitions shared."""
    table = Gaussian().table(loc=double(-1, 1), scale=double(0.5, 0.5))
    model = HMM(double(0.5, 0.5), double(0.8, 0.2, 0.2, 0.8).reshape(2, 2), table)
    law = ByGroup(dist.Normal, loc=dist.Normal(double(-1, 1), 0.5), scale=dist.HalfNormal(double(0.5, 0.5)))
    rows = dist.Dirichlet(double(4, 1, 1, 4).reshape(2, 2))
    return model, WithPriors(model, {"loc": law, "transition_probs": rows}, groups=labels)


@pytest.mark.parametrize("labels", [LABELS, torch.tensor([7, -2, 7]), (1, 0, 1)])
def test_groups_are_words_or_numbers_in_the_order_of_their_labels(labels: Any) -> None:
    groups = Groups.of(labels)
    assert torch.equal(groups.numbers, LAST)
    assert list(groups.names) == sorted(groups.names)
    assert groups.number(labels[0]) == 1


def test_groups_may_be_a_column_of_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    for column in (pandas.Series(LABELS), pandas.Series(LABELS, dtype="category")):
        assert Groups.of(column).names == ("a", "b")
    column = pandas.Series(pandas.Categorical(LABELS, categories=["a", "b", "c"]))
    with pytest.raises(ValueError, match=r"expected a sequence in each group, got none in 'c'; use remove_unused"):
        Groups.of(column)


def test_a_group_has_a_model_of_its_own_and_a_new_one_is_drawn_from_the_population() -> None:
    model, program = hmm_program()
    values = program.draw()
    twin = program.model_at(values, "a")
    assert isinstance(twin, HMM)
    torch.testing.assert_close(twin.emission_table(torch.arange(2)).mean.flatten(), values["loc"][0])
    torch.testing.assert_close(twin.transition_probs, values["transition_probs"])
    many = [program.new_group(values, seed=seed) for seed in range(400)]
    means = torch.stack([one.emission_table(torch.arange(2)).mean.flatten() for one in many])
    scale = values["loc_scale"]
    assert bool(((means.mean(0) - values["loc_loc"]).abs() < 5 * scale / 20).all())
    assert bool(((means.std(0) / scale - 1).abs() < 5 / 800**0.5).all())  # sd of a sd: scale / sqrt(2 n)
    torch.testing.assert_close(many[0].transition_probs, values["transition_probs"])
    assert torch.equal(model.emission_table(torch.arange(2)).mean.flatten(), double(-1, 1))


def test_minibatches_name_the_groups_of_their_sequences() -> None:
    _, program = hmm_program()
    values, x = program.draw(), torch.randn(3, 4).double()
    whole = log_probs(program, values, x).nodes["x"]["log_prob"]
    rows = torch.tensor([2, 1])
    part = log_probs(program, values, x[rows], groups=[LABELS[i] for i in rows]).nodes["x"]["log_prob"]
    torch.testing.assert_close(part, whole[rows])


@pytest.mark.parametrize("guide_kind", [AutoNormal, AutoMultivariateNormal, AutoDelta])
@pytest.mark.parametrize("vectorize", [False, True])
def test_automatic_guides_take_a_program_with_groups(guide_kind: Any, vectorize: bool) -> None:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    _, program = hmm_program()
    x = torch.randn(3, 4).double()
    guide = guide_kind(program)
    elbo = Trace_ELBO(num_particles=1 + 3 * vectorize, vectorize_particles=vectorize, max_plate_nesting=1)
    svi = SVI(program, guide, pyro.optim.Adam({"lr": 0.05}), elbo)  # type: ignore[attr-defined]
    losses = [svi.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert guide.median(x)["loc"].shape == (2, 2)
    drawn = Predictive(program, guide=guide, num_samples=5)(x)
    assert drawn["loc"].shape == (5, 2, 2)
    each = Predictive(program, {name: drawn[name] for name in program.names}, parallel=True).get_vectorized_trace(x)
    assert each.nodes["x"]["fn"].log_prob(x).shape == (5, 3)


# Errors.

NORMAL = ByGroup(dist.Normal, loc=dist.Normal(double(0, 0), 1.0), scale=dist.HalfNormal(double(1, 1)))


@pytest.mark.parametrize(
    ("priors", "labels", "message"),
    [
        ({"loc": NORMAL}, None, r"expected groups= with ByGroup for loc, got none"),
        (
            {"loc": dist.Normal(double(0, 0), 1.0)},
            LABELS,
            r"expected a parameter that differs between the groups, ByGro",
        ),
        ({"locs": NORMAL}, LABELS, r"expected the parameter to be one of .*, got 'locs'; did you mean 'loc'"),
        ({"loc": ByGroup(dist.Normal(0.0, 1.0))}, LABELS, r"expected a prior for loc that gives \(2,\), got \(\)"),
        ({"scale": NORMAL}, LABELS, r"expected a prior over .* for scale, got a draw of Normal outside these values"),
        ({"loc": NORMAL, "loc_scale": dist.Normal(0.0, 1.0)}, LABELS, r"expected a name of its own for the hyperpar"),
        ({"loc": NORMAL}, [], r"expected the group of each sequence, \(batch,\), got no labels"),
        (
            {"loc": NORMAL},
            [["a"], ["b"]],
            r"expected the group of each sequence, \(batch,\), got no labels or more than",
        ),
        ({"loc": NORMAL}, ["a", None, "b"], r"expected the group of each sequence, got none at sequence 1"),
        (
            {"loc": NORMAL},
            torch.tensor([0.0, torch.nan]),
            r"expected the group of each sequence, got none at sequence 1",
        ),
    ],
)
def test_priors_and_groups_that_do_not_fit_are_one_sentence(priors: Any, labels: Any, message: str) -> None:
    model, _ = hmm_program()
    with pytest.raises(ValueError, match=message):
        WithPriors(model, priors, groups=labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("aba", r"expected the group of each sequence, a list or a column of labels, got 'aba'"),
        (3, r"expected the group of each sequence, a list or a column of labels, got 3"),
        (["a", 1], r"expected the groups as words or as whole numbers, got int, str"),
        ([0.5, 1.5], r"expected the groups as words or as whole numbers, got float"),
    ],
)
def test_groups_of_another_kind_are_one_sentence(labels: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Groups.of(labels)


def test_laws_of_groups_of_another_kind_are_one_sentence() -> None:
    with pytest.raises(TypeError, match="expected a law, or a function that returns one, for ByGroup, got float"):
        ByGroup(0.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a law as the hyperprior scale, got float"):
        ByGroup(dist.Normal, loc=dist.Normal(0.0, 1.0), scale=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected ByGroup\(law\), .* got a function without hyperpriors"):
        ByGroup(dist.Normal)
    with pytest.raises(ValueError, match=r"expected ByGroup\(law\), .* got hyperpriors loc with a law"):
        ByGroup(dist.Normal(0.0, 1.0), loc=dist.Normal(0.0, 1.0))
    with pytest.raises(TypeError, match="expected a law of Pyro's from the function of ByGroup, got Tensor"):
        ByGroup(lambda loc: loc, loc=dist.Normal(0.0, 1.0)).at({"loc": torch.zeros(())})


def test_what_a_program_with_groups_cannot_do_is_one_sentence() -> None:
    model, program = hmm_program()
    values, x = program.draw(), torch.randn(3, 4).double()
    with pytest.raises(ValueError, match=r"expected a group for each of the 2 sequences, got 3 groups; .* by groups="):
        program(x[:2])
    with pytest.raises(
        ValueError, match=r"expected one of the groups 'a', 'b', got 'c'; new_group draws the parameters"
    ):
        program(x, groups=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"expected one of the groups 'a', 'b', got 'c'"):
        program.model_at(values, "c")
    with pytest.raises(ValueError, match=r"expected group=, one of 'a', 'b', got none; new_group makes another"):
        program.model_at(values)
    with pytest.raises(
        ValueError, match=r"expected observations and rendering='fused' with groups, got rendering='unrol"
    ):
        program(x, rendering="unrolled")
    with pytest.raises(
        ValueError, match=r"expected observations and rendering='fused' .* got no observations; pgm_rnn.si"
    ):
        program(None)  # type: ignore[arg-type]
    plain = WithPriors(model, {"loc": dist.Normal(double(0, 0), 1.0)})
    with pytest.raises(ValueError, match=r"expected a program with groups=, .* got one without"):
        plain(x, groups=LABELS)
    with pytest.raises(ValueError, match=r"expected a program with groups=, got one without; model_at gives its model"):
        plain.new_group({"loc": double(0, 0)})
    with pytest.raises(ValueError, match=r"expected a program with groups=, got one without, for the group 'a'"):
        plain.of_group({"loc": double(0, 0)}, "a")


@every("inexact law")
def test_a_model_without_a_likelihood_is_refused(name: str, family: Any) -> None:
    model = make_model(name, family)
    parameter, value = next(iter(model.named_parameters()))
    with pytest.raises(
        ValueError, match=r"expected a model with an exact likelihood for groups, such as HMM or Linear"
    ):
        WithPriors(model, {parameter: ByGroup(dist.Normal(value.detach(), 1.0))}, groups=LABELS)
