"""Parameters by group that are not centred: the same joint density by a change of variables, draws and guides."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.inspect import get_dependencies, get_model_relations
from torch import Tensor

from pgm_rnn import simulate
from pgm_rnn.emissions import Gaussian
from pgm_rnn.models.hmm import HMM
from pgm_rnn.report.parameter_axes import axes_of
from pgm_rnn.sequence_model.by_group import ByGroup, moved
from pgm_rnn.sequence_model.priors import WithPriors

LABELS = ["b", "a", "b"]


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def model_of(num_states: int) -> HMM:
    table = Gaussian().table(loc=torch.linspace(-1, 1, num_states), scale=torch.ones(num_states))
    even = torch.full((num_states,), 1 / num_states)
    return HMM(even, even.expand(num_states, -1), table).double()


def program_of(kind: str, *, centered: bool) -> WithPriors:
    """Two states whose means or deviations differ by group."""
    ones = double(1, 1)
    if kind == "loc":
        law = ByGroup(dist.Normal, loc=dist.Normal(0 * ones, 2.0), scale=dist.HalfNormal(ones), centered=centered)
    else:
        law = ByGroup(dist.LogNormal, loc=dist.Normal(0 * ones, 0.5), scale=dist.HalfNormal(ones), centered=centered)
    return WithPriors(model_of(2), {kind: law}, groups=LABELS)


def density(program: WithPriors, values: dict[str, Tensor], x: Tensor) -> Tensor:
    found: Any = poutine.trace(poutine.condition(program, values)).get_trace(x).log_prob_sum()
    return torch.as_tensor(found).detach()


@pytest.mark.parametrize("kind", ["loc", "scale"])
def test_the_joint_density_is_the_centred_one_after_a_change_of_variables(kind: str) -> None:
    """p(offset, phi, x) = p(theta, phi, x) |d theta / d offset|, theta = f(loc + scale offset)."""
    x, free = torch.randn(3, 5).double(), program_of(kind, centered=False)
    values = free.draw()
    assert set(values) == {f"{kind}_loc", f"{kind}_scale", f"{kind}_offset", kind}
    mean, spread, offset = values[f"{kind}_loc"], values[f"{kind}_scale"], values[f"{kind}_offset"]
    theta = mean + spread * offset if kind == "loc" else (mean + spread * offset).exp()
    torch.testing.assert_close(values[kind], theta)
    jacobian = spread.log().expand(2, 2) if kind == "loc" else spread.log() + theta.log()
    given = {name: values[name] for name in (f"{kind}_loc", f"{kind}_scale", f"{kind}_offset")}
    found = density(free, given, x)
    centred = density(program_of(kind, centered=True), {**given, kind: theta}, x)
    torch.testing.assert_close(found, centred + jacobian.sum())
    assert abs(float(found - centred)) > 1e-3  # a control: the Jacobian is needed
    torch.testing.assert_close(density(free, values, x), found)  # a draw holds both, the offsets count


def test_draws_are_of_the_same_law() -> None:
    free, centred = program_of("loc", centered=False), program_of("loc", centered=True)
    hyper = {"loc_loc": double(1, -2), "loc_scale": double(0.5, 2)}
    pyro.set_rng_seed(0)
    drawn = torch.stack([free.draw_groups(hyper)["loc"] for _ in range(2000)]).flatten(0, 1)  # (4000, 2)
    for values in (drawn, torch.stack([centred.draw_groups(hyper)["loc"] for _ in range(2000)]).flatten(0, 1)):
        assert bool(((values.mean(0) - hyper["loc_loc"]).abs() < 5 * hyper["loc_scale"] / 4000**0.5).all())
        assert bool(((values.std(0) / hyper["loc_scale"] - 1).abs() < 5 / 8000**0.5).all())
    twin = free.new_group(free.draw(), seed=0)
    assert isinstance(twin, HMM)
    assert free.hyper_sites("loc") == centred.hyper_sites("loc")


def test_values_follow_from_offsets_of_many_draws() -> None:
    free = program_of("loc", centered=False)
    each = [free.draw() for _ in range(6)]
    draws = {name: torch.stack([draw[name] for draw in each]).unflatten(0, (2, 3)) for name in free.names}
    without = {name: value for name, value in draws.items() if name != "loc"}
    torch.testing.assert_close(free.completed(without), draws)
    assert program_of("loc", centered=True).completed(without) == without
    x = torch.randn(3, 4).double()
    found = Predictive(free, num_samples=7, parallel=True)(x)
    torch.testing.assert_close(found["loc"], found["loc_loc"] + found["loc_scale"] * found["loc_offset"])
    assert simulate(free, like=x, num_draws=3, seed=0) is not None
    assert axes_of("loc_offset", (2, 2), free) == axes_of("loc", (2, 2), free) == ("group", "state")


@pytest.mark.parametrize("vectorize", [False, True])
def test_automatic_guides_take_offsets(vectorize: bool) -> None:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    free, x = program_of("loc", centered=False), torch.randn(3, 6).double() + 2
    guide = AutoNormal(free)
    elbo = Trace_ELBO(num_particles=1 + 3 * vectorize, vectorize_particles=vectorize, max_plate_nesting=1)
    steps = SVI(free, guide, pyro.optim.Adam({"lr": 0.05}), elbo)  # type: ignore[attr-defined]
    losses = [steps.step(x) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert set(guide.median(x)) == {"loc_loc", "loc_scale", "loc_offset"}
    assert Predictive(free, guide=guide, num_samples=5)(x)["loc"].shape == (5, 2, 2)


def test_graphs_show_the_offsets() -> None:
    free, x = program_of("loc", centered=False), torch.randn(3, 4).double()
    graph: Any = get_dependencies(free, (x,))
    parents = graph["prior_dependencies"]["x"]
    assert {"loc_offset", "loc_loc", "loc_scale"} <= set(parents)
    relations = get_model_relations(free, (x,))
    assert "loc_offset" in relations["plate_sample"]["groups"]
    assert "loc_offset" in relations["sample_sample"]["x"]


def test_what_is_no_function_of_a_normal_variable_is_an_error() -> None:
    ones = double(1, 1)
    law = ByGroup(dist.Gamma, concentration=dist.Gamma(ones, 1.0), rate=dist.Gamma(ones, 1.0), centered=False)
    with pytest.raises(ValueError, match=r"expected a normal law, or a function of .*, got Gamma; leave"):
        WithPriors(model_of(2), {"scale": law}, groups=LABELS)
    with pytest.raises(ValueError, match="expected hyperpriors with centered=False, got the law Normal"):
        ByGroup(dist.Normal(ones, 1.0), centered=False)
    taken: dict[str, Any] = {
        "loc": ByGroup(dist.Normal, loc=dist.Normal(ones, 1.0), scale=dist.HalfNormal(ones), centered=False),
        "loc_offset": dist.Normal(ones, 1.0),
    }
    with pytest.raises(ValueError, match="loc_offset"):
        WithPriors(model_of(2), taken, groups=LABELS)
    assert repr(taken["loc"]) == "ByGroup(Normal, loc=Normal, scale=HalfNormal, centered=False)"
    torch.testing.assert_close(moved(dist.LogNormal(ones, 2 * ones), ones), (3 * ones).exp())
