"""The particle filter against the exact engines; the batch holds independent repetitions of one sequence."""

import inspect
import math
import re
from collections.abc import Callable
from typing import Any, Literal

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pgm_rnn.inference import forward_backward, kalman, smc
from pgm_rnn.inference.resampling import SCHEMES
from pgm_rnn.inference.smc import run as particle_run
from pgm_rnn.inference.smc.paths import backward_paths
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.particles import Proposal, resampling, steps
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import length_mask
from tests.latent_toy import LatentToy

LIMIT = 4.5  # standard errors
REPEATS, NUM_PARTICLES, NUM_STEPS = 4_000, 8, 5


def make(name: str) -> SequenceModel:
    if name == "hmm":
        return HMM.random(3, 4, seed=1).double()
    return LinearGaussianSSM.random(2, 2, seed=0).double()


def repeated(model: SequenceModel, repeats: int = REPEATS) -> Tensor:
    return model.sample(1, NUM_STEPS, seed=2).x.expand(repeats, *[-1] * (1 + len(model.family.event_shape)))


def score(values: Tensor, expected: float | Tensor) -> float:
    """|mean - expected| in standard errors, the largest of its entries."""
    errors = values.std(0) / len(values) ** 0.5
    return float(((values.mean(0) - expected).abs() / errors).max())


def ratio(model: SequenceModel, **options: Any) -> Tensor:
    """Estimates of p(x_{1:T}) over its exact value, (REPEATS,)."""
    x = repeated(model)
    estimate = smc.filter(model, x, num_particles=NUM_PARTICLES, seed=0, **options).log_marginal_likelihood
    return (estimate - model.log_marginal_likelihood(x[:1]).detach()).exp()


every_model = pytest.mark.parametrize("name", ["hmm", "lgssm"])


@pytest.mark.parametrize("ess_threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("resampling", [*SCHEMES, "soft"])
@every_model
def test_the_estimate_of_the_likelihood_is_unbiased(name: str, resampling: str, ess_threshold: float) -> None:
    values = ratio(make(name), resampling=resampling, ess_threshold=ess_threshold)
    assert score(values, 1.0) < LIMIT


def wide() -> Proposal:
    """A proposal that does not look at z."""
    return lambda z, h, features: dist.MultivariateNormal(torch.zeros(2), 4 * torch.eye(2))


def test_a_guided_filter_is_unbiased_and_one_with_a_broken_weight_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("lgssm")
    proposal = wide()
    assert score(ratio(model, proposal=proposal), 1.0) < LIMIT
    intact = steps._propose

    def broken(*arguments: Any) -> tuple[Tensor, None]:
        return intact(*arguments)[0], None  # as if the states were the model's own

    monkeypatch.setattr(steps, "_propose", broken)
    assert score(ratio(model, proposal=proposal), 1.0) > LIMIT


def test_an_auxiliary_filter_is_unbiased_and_its_first_stage_has_to_be_paid_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make("lgssm")
    assert isinstance(model, LinearGaussianSSM)

    def lookahead(z: Tensor, h: Tensor | None, x: Tensor) -> Tensor:
        return model.emission(model.transition_mean(z), None).log_prob(x).detach() / 2

    values = ratio(model, lookahead=lookahead, ess_threshold=1.0)
    assert score(values, 1.0) < LIMIT
    intact = resampling.resample

    def broken(*arguments: Any) -> tuple[smc.Particles, Tensor, Tensor | None]:
        drawn, chosen, ancestors = intact(*arguments)
        equal = torch.full_like(drawn.log_weights, -math.log(NUM_PARTICLES))
        return drawn._replace(log_weights=equal), chosen, ancestors

    monkeypatch.setattr(steps, "resample", broken)
    assert score(ratio(model, lookahead=lookahead, ess_threshold=1.0), 1.0) > LIMIT


def test_filtered_means_are_the_exact_ones_at_every_step() -> None:
    model, num_particles = make("lgssm"), 200
    x = repeated(model, 400)
    result = smc.filter(model, x, num_particles=num_particles, functions={"z": lambda z, h: z}, seed=0)
    exact = kalman.filter(model, x[:1])
    allowed = 2 / num_particles  # a ratio of estimates is biased by the order of 1 / N
    difference = (result.means["z"].mean(0) - exact.filtered_means[0]).abs()
    errors = result.means["z"].std(0) / 400**0.5
    assert bool((difference < LIMIT * errors + allowed).all())
    assert float((result.means["z"].mean(0) - exact.predicted_means[0]).abs().max()) > 0.1


def test_filtered_probabilities_are_the_exact_ones_at_every_step() -> None:
    model, num_particles = make("hmm"), 200
    x = repeated(model, 400)
    one_hot = {"k": lambda z, h: torch.nn.functional.one_hot(z, 3).double()}
    means = smc.filter(model, x, num_particles=num_particles, functions=one_hot, seed=0).means["k"]
    exact = forward_backward.filter(model, x[:1]).filtered_probs[0]
    errors = means.std(0) / 400**0.5
    assert bool(((means.mean(0) - exact).abs() < LIMIT * errors + 2 / num_particles).all())


def slope(sizes: list[int], values: list[float]) -> float:
    x, y = torch.tensor(sizes).double().log(), torch.tensor(values).double().log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / x.square().sum())


