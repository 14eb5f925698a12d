"""`DiscreteHMM` and `GaussianHMM` against the definitions, and against Pyro's classes with Pyro's time convention."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor

from pgm_rnn.distributions import DiscreteHMM, GaussianHMM
from pgm_rnn.distributions.normal import Normal as OurNormal
from pgm_rnn.kernels import hmm as kernels
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from tests.definitions import all_words, largest_z_score, marginal_prob, word_index

SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int | None]] = {
    "shared": ((), (), (), (), 5),
    "per step": ((), (5,), (5,), (), None),
    "per chain": ((2,), (2, 1), (2, 1), (2,), 5),
    "per chain and step": ((2,), (2, 5), (2, 5), (2,), None),
    "some shared": ((2,), (), (5,), (2,), None),
    "broadcast": ((4, 2), (2, 1), (), (4, 2), 5),
}
"""Leading axes of the initial law, transitions and observations, the batch shape, and the duration."""
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
every_sample = pytest.mark.parametrize("sample", [(), (3,)])


def discrete(shape: Any) -> tuple[list[Tensor], Any]:
    first, moves, seen, _, duration = shape
    tensors = [torch.randn(*first, 3), torch.randn(*moves, 3, 3), torch.randn(*seen, 3)]
    tensors = [t.requires_grad_() for t in tensors]
    return tensors, lambda make, **options: make(
        tensors[0], tensors[1], dist.Normal(tensors[2], 1.0), duration=duration, **options
    )


def random_normal(*batch: int, size: int) -> Any:
    root = torch.randn(*batch, size, size)
    return dist.MultivariateNormal(torch.randn(*batch, size), root @ root.mT + torch.eye(size))


def gaussian(shape: Any) -> tuple[Any, Tensor, Any, Tensor, Any]:
    first, moves, seen, _, _ = shape
    return (
        random_normal(*first, size=3),
        torch.randn(*moves, 3, 3) / 2,
        random_normal(*moves, size=3),
        torch.randn(*seen, 3, 2),
        random_normal(*seen, size=2),
    )


@every_sample
@every_shape
def test_the_discrete_law_takes_the_place_of_pyros(shape: Any, sample: tuple[int, ...]) -> None:
    tensors, make = discrete(shape)
    ours, theirs = make(DiscreteHMM, initial_step=0), make(dist.DiscreteHMM)
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
    x = torch.randn(*sample, *shape[3], 5)
    value, expected = ours.log_prob(x), theirs.log_prob(x)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ours.filter(x).probs, theirs.filter(x).probs)
    pairs = zip(torch.autograd.grad(value.sum(), tensors), torch.autograd.grad(expected.sum(), tensors), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)
    assert ours.sample((4,)).shape == theirs.sample((4,)).shape
    larger = (6, *ours.batch_shape)
    x = torch.randn(*larger, 5)
    torch.testing.assert_close(ours.expand(larger).log_prob(x), theirs.expand(larger).log_prob(x))


@every_sample
@every_shape
def test_the_gaussian_law_takes_the_place_of_pyros(shape: Any, sample: tuple[int, ...]) -> None:
    arguments, duration = gaussian(shape), shape[4]
    ours, theirs = (
        GaussianHMM(*arguments, duration=duration, initial_step=0),
        dist.GaussianHMM(*arguments, duration=duration),
    )
    assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
    x = torch.randn(*sample, *shape[3], 5, 2)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.filter(x).mean, theirs.filter(x).mean)
    torch.testing.assert_close(ours.filter(x).covariance_matrix, theirs.filter(x).covariance_matrix)
    assert ours.rsample((4,)).shape == theirs.rsample((4,)).shape
    larger = (6, *ours.batch_shape)
    x = torch.randn(*larger, 5, 2)
    torch.testing.assert_close(ours.expand(larger).log_prob(x), theirs.expand(larger).log_prob(x))


def test_our_convention_is_the_models() -> None:
    hmm = HMM.random(3, 4, seed=0).double()
    law = DiscreteHMM(hmm.initial_logits, hmm.transition_logits, dist.Categorical(hmm.emission_probs), duration=4)
    words = all_words(4, 4)
    torch.testing.assert_close(law.log_prob(words), hmm.log_prob(words))
    moved = DiscreteHMM(
        hmm.initial_logits, hmm.transition_logits, dist.Categorical(hmm.emission_probs), duration=4, initial_step=0
    )
    assert not torch.allclose(moved.log_prob(words), hmm.log_prob(words))
    emission = hmm.emission_probs.T[words[77]]
    torch.testing.assert_close(
        law.log_prob(words[77]).exp(), marginal_prob(hmm.initial_probs, hmm.transition_probs, emission)
    )


def same_law(model: LinearGaussianSSM, **options: Any) -> GaussianHMM:
    return GaussianHMM(
        dist.MultivariateNormal(model.initial_mean, model.initial_cov),
        model.transition_matrix.mT,
        dist.MultivariateNormal(torch.zeros(model.latent_dim), model.transition_cov),
        model.emission_matrix.mT,
        dist.MultivariateNormal(torch.zeros(model.obs_dim), model.emission_cov),
        **options,
    )


def test_our_gaussian_convention_is_the_models() -> None:
    model = LinearGaussianSSM.random(3, 2, seed=0).double()
    x, lengths = torch.randn(5, 4, 2), torch.tensor([4, 1, 3, 2, 4])
    torch.testing.assert_close(same_law(model, duration=4).log_prob(x), model.log_prob(x))
    ragged = same_law(model, duration=4).expand([5])
    ragged.lengths = lengths
    torch.testing.assert_close(ragged.log_prob(x), model.log_prob(x, lengths=lengths))


HOMOGENEOUS: dict[str, tuple[Any, ...]] = {
    "shared": ((), (), (), (), None),
    "per chain": ((2,), (2, 1), (2, 1), (2,), None),
    "some shared": ((2,), (), (1,), (2,), None),
}
every_homogeneous_shape = pytest.mark.parametrize("shape", HOMOGENEOUS.values(), ids=HOMOGENEOUS)


@every_sample
@every_homogeneous_shape
def test_laws_that_are_the_same_at_all_steps_take_values_of_any_duration_as_pyros(
    shape: Any, sample: tuple[int, ...]
) -> None:
    (_, make), arguments = discrete(shape), gaussian(shape)
    pairs = [
        (make(DiscreteHMM, initial_step=0), make(dist.DiscreteHMM), (), "probs"),
        (GaussianHMM(*arguments, initial_step=0), dist.GaussianHMM(*arguments), (2,), "mean"),
    ]
    for ours, theirs, event, moment in pairs:
        assert (ours.batch_shape, ours.event_shape) == (theirs.batch_shape, theirs.event_shape)
        for steps in (1, 2, 7):
            x = torch.randn(*sample, *shape[3], steps, *event)
            torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
            torch.testing.assert_close(getattr(ours.filter(x), moment), getattr(theirs.filter(x), moment))
        larger = (6, *ours.batch_shape)
        x = torch.randn(*larger, 4, *event)
        torch.testing.assert_close(ours.expand(larger).log_prob(x), theirs.expand(larger).log_prob(x))


@every_homogeneous_shape
def test_laws_of_any_duration_are_those_of_each_duration_in_our_convention(shape: Any) -> None:
    (_, make), arguments = discrete(shape), gaussian(shape)
    for steps in (1, 2, 7):
        x = torch.randn(3, *shape[3], steps)
        first, moves, seen = make(lambda *given, duration: given)
        long = DiscreteHMM(first, moves, seen, duration=steps)
        torch.testing.assert_close(make(DiscreteHMM).log_prob(x), long.log_prob(x))
        x = torch.randn(3, *shape[3], steps, 2)
        torch.testing.assert_close(
            GaussianHMM(*arguments).log_prob(x), GaussianHMM(*arguments, duration=steps).log_prob(x)
        )


def test_a_law_without_a_duration_is_observed_in_a_program_and_cannot_be_drawn_from() -> None:
    (_, make), arguments = discrete(HOMOGENEOUS["shared"]), gaussian(HOMOGENEOUS["shared"])
    for law, x in ((make(DiscreteHMM), torch.randn(4, 6)), (GaussianHMM(*arguments), torch.randn(4, 6, 2))):

        def program(law: Any = law, x: Tensor = x) -> None:
            with pyro.plate("sequences", 4):
                pyro.sample("x", law, obs=x)

        torch.testing.assert_close(pyro.poutine.trace(program).get_trace().log_prob_sum(), law.log_prob(x).sum())
        with pytest.raises(ValueError, match="expected a duration for draws from a law that is the same at all steps"):
            law.sample()
        with pytest.raises(ValueError, match=r"expected a value whose shape ends in \(T.*\), got \(\)"):
            law.log_prob(torch.tensor(0.0))
        with pytest.raises(ValueError, match="expected a value of at least one sequence and one step"):
            law.log_prob(x[:0])
        with pytest.raises(ValueError, match="expected a value of at least one sequence and one step"):
            law.log_prob(x[:, :0])


LAWS_OF_VECTORS: dict[str, Any] = {
    "full": lambda family, m, s: family.MultivariateNormal(m, s.square().diag_embed()),
    "by its factor": lambda family, m, s: family.MultivariateNormal(m, scale_tril=s.diag_embed()),
    "diagonal": lambda family, m, s: family.Independent(family.Normal(m, s), 1),
}


@pytest.mark.parametrize("name", LAWS_OF_VECTORS)
def test_torchs_own_laws_are_taken_as_pyros(name: str) -> None:
    make, A = LAWS_OF_VECTORS[name], torch.randn(3, 3) / 2
    C, x = torch.randn(3, 3), torch.randn(2, 4, 3)
    moments = [(torch.randn(3), torch.rand(3) + 0.5) for _ in range(3)]
    theirs = [make(dist, *pair) for pair in moments]
    expected = dist.GaussianHMM(theirs[0], A, theirs[1], C, theirs[2], duration=4)
    for family in (torch.distributions, dist):
        start, move, noise = (make(family, *pair) for pair in moments)
        law = GaussianHMM(start, A, move, C, noise, duration=4, initial_step=0)
        torch.testing.assert_close(law.log_prob(x), expected.log_prob(x))
    ours = [OurNormal(*pair, event_dim=1) for pair in moments]
    law = GaussianHMM(ours[0], A, ours[1], C, ours[2], duration=4, initial_step=0)
    torch.testing.assert_close(law.log_prob(x), expected.log_prob(x))


def test_torchs_own_observations_are_taken_as_pyros() -> None:
    first, moves, locs, x = torch.randn(3), torch.randn(3, 3), torch.randn(3, 2), torch.randn(2, 4, 2)
    laws = [
        DiscreteHMM(first, moves, family.Independent(family.Normal(locs, 1.0), 1), duration=4)
        for family in (torch.distributions, dist)
    ]
    torch.testing.assert_close(laws[0].log_prob(x), laws[1].log_prob(x))
    assert laws[0].sample((3,)).shape == (3, 4, 2)
    assert laws[0].support.event_dim == 2


def test_parameters_and_values_of_two_precisions_meet_in_the_larger() -> None:
    start, A, move, C, noise = gaussian(SHAPES["shared"])
    mixed = GaussianHMM(start, A.float(), move, C, noise, duration=5)
    x, law = torch.randn(2, 5, 2), GaussianHMM(start, A.float().double(), move, C, noise, duration=5)
    torch.testing.assert_close(mixed.log_prob(x), law.log_prob(x))
    torch.testing.assert_close(law.log_prob(x.float()), law.log_prob(x.float().double()))
    first, moves, seen = torch.randn(3), torch.randn(3, 3), dist.Normal(torch.randn(3), 1.0)
    y = torch.randn(2, 5)
    halves = DiscreteHMM(first.float(), moves.float(), seen, duration=5)
    whole = DiscreteHMM(first.float().double(), moves.float().double(), seen, duration=5)
    torch.testing.assert_close(halves.log_prob(y), whole.log_prob(y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("duration", [5, None])
@pytest.mark.parametrize("name", ["DiscreteHMM", "GaussianHMM"])
@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([0, 5], ValueError, "expected lengths .*, got 0"),
        ([5, -3], ValueError, "expected lengths .*, got -3"),
        ([-(10**6), 5], ValueError, "expected lengths .*, got -1000000"),
        ([6, 5], ValueError, r"expected lengths in 1\.\..* = 1\.\.5, got 6"),
        ([10**6, 5], ValueError, r"expected lengths in 1\.\..* = 1\.\.5, got 1000000"),
        ([3.5, 1.0], TypeError, "expected lengths as a tensor of integers, got torch.float64"),
        ([True, True], TypeError, "expected lengths as a tensor of integers, got torch.bool"),
    ],
)
def test_lengths_that_do_not_fit_are_errors(
    lengths: Any, error: type[Exception], message: str, name: str, duration: int | None
) -> None:
    shape = ((2,), (2, 1), (2, 1), (2,), duration)
    (_, make), arguments, given = discrete(shape), gaussian(shape), torch.tensor(lengths)

    def value() -> Tensor:
        if name == "DiscreteHMM":
            return make(DiscreteHMM, lengths=given).log_prob(torch.zeros(2, 5))
        return GaussianHMM(*arguments, duration=duration, lengths=given).log_prob(torch.zeros(2, 5, 2))

    with pytest.raises(error, match=message):  # where the law is made, or where its values are
        value()
    if error is ValueError:
        ragged = make(DiscreteHMM)
        ragged.lengths = given  # no check at all until a value comes
        with pytest.raises(ValueError, match=message):
            ragged.filter(torch.zeros(2, 5))


def test_lengths_of_any_integer_dtype_count() -> None:
    (_, make), x = discrete(((2,), (2, 1), (2, 1), (2,), None)), torch.randn(2, 5)
    expected = make(DiscreteHMM, lengths=torch.tensor([3, 5])).log_prob(x)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        assert torch.equal(make(DiscreteHMM, lengths=torch.tensor([3, 5], dtype=dtype)).log_prob(x), expected)


def test_padding_does_not_count() -> None:
    lengths, emission = torch.tensor([4, 1, 3]), torch.randn(3)
    ragged = DiscreteHMM(torch.randn(3, 3), torch.randn(3, 3), dist.Normal(emission, 1.0), duration=4, lengths=lengths)
    x = torch.randn(3, 4)
    spoiled = x.where(torch.arange(4) < lengths[:, None], 100.0)
    assert torch.equal(ragged.log_prob(x), ragged.log_prob(spoiled))
    torch.testing.assert_close(ragged.filter(x).probs, ragged.filter(spoiled).probs)


def test_discrete_draws_follow_the_law_and_not_that_of_the_other_convention() -> None:
    limit, num = 5.0, 20_000  # standard errors, draws
    arguments = (torch.randn(2), 2 * torch.randn(2, 2), dist.Categorical(logits=2 * torch.randn(2, 3)))
    law, other = DiscreteHMM(*arguments, duration=3), DiscreteHMM(*arguments, duration=3, initial_step=0)
    words = all_words(3, 3)
    drawn = word_index(law.sample((num,)), 3)
    assert largest_z_score(drawn, law.log_prob(words).exp()) < limit
    assert largest_z_score(drawn, other.log_prob(words).exp()) > limit


def test_gaussian_draws_have_the_moments_of_the_model_and_their_parameters_gradients() -> None:
    limit, num = 5.0, 20_000  # standard errors, draws
    model = LinearGaussianSSM.random(2, 1, seed=0).double()
    model.set_moments({"initial_mean": torch.tensor([1.0, -1.0])})
    draws = same_law(model, duration=3).rsample((num,))
    assert draws.requires_grad
    z: Tensor = model.initial_mean
    error = draws.std(0).squeeze(-1) / num**0.5
    for t in range(3):
        expected = float((model.emission_matrix @ z).detach())
        assert abs(float(draws[:, t].mean().detach()) - expected) < limit * float(error[t].detach())
        z = model.transition_matrix @ z


def test_a_program_that_observes_the_law_trains() -> None:
    true = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    x = true.sample(40, 20, seed=0).x

    def program(x: Tensor) -> None:
        rows = pyro.sample("rows", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
        emission = dist.Categorical(torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
        with pyro.plate("sequences", len(x)):
            pyro.sample("x", DiscreteHMM(torch.zeros(2), rows.log(), emission, duration=20), obs=x)

    guide = AutoDelta(program)
    svi = SVI(program, guide, Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(200):
        svi.step(x)
    found = guide.median()["rows"]
    assert float((found - true.transition_probs).abs().max().detach()) < 0.1
    drawn = Predictive(program, num_samples=2)(x)
    assert drawn["x"].shape == (2, 40, 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transition_logits": torch.zeros(2, 3)}, r"expected transition_logits of shape \(\*batch, T, 2, 2\), got"),
        (
            {"observation_dist": dist.Normal(torch.zeros(3), 1.0)},
            r"expected observation_dist with batch shape \(\*batch",
        ),
        ({"initial_step": 2}, "expected initial_step=1 .*, got 2"),
        ({"duration": 0}, "expected duration to be an integer of at least 1, got 0"),
        ({"transition_logits": torch.zeros(4, 2, 2)}, "expected parameters for 1 or duration = 3 steps, got 5"),
        ({"lengths": torch.tensor([3])}, r"expected lengths of the batch's shape \(\), got \(1,\)"),
    ],
)
def test_discrete_arguments_that_do_not_fit_are_errors(change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {
        "initial_logits": torch.zeros(2),
        "transition_logits": torch.zeros(2, 2),
        "observation_dist": dist.Normal(torch.zeros(2), 1.0),
        "duration": 3,
    }
    with pytest.raises(ValueError, match=message):
        DiscreteHMM(**options | change)


NO_PROBS = {
    "NaN": ([0.0, torch.nan], "got NaN"),
    "infinity": ([torch.inf, 0.0], "got plus infinity"),
    "nothing": ([-torch.inf, -torch.inf], "got minus infinity for every state"),
}
every_no_probs = pytest.mark.parametrize(("row", "message"), NO_PROBS.values(), ids=NO_PROBS)


@every_no_probs
@pytest.mark.parametrize("initial_step", [0, 1])
def test_logits_that_make_no_probabilities_are_an_error_that_names_the_row(
    row: list[float], message: str, initial_step: int
) -> None:
    seen, fine = dist.Normal(torch.zeros(2), 1.0), torch.zeros(2, 2)
    table = torch.stack([torch.zeros(2), torch.tensor(row)])
    many = torch.stack([fine, fine, table])[:, None]  # of three chains
    for logits, place in ((table, "in row 1"), (many, r"in row \(2, 0, 1\)")):
        with pytest.raises(ValueError, match=f"^expected transition_logits as .*, {message} {place}$"):
            DiscreteHMM(torch.zeros(2), logits, seen, duration=3, initial_step=initial_step)
    with pytest.raises(ValueError, match=f"^expected initial_logits as .*, {message}$"):
        DiscreteHMM(torch.tensor(row), fine, seen, duration=3, initial_step=initial_step)
    # zeros of a chain are no error
    assert DiscreteHMM(table[0], torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]), seen, duration=3)


@every_no_probs
def test_logits_are_not_checked_where_validation_is_off_as_in_nuts(row: list[float], message: str) -> None:
    seen, logits = dist.Normal(torch.zeros(2), 1.0), torch.tensor(row)
    with pyro.validation_enabled(False):
        law = DiscreteHMM(logits, torch.zeros(2, 2), seen, duration=3)
    assert bool(law.log_prob(torch.zeros(3)).isnan())
    law = DiscreteHMM(logits, torch.zeros(2, 2), seen, False, 3)
    assert bool(law.expand([2]).log_prob(torch.zeros(3)).isnan().all())


@pytest.mark.parametrize("batched", [False, True])
def test_the_last_state_of_an_impossible_value_is_an_error_that_names_it(
    batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "prefers_batched", lambda emission: batched)
    stay = torch.eye(2).log()
    law = DiscreteHMM(torch.zeros(2), stay, dist.Categorical(logits=stay), duration=3)
    x = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 1, 1]])
    with pytest.raises(ValueError, match="got one of probability zero for sequence 1, whose last"):
        law.filter(x)
    with pytest.raises(ValueError, match=r"got one of probability zero for sequence \(0, 1\), whose last"):
        law.filter(x[None])
    with pytest.raises(ValueError, match="got one of probability zero, whose last state has no law"):
        law.filter(x[1])
    torch.testing.assert_close(law.filter(x[[0, 2]]).probs, torch.eye(2))
    assert law.log_prob(x).tolist() == pytest.approx([math.log(0.5), -math.inf, math.log(0.5)])
    for loc, scale in ((torch.nan, 1.0), (0.0, 0.0)):
        seen = dist.Normal(torch.tensor([loc, 0.0]), torch.tensor([scale, 1.0]), validate_args=False)
        law = DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), seen, duration=3)
        with pytest.raises(
            ValueError, match="expected finite densities of observation_dist, got NaN or infinity for s"
        ):
            law.filter(torch.zeros(2, 3))


def test_gaussian_arguments_that_do_not_fit_are_errors() -> None:
    noise, other = random_normal(size=2), random_normal(size=3)
    with pytest.raises(ValueError, match=r"expected transition_matrix whose shape ends in \(2, 2\), got \(3, 3\)"):
        GaussianHMM(noise, torch.eye(3), noise, torch.eye(2), noise, duration=3)
    with pytest.raises(ValueError, match=r"expected observation_matrix whose shape ends in \(2, 3\), got \(2, 2\)"):
        GaussianHMM(noise, torch.eye(2), noise, torch.eye(2), other, duration=3)
    with pytest.raises(ValueError, match="expected transition_dist over 2 entries"):
        GaussianHMM(noise, torch.eye(2), other, torch.eye(2), noise, duration=3)
    with pytest.raises(
        TypeError, match=r"expected MultivariateNormal or .* of torch or Pyro, got Independent of Laplace"
    ):
        GaussianHMM(dist.Laplace(torch.zeros(2), 1.0).to_event(1), torch.eye(2), noise, torch.eye(2), noise, duration=3)
    with pytest.raises(
        ValueError, match=r"expected initial_dist over vectors, of event shape \(n,\), got event shape \(\)"
    ):
        GaussianHMM(dist.Normal(0.0, 1.0), torch.eye(2), noise, torch.eye(2), noise, duration=3)
    with pytest.raises(ValueError, match=r"expected a value whose shape ends in \(3, 2\), got \(4, 2\)"):
        GaussianHMM(noise, torch.eye(2), noise, torch.eye(2), noise, duration=3).log_prob(torch.zeros(4, 2))
