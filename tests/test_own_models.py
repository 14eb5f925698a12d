"""Models that nobody registered run under every engine that fits, with the values of a loop over paths or of a grid."""

import itertools
import math
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from pgm_rnn import load_model, save_model, to_arviz
from pgm_rnn.graph import read_graph
from pgm_rnn.inference import em, forward_backward, smc, svi
from pgm_rnn.registries import OWN
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from tests.instances import LENGTHS, assert_same, of_sequences, randomised
from tests.own_models import Drift, Fixed, Regression, StochasticVolatility, SwitchingAR

ERRORS = 4.5  # standard errors


def log_joint(model: SequenceModel, x: Tensor, path: Tensor, u: Tensor | None = None) -> Tensor:
    """log p(x, z) of one sequence, one step after the other, for a memory that is the last observation."""
    total = torch.zeros(())
    for t, z in enumerate(path):
        h = u[t] if u is not None else model.initial_memory if t == 0 else x[t - 1]
        law: Any = model.initial(h) if t == 0 else model.transition(path[t - 1], h)
        total = total + law.log_prob(z) + model.emission(z, h).log_prob(x[t])
    return total


def over_paths(model: SequenceModel, x: Tensor, num_states: int, u: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """All paths (K^T, T), and log p(x, path) of each."""
    paths = torch.tensor(list(itertools.product(range(num_states), repeat=len(x))))
    return paths, torch.stack([log_joint(model, x, path, u) for path in paths])


def exact_models() -> list[Any]:
    """Models, numbers of states and inputs."""
    return [
        pytest.param(lambda: randomised(SwitchingAR(), 1), 3, None, id="SwitchingAR"),
        pytest.param(Fixed, 2, None, id="Fixed"),
        pytest.param(Regression, 2, 1, id="Regression"),
    ]


every_exact = pytest.mark.parametrize(("make", "num_states", "input_dim"), exact_models())


def batch(model: SequenceModel, input_dim: int | None, num_steps: int = 4) -> Sequences:
    u = None if input_dim is None else torch.randn(3, num_steps, input_dim)
    return Sequences(torch.randn(3, num_steps, *model.family.event_shape), LENGTHS, inputs=u)


@every_exact
def test_every_exact_answer_is_that_of_all_paths(make: Any, num_states: int, input_dim: int | None) -> None:
    model = make()
    data = batch(model, input_dim)
    likelihood = model.log_prob(data)
    smoothed, best = forward_backward.smooth(model, data), forward_backward.most_likely_states(model, data)
    drawn = forward_backward.sample_states(model, data, num_samples=2000, seed=0)
    for i, length in enumerate(LENGTHS.tolist()):
        u = None if data.inputs is None else data.inputs[i]
        paths, joint = over_paths(model, data.x[i, :length], num_states, u)
        torch.testing.assert_close(likelihood[i], joint.logsumexp(0))
        torch.testing.assert_close(smoothed.log_marginal_likelihood[i], joint.logsumexp(0).detach())
        weights = joint.softmax(0).detach()
        table = torch.stack([weights @ (paths == k).double() for k in range(num_states)], dim=-1)
        torch.testing.assert_close(smoothed.smoothed_probs[i, :length], table)
        torch.testing.assert_close(best.log_prob[i], joint.max().detach())
        assert best.states[i, :length].tolist() == paths[int(joint.argmax())].tolist()
        found = torch.stack([(drawn[:, i, :length] == k).double().mean(0) for k in range(num_states)], dim=-1)
        assert bool(((found - table).abs() <= ERRORS * (table * (1 - table) / 2000).sqrt() + 1e-9).all())
    score = svi.evaluate(model, data.x, data.lengths) if input_dim is None else None
    if score is not None:
        assert score.bound == "exact"
        assert score.nats_per_step == pytest.approx(-float(likelihood.detach().sum()) / data.num_steps, rel=1e-12)


def test_a_move_of_probability_zero_is_one_of_no_path() -> None:
    model, x = randomised(SwitchingAR(), 1), torch.randn(1, 4, 1)
    with torch.no_grad():
        model.moves[0, 1] = -torch.inf
    joint = over_paths(model, x[0], 3)[1]
    found = forward_backward.smooth(model, x)
    torch.testing.assert_close(found.log_marginal_likelihood[0], joint.logsumexp(0).detach())
    assert float(found.pairwise_probs[..., 0, 1].sum()) == 0


@every_exact
def test_another_parameter_gives_other_answers(make: Any, num_states: int, input_dim: int | None) -> None:
    model = make()
    data = batch(model, input_dim)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model.log_prob(data).detach()
    for name, value in before.items():
        if name != "initial_memory":
            model.load_state_dict(before | {name: value + torch.randn_like(value)})
            assert not torch.allclose(model.log_prob(data).detach()[0], expected[0]), name
    model.load_state_dict(before)
    assert torch.equal(model.log_prob(data).detach(), expected)


@every_exact
def test_particles_agree_with_the_exact_likelihood(make: Any, num_states: int, input_dim: int | None) -> None:
    model = make()
    data = batch(model, input_dim).select(slice(0, 1)).repeated(400)
    exact = float(model.log_prob(data).detach()[0])
    found = smc.filter(model, data, num_particles=50, seed=0).log_marginal_likelihood
    ratios = (found - exact).exp()
    assert abs(float(ratios.mean() - 1)) < ERRORS * float(ratios.std()) / 20
    other = (found - exact - 0.5).exp()
    assert abs(float(other.mean() - 1)) > ERRORS * float(other.std()) / 20


def test_pyros_enumeration_and_both_renderings_agree_with_the_exact_likelihood() -> None:
    model = randomised(SwitchingAR(), 1)
    data = batch(model, None)
    expected = -float(model.log_prob(data).detach().sum())
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    loss = elbo.loss(model.model, model.guide, data.x, data.lengths, rendering="unrolled")
    assert loss == pytest.approx(expected, rel=1e-10)
    with pyro.settings.context(module_local_params=True):
        fused: Any = poutine.trace(model.model).get_trace(data.x, data.lengths)
    assert -float(fused.log_prob_sum().detach()) == pytest.approx(expected, rel=1e-10)


def test_forecasts_follow_the_paths_law() -> None:
    """The law of x_{L+1} given x_{1:L} by a sum over paths, at its distribution function."""
    model, num = randomised(SwitchingAR(), 1), 4000
    x = torch.randn(1, 3, 1)
    ahead = model.forecast(x, 1, num_samples=num, seed=0).x.reshape(-1)
    paths, joint = over_paths(model, x[0], 3)
    weights = joint.softmax(0)
    last = torch.stack([weights[paths[:, -1] == k].sum() for k in range(3)])
    z = torch.arange(3)
    following = (last @ model.moves.softmax(-1)).detach()
    for point in (-1.0, 0.0, 1.0):
        law = model.emission(z, x[0, -1])
        expected = float(following @ law.base_dist.cdf(torch.tensor([point]))[:, 0].detach())
        found, error = float((ahead < point).double().mean()), math.sqrt(expected * (1 - expected) / num)
        assert abs(found - expected) < ERRORS * error
        wrong = float(last.detach() @ law.base_dist.cdf(torch.tensor([point]))[:, 0].detach())
        if abs(wrong - expected) > 2 * ERRORS * error:
            assert abs(found - wrong) > ERRORS * error


# Stochastic volatility, by sums over a grid.

GRID = torch.linspace(-14, 12, 1301, dtype=torch.float64)
WIDTH = float(GRID[1] - GRID[0])


def on_grid(model: StochasticVolatility, x: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x_{1:T}) of one sequence, and the filtered means of z_t, (T,), by sums over a fine grid."""
    a, m, s = float(model.a.detach().tanh()), float(model.m.detach()), float(model.s.detach().exp())
    prior = torch.distributions.Normal(m, s / math.sqrt(1 - a * a)).log_prob(GRID).exp() * WIDTH
    moves = torch.distributions.Normal(m + a * (GRID[:, None] - m), s).log_prob(GRID[None]).exp() * WIDTH
    total, means = 0.0, []
    for number in x.tolist():
        joint = prior * torch.exp(-(number**2) * torch.exp(-GRID) / 2 - GRID / 2) / math.sqrt(2 * math.pi)
        total += math.log(float(joint.sum()))
        filtered = joint / joint.sum()
        means.append(filtered @ GRID)
        prior = filtered @ moves
    return torch.tensor(total), torch.stack(means)


def test_the_joint_density_of_stochastic_volatility_is_that_of_a_loop() -> None:
    model, x, z = StochasticVolatility(), torch.randn(3, 4), torch.randn(3, 4)
    found = model.log_prob(x, z, LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(found[i], log_joint(model, x[i, :length], z[i, :length]))
    for rendering in ("fused", "unrolled"):
        latents = {"z": z} if rendering == "fused" else {f"z_{t + 1}": z[:, t] for t in range(4)}
        trace: Any = poutine.trace(poutine.condition(model.model, latents)).get_trace(x, LENGTHS, rendering=rendering)
        torch.testing.assert_close(trace.log_prob_sum(), found.sum())


def test_particles_and_bounds_agree_with_the_grid_and_not_with_that_of_another_parameter() -> None:
    model = StochasticVolatility()
    x = model.sample(1, 8, seed=0).x
    exact, means = on_grid(model, x[0])
    many = x.expand(400, 8)
    for other, right in ((model, True), (StochasticVolatility(a=0.5, m=1.0), False)):
        found = smc.filter(other, many, num_particles=100, seed=0, functions={"z": lambda z, h: z})
        ratios = (found.log_marginal_likelihood - exact).exp()
        assert (abs(float(ratios.mean() - 1)) < ERRORS * float(ratios.std()) / 20) == right
        # a ratio of averages is biased by 1 / N; it is far below the difference to another model's means
        assert bool(((found.means["z"].mean(0) - means).abs() < 0.05).all()) == right
    bounds = [svi.evaluate(model, many, bound=b, num_particles=64).log_likelihoods.mean() for b in ("elbo", "iwae")]
    assert bounds[0] < bounds[1] < exact + 0.01
    estimate = svi.evaluate(model, x, bound="importance", num_particles=20_000)
    assert abs(-estimate.nats_per_step * 8 - float(exact)) < ERRORS * estimate.monte_carlo_error * 8


def test_smoothed_paths_have_the_grids_means() -> None:
    model = StochasticVolatility()
    x = model.sample(1, 5, seed=1).x
    paths = smc.smooth(model, x, num_particles=2000, num_paths=2000, seed=0).paths[:, 0]  # (paths, T)
    last = on_grid(model, x[0])[1][-1]
    assert abs(float(paths[:, -1].mean() - last)) < ERRORS * float(paths[:, -1].std()) / math.sqrt(500)
    turned = x.flip(1)  # the chain is reversible: the first state given x is the last one given x backwards
    first = on_grid(model, turned[0])[1][-1]
    assert abs(float(paths[:, 0].mean() - first)) < ERRORS * float(paths[:, 0].std()) / math.sqrt(500)
    assert abs(float(last - first)) > 0.1


@pytest.mark.parametrize("objective", ["elbo", "iwae", "fivo"])
def test_a_fit_of_stochastic_volatility_raises_the_grids_likelihood(objective: str) -> None:
    truth = StochasticVolatility()
    data = truth.sample(100, 10, seed=0)
    model = StochasticVolatility(m=1.5)
    before = sum(float(on_grid(model, row)[0]) for row in data.x[:10])
    options: dict[str, Any] = {"num_epochs": 4, "learning_rate": 0.1, "batch_size": 25, "progress": False}
    svi.fit(model, data, objective=objective, num_particles=4, **options)
    assert sum(float(on_grid(model, row)[0]) for row in data.x[:10]) > before + 5


# Every engine, every kind.


@pytest.mark.parametrize("engine", list(OWN.engines))
@pytest.mark.parametrize("make", [SwitchingAR, StochasticVolatility])
def test_every_engine_runs_or_says_why_not(engine: str, make: Any) -> None:
    model = make()
    data, entry = model.sample(3, 4, seed=0)._replace(z=None), OWN.engines[engine]
    if not entry.takes(model) and engine != "mcmc":  # NUTS draws the states too where it cannot sum them out
        with pytest.raises((TypeError, ValueError), match=rf"expected .*{make.__name__}"):
            entry.example(model, data)
        return
    result: Any = entry.example(model, data)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    if engine in ("mcmc", "pmmh"):
        assert to_arviz(result) is not None


@pytest.mark.parametrize("make", [SwitchingAR, StochasticVolatility, Fixed, Drift, Regression])
def test_it_is_saved_and_comes_back(make: Any, tmp_path: Path) -> None:
    model = randomised(make())
    save_model(model, tmp_path / "model", {"seed": 0})
    loaded = of_sequences(load_model(tmp_path / "model"))
    assert type(loaded) is make
    assert_same(loaded.state_dict(), model.state_dict())
    u = None if model.input_dim is None else torch.randn(2, 3, model.input_dim)
    assert torch.equal(loaded.sample(2, 3, seed=0, inputs=u).x, model.sample(2, 3, seed=0, inputs=u).x)


def test_a_killed_fit_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(3)
    start = SwitchingAR(2)
    data = start.sample(20, 5, seed=0)
    options: dict[str, Any] = {"learning_rate": 0.05, "batch_size": 5, "progress": False, "seed": 1}

    def begun(K: int = 2) -> SwitchingAR:
        model = SwitchingAR(K)
        if K == 2:
            model.load_state_dict(start.state_dict())
        return model

    whole, halted, again = begun(), begun(), begun()
    svi.fit(whole, data, num_epochs=4, **options)
    stop = {"count": 0}
    emission = SwitchingAR.emission

    def interrupted(self: SwitchingAR, z: Tensor, h: Tensor) -> Any:
        stop["count"] += 1
        if stop["count"] > 9:
            raise KeyboardInterrupt
        return emission(self, z, h)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SwitchingAR, "emission", interrupted)
        found = svi.fit(halted, data, num_epochs=4, checkpoint=tmp_path / "c", checkpoint_seconds=0, **options)
    assert found.stopped_by == "interrupt"
    svi.fit(again, data, num_epochs=4, checkpoint=tmp_path / "c", resume=True, **options)
    assert_same(again.state_dict(), whole.state_dict())
    with pytest.raises(ValueError, match=r"expected a checkpoint of .*model"):
        svi.fit(begun(3), data, num_epochs=4, checkpoint=tmp_path / "c", resume=True, **options)


def test_its_graph_has_the_arrows_of_its_conditionals() -> None:
    graph = read_graph(SwitchingAR(), 3)
    assert set(graph.predecessors("x_2")) == {"h_2", "z_2"}
    assert set(graph.predecessors("h_2")) == {"x_1"}
    assert set(graph.predecessors("z_2")) == {"z_1"}
    assert set(read_graph(StochasticVolatility(), 3).predecessors("x_2")) == {"z_2"}


# A model without parameters.


@pytest.mark.parametrize("make", [Fixed, Drift])
def test_there_is_nothing_to_train_in_a_model_without_parameters(make: Any) -> None:
    model = make()
    data = model.sample(3, 4, seed=0)
    for fit in (svi.fit, em.fit):
        message = (
            rf"expected a model with parameters for .*\.fit, got {make.__name__}, in which there is nothing to train"
        )
        with pytest.raises(ValueError, match=message):
            fit(model, data, progress=False)
    frozen = StochasticVolatility().requires_grad_(False)
    with pytest.raises(ValueError, match=r"expected a model with parameters that require a gradient for svi\.fit, got"):
        svi.fit(frozen, data.x.reshape(3, 4), progress=False)


def test_a_model_without_a_tensor_has_every_bound_and_its_particles_are_right() -> None:
    """x is normal: its covariance is that of a random walk plus noise."""
    model, steps = Drift(), torch.arange(4.0)
    cov = torch.minimum(steps[:, None], steps) + 1 + torch.eye(4)
    x = torch.randn(1, 4)
    exact = torch.distributions.MultivariateNormal(0.2 * steps, cov).log_prob(x[0])
    found = smc.filter(model, x.expand(400, 4), num_particles=100, seed=0).log_marginal_likelihood
    ratios = (found - exact).exp()
    assert abs(float(ratios.mean() - 1)) < ERRORS * float(ratios.std()) / 20
    wrong = (found - torch.distributions.MultivariateNormal(-0.2 * steps, cov).log_prob(x[0])).exp()
    assert abs(float(wrong.mean() - 1)) > ERRORS * float(wrong.std()) / 20
    for bound in ("elbo", "iwae", "fivo", "importance"):
        assert math.isfinite(svi.evaluate(model, x, bound=bound, num_particles=10).nats_per_step)
    torch.testing.assert_close(model.log_prob(x, x), log_joint(model, x[0], x[0])[None])


def test_buffers_set_the_dtype_and_a_model_without_any_tensor_has_torchs_default() -> None:
    assert Fixed().float().sample(1, 2).x.dtype == torch.float32
    assert Drift().float().sample(1, 2).x.dtype == torch.float64
    torch.set_default_dtype(torch.float32)
    assert Drift().sample(1, 2).x.dtype == torch.float32