@pytest.mark.slow
@every_model
def test_errors_fall_with_the_root_of_the_number_of_particles(name: str) -> None:
    model, sizes, repeats = make(name), [64, 256, 1024], 1_000
    x = repeated(model, repeats)
    exact = float(model.log_marginal_likelihood(x[:1]).detach())
    variances, errors = [], []
    for n in sizes:
        values = smc.filter(model, x, num_particles=n, seed=0).log_marginal_likelihood
        variances.append(float(values.var()))
        errors.append(float((values - exact).square().mean().sqrt()))
    assert slope(sizes, variances) == pytest.approx(-1.0, abs=0.15)
    assert slope(sizes, errors) == pytest.approx(-0.5, abs=0.1)


def test_without_resampling_the_estimate_is_the_importance_weighted_bound() -> None:
    model, x = make("lgssm"), repeated(make("lgssm"), 3)
    result = smc.filter(model, x, num_particles=6, ess_threshold=0.0, keep="all", seed=0)
    assert result.history is not None
    z = result.history.z.permute(1, 2, 0, 3)  # (N, B, T, D)
    weights = torch.stack([model.emission(paths, None).log_prob(x).sum(-1) for paths in z])
    torch.testing.assert_close(result.log_marginal_likelihood, weights.logsumexp(0).detach() - math.log(6))
    assert not result.resampled.any()
    again = smc.log_marginal_likelihood(model, x, num_particles=6, resample="never", seed=0)
    torch.testing.assert_close(again.detach(), result.log_marginal_likelihood)


def test_what_a_run_returns_fits_together() -> None:
    model, lengths = make("lgssm"), torch.tensor([5, 1, 3])
    result = smc.filter(model, repeated(model, 3), lengths, num_particles=20, keep="all", seed=0)
    assert result.history is not None
    torch.testing.assert_close(result.log_normalizers.sum(-1), result.log_marginal_likelihood)
    torch.testing.assert_close(result.log_weights.logsumexp(0), result.log_marginal_likelihood)
    inside = length_mask(lengths, NUM_STEPS)
    assert not result.log_normalizers[~inside].any()
    assert not result.resampled[~inside].any()
    ess = (-(2 * result.history.log_weights).logsumexp(1)).exp()
    torch.testing.assert_close(result.ess, ess.T)
    assert torch.equal(result.particles[:, 1], result.history.z[0, :, 1])
    assert torch.equal(result.particles, result.history.z[-1])
    assert result.ancestors.shape == (5, 20, 3)
    with pytest.raises(ValueError, match="use keep='all'"):
        _ = smc.filter(model, repeated(model, 1), num_particles=2).ancestors


def test_padding_changes_nothing() -> None:
    model, lengths = make("lgssm"), torch.tensor([5, 1, 3])
    x = repeated(model, 3)
    spoiled = x.where(length_mask(lengths, NUM_STEPS)[..., None], torch.nan)
    one, other = (smc.filter(model, values, lengths, num_particles=20, seed=0) for values in (x, spoiled))
    assert torch.equal(one.log_marginal_likelihood, other.log_marginal_likelihood)
    assert torch.equal(one.particles, other.particles)


