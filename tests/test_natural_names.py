"""Natural names of parameters: what they read and write, which names there are, and priors on a part of a tensor."""

import inspect
from dataclasses import replace
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.distributions import InverseWishart, Ordered, StickyDirichlet
from pgm_rnn.emissions import Categorical, FullGaussian, Gaussian, Joint, Mixture, Poisson, Tied, ZeroInflated
from pgm_rnn.inference import mcmc
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.sequence_model.naturals import listed, natural_parameters
from pgm_rnn.sequence_model.parameters import call_with, current_parameters
from pgm_rnn.sequence_model.priors import WithPriors
from tests.cases import every
from tests.instances import FAMILIES, draw, every_family, make_model, randomised
from tests.test_priors import joint_log_prob


def some_model(name: str) -> Any:
    """The model on the first family that it takes."""
    for family in FAMILIES.values():
        try:
            return make_model(name, family)
        except (TypeError, ValueError):
            continue
    raise AssertionError(name)


@every_family
def test_the_natural_parameters_of_a_family_are_the_arguments_of_its_table(family: Any) -> None:
    table = randomised(family.random_table(3))
    again, x = made_again(family, family.natural_parameters, table.params.detach()), draw(family, 4)
    torch.testing.assert_close(again.log_probs(x), table.log_probs(x))


def made_again(family: Any, naturals: Any, params: Tensor, prefix: str = "") -> Any:
    """The table of a family from its natural parameters; a `Joint` takes the tables of its columns."""
    if isinstance(family, Joint):
        parts = [(part.family, f"column_{part.columns.start}_") for part in family.parts]
        return family.table(*(made_again(each, naturals, params, prefix) for each, prefix in parts))
    if isinstance(family, ZeroInflated):
        return family.table(naturals[f"{prefix}gate"].read(params), made_again(family.family, naturals, params, prefix))
    if isinstance(family, Mixture):
        inner = [f"{prefix}{name}" for name in family.family.natural_parameters]
        each = [{name: _of_component(naturals[name], m) for name in inner} for m in range(family.num_components)]
        tables = [made_again(family.family, component, params, prefix) for component in each]
        return family.table(naturals[f"{prefix}weights"].read(params), *tables)
    if isinstance(family, Tied):
        name = "cov" if isinstance(family.family, FullGaussian) else "scale"
        return family.table(naturals["loc"].read(params), **{name: naturals[name].read(params)})
    names = inspect.signature(family.table).parameters
    return family.table(**{key: naturals[f"{prefix}{key}"].read(params) for key in names})


def _of_component(natural: Any, m: int) -> Any:
    return replace(natural, read=lambda rows: natural.read(rows)[:, m])


@every("model")
def test_each_natural_parameter_writes_what_it_reads_and_leaves_the_others(name: str) -> None:
    model, twin = some_model(name), randomised(some_model(name), seed=5)
    raw, other = ({key: value.detach() for key, value in current_parameters(each).items()} for each in (model, twin))
    for key, natural in natural_parameters(model).items():
        wanted = natural.read(other[natural.raw])
        assert bool(natural.support.check(wanted).all()), key
        written = natural.write(raw[natural.raw], wanted)
        torch.testing.assert_close(natural.read(written), wanted)
        rest = natural.write(raw[natural.raw], natural.read(raw[natural.raw]))
        for each in natural_parameters(model).values():
            if each.raw == natural.raw:
                torch.testing.assert_close(each.read(rest), each.read(raw[natural.raw]))
        assert model.unconstrained(key, wanted)[0] == natural.raw


@every("model")
def test_every_listed_name_takes_a_prior(name: str) -> None:
    model = some_model(name)
    naturals, raw = natural_parameters(model), dict(model.named_parameters())
    names = listed(model)
    assert set(raw) <= set(names)
    assert len(names) == len(set(names))
    for key in names:
        value = naturals[key].read(raw[naturals[key].raw]) if key in naturals else raw[key]
        assert WithPriors(model, {key: dist.Delta(value.detach(), event_dim=value.dim())}).priors.keys() == {key}


def test_the_mean_may_have_a_prior_while_the_scale_is_fixed() -> None:
    model = HMM.random(2, emission=Gaussian(3), seed=0).double()
    loc = torch.randn(2, 3)
    program = WithPriors(model, {"loc": dist.Normal(torch.zeros(2, 3), 2.0)})
    x = model.sample(3, 5, seed=1).x
    naturals = natural_parameters(model)
    scale = naturals["scale"].read(model.emission_table.params)
    other = HMM(model.initial_probs, model.transition_probs, Gaussian(3).table(loc=loc, scale=scale.detach()))
    expected = dist.Normal(torch.zeros(2, 3), 2.0).log_prob(loc).sum() + other.log_prob(x).sum()
    torch.testing.assert_close(joint_log_prob(program, x, loc=loc), expected)
    torch.testing.assert_close(program.model_at({"loc": loc}).log_prob(x), other.log_prob(x))


def test_two_parts_of_one_tensor_may_each_have_a_prior() -> None:
    model = HMM.random(2, emission=Gaussian(), seed=0).double()
    priors = {"loc": Ordered(dist.Normal(0.0, 5.0), 2), "scale": dist.Gamma(torch.ones(2), 1.0)}
    values = {"scale": torch.tensor([0.5, 2.0]), "loc": torch.tensor([-1.0, 3.0])}
    twin: Any = WithPriors(model, priors).model_at(values)
    expected = Gaussian().table(loc=values["loc"], scale=values["scale"]).params
    torch.testing.assert_close(twin.emission_table.params, expected)