def test_one_observation_at_a_time_is_the_same_filter() -> None:
    model, x = make("lgssm"), repeated(make("lgssm"), 2)
    whole = smc.filter(model, x, num_particles=30, keep="all", seed=3)  # a filter that keeps nothing draws otherwise
    with seeded(3, stream=8), torch.no_grad():
        options = smc.Options(30)
        latest = smc.init(model, x[:, 0], options)
        total = latest.log_normalizer
        for t in range(1, NUM_STEPS):
            latest = smc.step(model, latest.particles, x[:, t], options)
            total = total + latest.log_normalizer
    # the same draws, and two orders of rounding: some ten operations of 1.1e-16 each in five steps
    same: dict[str, Any] = {"rtol": 1e-13, "atol": 1e-13}
    torch.testing.assert_close(total, whole.log_marginal_likelihood, **same)
    torch.testing.assert_close(latest.particles.z, whole.particles, **same)
    other = smc.filter(model, x, num_particles=30, keep="all", seed=4)
    assert not torch.allclose(latest.particles.z, other.particles)


def test_the_same_seed_gives_the_same_run() -> None:
    model, x = make("hmm"), repeated(make("hmm"), 2)
    first, again, other = (smc.filter(model, x, num_particles=50, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.log_normalizers, again.log_normalizers)
    assert not torch.equal(first.log_normalizers, other.log_normalizers)


def test_a_model_with_memory_has_its_likelihood_by_quadrature() -> None:
    toy, x = LatentToy(), torch.tensor([[0.4, -0.8]])
    grid = torch.linspace(-8, 8, 401)
    z = torch.cartesian_prod(grid, grid)
    density = toy.log_prob(x.expand(len(z), 2), z).exp().detach().reshape(401, 401)
    exact = torch.trapezoid(torch.trapezoid(density, grid), grid)
    estimate = smc.filter(toy, x.expand(REPEATS, 2), num_particles=NUM_PARTICLES, ess_threshold=1.0, seed=0)
    values = estimate.log_marginal_likelihood.exp() / exact
    assert score(values, 1.0) < LIMIT
    assert score(values, 1.05) > LIMIT


# Paths.


@pytest.mark.slow
@pytest.mark.parametrize("method", ["backward", "ancestors"])
def test_paths_have_the_smoothed_moments_and_not_the_filtered_ones(method: Any) -> None:
    model, repeats, lengths = make("lgssm"), 400, torch.tensor([NUM_STEPS, 3]).repeat(200)
    result = smc.smooth(
        model, repeated(model, repeats), lengths, num_particles=200, num_paths=50, method=method, seed=0
    )
    assert result.paths.shape == (50, repeats, NUM_STEPS, 2)
    for length in (NUM_STEPS, 3):
        exact = kalman.smooth(model, repeated(model, 1)[:, :length])
        paths = result.paths[:, lengths == length]
        assert not paths[:, :, length:].any()
        means = paths[:, :, :length].mean(0)  # one a repetition
        errors = means.std(0) / len(means.unbind(0)) ** 0.5
        assert bool(((means.mean(0) - exact.smoothed_means[0]).abs() < LIMIT * errors + 2 / 200).all())
        assert float((means.mean(0) - exact.filtered_means[0])[: length - 1].abs().max()) > 0.1
        products = (paths[:, :, 0, :, None] * paths[:, :, 1, None, :]).mean(0)
        expected = exact.pairwise_covs[0, 0] + torch.outer(exact.smoothed_means[0, 0], exact.smoothed_means[0, 1])
        spread = products.std(0) / len(products) ** 0.5
        assert bool(((products.mean(0) - expected).abs() < LIMIT * spread + 0.03).all())


def test_fixed_lag_states_know_the_observations_until_the_lag_and_no_more() -> None:
    model, repeats = make("lgssm"), 400
    x = repeated(model, repeats)
    result = smc.smooth(model, x, num_particles=200, num_paths=50, method="fixed-lag", lag=1, seed=0)
    means = result.paths.mean(0)
    errors = means.std(0) / repeats**0.5
    for t in range(NUM_STEPS):
        until = kalman.smooth(model, x[:1, : t + 2]).smoothed_means[0, t]
        assert bool(((means[:, t].mean(0) - until).abs() < LIMIT * errors[t] + 2 / 200).all())
    everything = kalman.smooth(model, x[:1]).smoothed_means[0]
    assert float(((means.mean(0) - everything).abs() / errors)[: NUM_STEPS - 2].max()) > LIMIT


def test_paths_of_finite_states_have_the_smoothed_probabilities() -> None:
    model = make("hmm")
    result = smc.smooth(model, repeated(model, 400), num_particles=200, num_paths=50, seed=0)
    exact = forward_backward.smooth(model, repeated(model, 1)).smoothed_probs[0]
    found = torch.nn.functional.one_hot(result.paths, 3).double().mean(0)  # (repetitions, T, K)
    errors = found.std(0) / 400**0.5
    assert bool(((found.mean(0) - exact).abs() < LIMIT * errors + 2 / 200).all())


def test_backward_simulation_says_which_models_it_cannot_run_on() -> None:
    with pytest.raises(
        ValueError,
        match="whose memory reads no states for method='backward', got LatentToy, whose memory reads them; use meth",
    ):
        smc.smooth(LatentToy(), torch.zeros(1, 3))
    assert smc.smooth(LatentToy(), torch.zeros(1, 3), num_particles=5, num_paths=2, method="ancestors").paths.shape == (
        2,
        1,
        3,
    )


# Gradients.


def test_the_gradient_is_the_slope_with_the_same_random_numbers() -> None:
    model, x, size = make("lgssm"), repeated(make("lgssm"), 2), 1e-6
    parameters = list(model.parameters())
    directions = [torch.randn_like(p) for p in parameters]

    def value() -> Tensor:
        return smc.log_marginal_likelihood(model, x, num_particles=5, resample="never", seed=0).sum()

    found = torch.autograd.grad(value(), parameters)
    expected = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
    values = []
    for by in (size, -2 * size):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(by * d)
        values.append(float(value().detach()))
    assert (values[0] - values[1]) / (2 * size) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_with_the_score_is_unbiased_and_the_one_without_is_not() -> None:
    model, repeats = make("hmm"), 3_000
    assert isinstance(model, HMM)
    x = repeated(model, 1)
    table = model.emission_table.params
    (exact,) = torch.autograd.grad(model.log_marginal_likelihood(x).exp().sum(), table)
    found = {}
    for gradient in ("score", "drop"):
        draws = []
        for seed in range(repeats // 100):
            estimate = smc.log_marginal_likelihood(
                model,
                x.expand(100, -1),
                num_particles=4,
                resample="always",
                gradient=gradient,
                seed=seed,
            )
            (slope,) = torch.autograd.grad(estimate.exp().mean(), table)
            draws.append(slope)
        found[gradient] = score(torch.stack(draws), exact)
    assert found["score"] < LIMIT
    assert found["drop"] > LIMIT


# Bad input.


def positive(z: Tensor | None, h: Tensor | None, features: Tensor | None) -> Any:
    """A proposal that never goes below zero."""
    return dist.Exponential(torch.ones(2)).to_event(1)


def left_to_right() -> HMM:
    return HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


def test_weights_that_are_all_zero_are_an_error_that_says_where() -> None:
    x = torch.tensor([[0, 0, 0], [0, 1, 0]])
    with pytest.raises(smc.DegenerateWeightsError, match="got none in sequence 1 at step 2; use more particles"):
        smc.filter(left_to_right(), x, num_particles=5)


ENGINES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "filter": (smc.filter, {}),
    "smooth": (smc.smooth, {}),
    "ancestors": (smc.smooth, {"method": "ancestors"}),
    "fixed-lag": (smc.smooth, {"method": "fixed-lag"}),
    "forecast": (smc.forecast, {"num_steps": 2}),
    "log_marginal_likelihood": (smc.log_marginal_likelihood, {}),
}


@pytest.mark.parametrize("group", [12, 2**18])
@pytest.mark.parametrize(("engine", "options"), ENGINES.values(), ids=ENGINES)
def test_the_way_out_of_weights_that_are_all_zero_is_one_that_the_engine_has(
    engine: Callable[..., Any], options: dict[str, Any], group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(particle_run, "GROUP", group)
    has = inspect.signature(engine).parameters
    x = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]])
    with pytest.raises(
        smc.DegenerateWeightsError, match="got none in sequence 3 at step 2; use more particles"
    ) as caught:
        engine(left_to_right(), x, num_particles=5, **options)
    assert (caught.value.sequence, caught.value.step, caught.value.found) == (3, 2, None)
    named = set(re.findall(r"(\w+)=", str(caught.value)))
    assert named == ({"degenerate"} & set(has))
    assert {"num_particles", "proposal"} <= set(has)


def test_padding_that_no_state_emits_is_no_impossible_observation() -> None:
    always_one = HMM(torch.tensor([0.0, 1.0]), torch.eye(2), torch.eye(2))
    x, lengths = torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([3, 1])
    result = smc.filter(always_one, x, lengths, num_particles=5, ess_threshold=1.0)
    assert result.log_marginal_likelihood.tolist() == [0, 0]
    with pytest.raises(smc.DegenerateWeightsError, match="got none in sequence 1 at step 2"):
        smc.filter(always_one, x, lengths + torch.tensor([0, 1]), num_particles=5)


def test_on_request_they_make_one_sequence_impossible_and_leave_the_others() -> None:
    good, bad = torch.tensor([[0, 0, 0], [0, 0, 0]]), torch.tensor([[0, 1, 0], [0, 0, 0]])
    model = left_to_right()
    runs = [
        smc.filter(model, x, num_particles=5, ess_threshold=1.0, degenerate="-inf", seed=0).log_marginal_likelihood
        for x in (good, bad)
    ]
    assert runs[1].tolist() == [-torch.inf, 0]
    assert runs[0][1] == runs[1][1]


def spoiled_lookahead(value: float, every: bool = False) -> Any:
    """What step 3 holds ready for sequence 1 is no number, for one particle or all."""

    def lookahead(z: Tensor, h: Tensor | None, x: Tensor) -> Tensor:
        ahead = torch.zeros(z.shape[:2])
        ahead[slice(None) if every else 2, (x == 1).nonzero()[:, 0]] = value
        return ahead

    return lookahead