def test_a_covariance_may_be_drawn_by_its_scales_and_correlations() -> None:
    model = LinearGaussianSSM.random(3, 2, seed=0).double()
    scales, root = torch.tensor([0.5, 1.0, 2.0]), dist.LKJCholesky(3, torch.tensor(2.0)).sample()
    cov = scales.diag() @ root @ root.mT @ scales.diag()
    laws = {"transition_scale": dist.HalfNormal(torch.ones(3)), "transition_correlation_cholesky": dist.LKJCholesky(3)}
    for names in (list(laws), list(laws)[::-1]):
        values = {"transition_scale": scales, "transition_correlation_cholesky": root}
        twin: Any = WithPriors(model, {name: laws[name] for name in names}).model_at(
            {name: values[name] for name in names}
        )
        torch.testing.assert_close(twin.transition_cov, cov)
        torch.testing.assert_close(twin.initial_cov, model.initial_cov)
    alone: Any = WithPriors(model, {"transition_correlation": dist.LKJ(3, torch.tensor(2.0))}).model_at(
        {"transition_correlation": root @ root.mT}
    )
    kept = model.transition_cov.diagonal().sqrt()
    torch.testing.assert_close(alone.transition_cov, kept.diag() @ root @ root.mT @ kept.diag())


@pytest.mark.parametrize(
    "priors",
    [
        {"transition_cov": InverseWishart(6.0, 3 * torch.eye(2))},
        {
            "transition_scale": dist.LogNormal(torch.zeros(2), 0.3),
            "transition_correlation_cholesky": dist.LKJCholesky(2),
        },
    ],
    ids=["inverse-wishart", "lkj"],
)
def test_nuts_takes_priors_of_covariances(priors: dict[str, Any]) -> None:
    model = LinearGaussianSSM.random(2, 2, seed=0).double()
    program, x = WithPriors(model, priors), model.sample(3, 6, seed=1).x
    result = mcmc.run(program, x, num_samples=5, num_warmup=5, progress=False)
    assert result.samples.keys() == priors.keys()
    assert bool(torch.isfinite(program.model_at(result.draw(4)).log_prob(x)).all())


def test_nuts_takes_ordered_means_and_sticky_rows() -> None:
    model = HMM.random(2, emission=Poisson(), seed=0).double()
    priors = {"rate": Ordered(dist.Gamma(2.0, 1.0), 2), "transition_probs": StickyDirichlet(2)}
    result = mcmc.run(
        WithPriors(model, priors), model.sample(4, 8, seed=1).x, num_samples=5, num_warmup=5, progress=False
    )
    assert bool((result.samples["rate"].diff() > 0).all())


def test_a_path_tells_two_parts_with_the_same_name_apart() -> None:
    model: Any = HMM.random(2, emission=Gaussian(), seed=0)
    model.other = Gaussian().random_table(2)
    assert {"emission_table.loc", "other.loc"} <= set(listed(model))
    assert "loc" not in natural_parameters(model)
    assert model.unconstrained("other.scale", torch.ones(2))[0] == "other.params"


def test_gradients_reach_a_part_of_a_tensor_and_no_other() -> None:
    model = HMM.random(2, emission=FullGaussian(2), seed=0).double()
    x = model.sample(3, 5, seed=1).x
    cov = natural_parameters(model)["cov"].read(model.emission_table.params).detach().requires_grad_()
    name, raw = model.unconstrained("cov", cov)
    value = call_with(model, {name: raw}, model.log_prob, x).sum()
    torch.testing.assert_close(value, model.log_prob(x).sum())
    (gradient,) = torch.autograd.grad(value, cov)
    assert bool((gradient.abs().amax((1, 2)) > 0).all())


def reals() -> HMM:
    return HMM.random(2, emission=Gaussian(2), seed=0)


NORMAL: Any = dist.Normal(torch.zeros(2, 2), 1.0)


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        (
            {"mean": NORMAL},
            "expected the parameter to be one of initial_probs, transition_probs, loc, scale, initial_logits, "
            "transition_logits, emission_table.params, got 'mean'",
        ),
        (
            {"scale": NORMAL},
            "expected a prior over positive numbers for scale, got a draw of Normal outside these values; use",
        ),
        (
            {"transition_probs": NORMAL},
            "over rows of probabilities that sum to one for transition_probs, got a draw of",
        ),
        ({"loc": dist.Normal(torch.zeros(2), 1.0)}, r"expected a prior for loc that gives \(2, 2\), got \(2,\)"),
        (
            {"loc": NORMAL, "emission_table.loc": NORMAL},
            "expected one prior for each parameter, got loc and emission_tab",
        ),
        (
            {"transition_logits": NORMAL, "transition_probs": dist.Dirichlet(torch.ones(2, 2))},
            "got transition_logits and transition_probs, which set the same one; leave one out",
        ),
    ],
)
def test_priors_that_do_not_fit_a_natural_parameter_are_errors(priors: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WithPriors(reals(), priors)


def test_names_of_symbols_are_those_of_the_constructor_and_of_the_family() -> None:
    model, rows = HMM.random(2, 3, seed=0), torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    assert isinstance(model.family, Categorical)
    found: list[tuple[str, Tensor]] = [model.unconstrained(name, rows) for name in ("emission_probs", "probs")]
    assert all(name == "emission_table.params" and torch.equal(raw, rows.log()) for name, raw in found)