STEADY = HMM(torch.tensor([0.5, 0.5]), torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.4, 0.6]]))


@pytest.mark.parametrize(
    ("value", "every", "message"),
    [
        (torch.nan, False, "expected finite log weights, got NaN lookahead in sequence 1 at step 3"),
        (torch.inf, False, "expected finite log weights, got infinite lookahead in sequence 1 at step 3"),
        (-torch.inf, True, "got a lookahead of minus infinity for every particle in sequence 1 at step 3"),
    ],
)
@pytest.mark.parametrize("resampling", ["systematic", "multinomial", "soft"])
def test_a_lookahead_that_no_particle_can_be_drawn_by_is_an_error_that_names_the_step(
    value: float, every: bool, message: str, resampling: str
) -> None:
    x, lookahead = torch.tensor([[0, 0, 0], [0, 0, 1]]), spoiled_lookahead(value, every)
    options: dict[str, Any] = {"num_particles": 8, "resampling": resampling, "ess_threshold": 1.0}
    with pytest.raises(smc.DegenerateWeightsError, match=message) as caught:
        smc.filter(STEADY, x, lookahead=lookahead, **options)
    assert (caught.value.sequence, caught.value.step) == (1, 3)
    behind_the_end = smc.filter(STEADY, x, torch.tensor([3, 2]), lookahead=lookahead, **options)
    assert bool(behind_the_end.log_marginal_likelihood.isfinite().all())


def test_a_lookahead_that_expects_nothing_is_left_out_where_sequences_may_be_lost() -> None:
    x, options = torch.tensor([[0, 0, 0], [0, 0, 1]]), {"num_particles": 8, "ess_threshold": 1.0, "seed": 0}
    lost = smc.filter(STEADY, x, lookahead=spoiled_lookahead(-torch.inf, True), degenerate="-inf", **options)  # type: ignore[arg-type]
    none = smc.filter(STEADY, x, lookahead=spoiled_lookahead(0.0), degenerate="-inf", **options)  # type: ignore[arg-type]
    torch.testing.assert_close(lost.log_marginal_likelihood, none.log_marginal_likelihood)


@pytest.mark.parametrize("keep", ["last", "all"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_an_error_that_names_the_step(
    value: float, keep: Literal["last", "all"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a compiled run, and in the general steps, which keep the history."""
    law, table = HMM.emission, HMM.emission_log_probs

    class Spoiled(dist.Categorical):
        def log_prob(self, x: Tensor) -> Tensor:
            found = super().log_prob(x)
            found[3] = found[3].where(x != 1, value)
            return found

    monkeypatch.setattr(HMM, "emission", lambda self, z, h: Spoiled(probs=law(self, z, h).probs))
    monkeypatch.setattr(HMM, "emission_log_probs", lambda self, x: table(self, x).where((x != 1)[..., None], value))
    kind = "NaN" if value != value else "infinite"
    x = torch.tensor([[0, 0, 0], [0, 1, 0]])
    for degenerate in ("raise", "-inf"):
        with pytest.raises(smc.DegenerateWeightsError, match=f"got {kind} weights in sequence 1 at step 2; look for"):
            smc.filter(STEADY, x, num_particles=8, degenerate=degenerate, keep=keep)


def test_backward_paths_through_particles_that_lead_nowhere_are_an_error_that_names_the_step() -> None:
    z, weights = torch.tensor([[[0]], [[1]]]), torch.tensor([[[0.0]], [[0.0]]])
    history = smc.History(z, weights, torch.zeros(2, 1, 1, dtype=torch.int64))
    with pytest.raises(
        smc.DegenerateWeightsError, match=r"got .* no particle that leads .* in sequence 0 at step 1; .*'ancestors'"
    ):
        backward_paths(left_to_right(), history, torch.tensor([2]), None, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 0}, "expected num_particles to be an integer of at least 1, got 0"),
        ({"ess_threshold": 1.5}, r"expected ess_threshold in \[0, 1\], a fraction of N, got 1.5"),
        ({"ess_threshold": -0.1}, r"expected ess_threshold in \[0, 1\]"),
        ({"ess_threshold": float("nan")}, r"expected ess_threshold in \[0, 1\]"),
        ({"resampling": "systmatic"}, "did you mean 'systematic'"),
        ({"proposal": "bootsrap"}, "did you mean 'bootstrap'"),
        ({"keep": "lst"}, "did you mean 'last'"),
        ({"degenerate": "ignore"}, "expected degenerate to be one of raise, -inf, got 'ignore'"),
        ({"proposal": positive}, "expected a proposal over .*Real.*, the support of the model's states, got"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smc.filter(make("lgssm"), repeated(make("lgssm"), 1), **options)


def test_a_model_without_latent_states_is_an_error() -> None:
    with pytest.raises(
        TypeError, match=r"expected a model with latent states for smc, RNN has none; use svi\.evaluate"
    ):
        smc.filter(RNN("gru", num_symbols=3), torch.zeros(1, 2, dtype=torch.int64))


def test_bad_observations_are_errors() -> None:
    with pytest.raises(ValueError, match="expected finite real numbers, got inf in sequence 0 at step 2"):
        smc.filter(make("lgssm"), torch.tensor([[[0.0, 0.0], [torch.inf, 0.0]]]))


def test_groups_of_sequences_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anything drawn, by a threshold of 0 and a law without noise, groups change nothing but rounding."""
    model = LatentToy().double()
    monkeypatch.setattr(LatentToy, "initial", lambda self, h: dist.Normal(h[..., 0], 1e-9))
    monkeypatch.setattr(LatentToy, "transition", lambda self, z, h: dist.Normal(z / 2 + h[..., 0], 1e-9))
    x, lengths = torch.randn(5, 4), torch.tensor([4, 1, 3, 4, 2])
    options: dict[str, Any] = {"num_particles": 6, "keep": "all", "functions": {"z": lambda z, h: z}}
    whole = smc.filter(model, x, lengths, **options)
    monkeypatch.setattr(particle_run, "GROUP", 12)
    grouped = smc.filter(model, x, lengths, **options)
    assert whole.history is not None
    assert grouped.history is not None
    for name in ("log_marginal_likelihood", "log_normalizers", "particles", "ess", "memory"):
        torch.testing.assert_close(getattr(grouped, name), getattr(whole, name), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grouped.means["z"], whole.means["z"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grouped.history.z, whole.history.z, rtol=1e-6, atol=1e-6)


def test_an_error_in_a_group_names_the_sequence_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    hmm = HMM(torch.tensor([1.0, 0.0]), torch.eye(2), torch.eye(2))
    x = torch.tensor([[0, 0], [0, 0], [0, 0], [0, 1]])
    monkeypatch.setattr(particle_run, "GROUP", 10)
    with pytest.raises(smc.DegenerateWeightsError, match="got none in sequence 3 at step 2"):
        smc.filter(hmm, x, num_particles=5)
