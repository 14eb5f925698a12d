"""The Rao-Blackwellised filter and smoother against sums over all paths; the batch holds independent repetitions."""

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from pgm_rnn.distributions import RegimeNormal
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import kalman, mixture_kalman, smc, svi
from pgm_rnn.inference.resampling import SCHEMES
from pgm_rnn.models import HMM, LinearGaussianSSM, SwitchingLinearSSM
from pgm_rnn.particles import DegenerateWeightsError, steps
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import SwitchingStates
from tests import mixtures

LIMIT = 4.5  # standard errors
REPEATS, NUM_PARTICLES, NUM_STEPS = 2_000, 6, 4


def make(num_regimes: int = 2, seed: int = 0, **options: Any) -> SwitchingLinearSSM:
    return SwitchingLinearSSM.random(num_regimes, 2, 1, seed=seed, **options).double()


def one(model: SwitchingLinearSSM, num_steps: int = NUM_STEPS) -> Tensor:
    """One sequence, (T, M)."""
    return model.sample(1, num_steps, seed=1).x[0]


def score(values: Tensor, expected: Tensor | float) -> float:
    """|mean - expected| in standard errors, the largest of its entries."""
    errors = values.std(0) / len(values) ** 0.5
    return float(((values.mean(0) - expected).abs() / errors.clamp(min=1e-12)).max())


def ratio(model: SwitchingLinearSSM, **options: Any) -> Tensor:
    """Estimates of p(x_{1:T}) over its exact value, (REPEATS,)."""
    x = one(model)
    found = mixture_kalman.filter(model, x.expand(REPEATS, -1, -1), num_particles=NUM_PARTICLES, seed=0, **options)
    return (found.log_marginal_likelihood - mixtures.log_marginal(model, x).detach()).exp()


@pytest.mark.parametrize("ess_threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("resampling", [*SCHEMES, "soft"])
@pytest.mark.parametrize("proposal", ["optimal", "bootstrap"])
def test_the_estimate_of_the_likelihood_is_unbiased(proposal: str, resampling: str, ess_threshold: float) -> None:
    values = ratio(make(), proposal=proposal, resampling=resampling, ess_threshold=ess_threshold)
    assert score(values, 1.0) < LIMIT


def test_a_filter_that_forgets_the_weight_of_its_proposal_is_biased(monkeypatch: pytest.MonkeyPatch) -> None:
    intact = steps._propose
    monkeypatch.setattr(steps, "_propose", lambda *arguments: (intact(*arguments)[0], None))
    assert score(ratio(make()), 1.0) > LIMIT


def excess(values: Tensor, others: Tensor) -> float:
    """Var(values) - Var(others) in standard errors, from fourth moments: Var(s^2) is about (m_4 - s^4) / n."""

    def of(sample: Tensor) -> tuple[float, float]:
        far = (sample - sample.mean()).square()
        return float(far.mean()), float(far.var()) / len(sample)

    (mine, error), (other, other_error) = of(values), of(others)
    return (mine - other) / math.sqrt(error + other_error)


@pytest.mark.parametrize("proposal", ["optimal", "bootstrap"])
def test_its_weights_vary_less_than_those_of_the_filter_of_the_whole_state(proposal: Any) -> None:
    """Doucet, Godsill & Andrieu (2000), sec. 4: without resampling and with the same proposal it is a theorem."""
    model = make()
    x = one(model)
    exact = mixtures.log_marginal(model, x).detach()
    options: dict[str, Any] = {"num_particles": NUM_PARTICLES, "ess_threshold": 0.0}
    many = x.expand(REPEATS, -1, -1)
    whole = (smc.filter(model, many, seed=1, **options).log_marginal_likelihood - exact).exp()
    again = (smc.filter(model, many, seed=2, **options).log_marginal_likelihood - exact).exp()
    assert excess(whole, ratio(model, proposal=proposal, ess_threshold=0.0)) > LIMIT
    assert excess(whole, again) < LIMIT  # the measure itself does not say so of equals


def moments(found: Any, which: str) -> tuple[Tensor, ...]:
    return tuple(getattr(found, f"{which}_{name}") for name in ("probs", "means", "covs"))


def away(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], num_particles: int) -> float:
    """The largest distance from the expected value, in standard errors plus 5 / N, the order of the bias."""
    scores = []
    for values, exact in zip(found, expected, strict=True):
        errors = values.std(0) / len(values) ** 0.5
        scores.append(float(((values.mean(0) - exact).abs() / (errors + 5 / (LIMIT * num_particles))).max()))
    return max(scores)


def test_filtered_laws_are_those_of_the_sum_over_all_paths() -> None:
    model = make()
    x, num = one(model), 2_000
    found = moments(mixture_kalman.filter(model, x.expand(20, -1, -1), num_particles=num, seed=0), "filtered")
    expected = tuple(part.detach() for part in mixtures.filtered(model, x))
    assert away(found, expected, num) < LIMIT
    assert away(found, tuple(part.detach() for part in mixtures.smoothed(model, x)), num) > LIMIT  # other laws


@pytest.mark.parametrize("method", ["backward", "ancestors"])
def test_smoothed_laws_are_those_of_the_sum_over_all_paths(method: Any) -> None:
    model = make()
    x, num = one(model), 200
    result = mixture_kalman.smooth(model, x.expand(40, -1, -1), num_particles=num, num_paths=100, method=method, seed=0)
    expected = tuple(part.detach() for part in mixtures.smoothed(model, x))
    assert away(moments(result, "smoothed"), expected, num) < LIMIT
    assert away((result.paths[..., 1:].mean(0),), expected[1:2], num) < LIMIT
    filtered = tuple(part.detach() for part in mixtures.filtered(model, x))
    assert away(moments(result, "smoothed"), filtered, num) > LIMIT  # other laws


def test_paths_of_backward_simulation_are_joint_draws() -> None:
    """Pairs (s_1, s_T) have the probabilities of the sum over all paths, which the product of the marginals has not."""
    model = make(seed=3)
    x, num = one(model), 200
    weights = torch.stack([path.log_joint for path in mixtures.all_paths(model, x)]).softmax(0).detach()
    regimes = torch.tensor([path.regimes for path in mixtures.all_paths(model, x)])
    both = ((regimes[:, 0] == 0) & (regimes[:, -1] == 0)).double()
    exact = float(weights @ both)
    apart = float(weights @ (regimes[:, 0] == 0).double()) * float(weights @ (regimes[:, -1] == 0).double())
    paths = mixture_kalman.smooth(model, x.expand(40, -1, -1), num_particles=num, num_paths=100, seed=0).paths
    shares = ((paths[:, :, 0, 0] == 0) & (paths[:, :, -1, 0] == 0)).double().mean(0)
    assert away((shares,), (torch.tensor(exact),), num) < LIMIT
    assert away((shares,), (torch.tensor(apart),), num) > LIMIT


def gaps(x: Tensor) -> Tensor:
    x = x.clone()
    x[1, 0], x[2] = torch.nan, torch.nan
    return x


def test_missing_entries_are_integrated_out_by_every_function() -> None:
    model = SwitchingLinearSSM.random(2, 2, 2, seed=0).double()
    x = gaps(model.sample(1, NUM_STEPS, seed=1).x[0])
    exact = mixtures.log_marginal(model, x).detach()
    many = x.expand(REPEATS, -1, -1)
    found = mixture_kalman.filter(model, many, num_particles=NUM_PARTICLES, seed=0)
    assert score((found.log_marginal_likelihood - exact).exp(), 1.0) < LIMIT
    result = mixture_kalman.smooth(model, x.expand(20, -1, -1), num_particles=200, num_paths=100, seed=0)
    expected = tuple(part.detach() for part in mixtures.smoothed(model, x))
    assert away(moments(result, "smoothed"), expected, 200) < LIMIT
    two = mixtures.log_marginal(model, x[:2]).detach()
    close = mixture_kalman.approximate(model, x[None, :2], method="gpb2").log_marginal_likelihood[0]
    torch.testing.assert_close(close.detach(), two)


def test_one_regime_is_the_kalman_filter_whatever_the_particles() -> None:
    model, x = make(num_regimes=1), make(num_regimes=1).sample(3, 6, seed=0).x
    x[0, 2] = torch.nan
    lengths = torch.tensor([6, 4, 1])
    parts = ("initial_mean", "initial_cov", "transition_matrix", "transition_cov", "emission_matrix", "emission_cov")
    plain = LinearGaussianSSM(*(getattr(model, name)[0] for name in parts))
    model = SwitchingLinearSSM(torch.ones(1), torch.ones(1, 1), *(getattr(model, name) for name in parts)).double()
    exact = kalman.smooth(plain, x, lengths)
    filtered = mixture_kalman.filter(model, x, lengths, num_particles=2, seed=0)
    smoothed = mixture_kalman.smooth(model, x, lengths, num_particles=2, num_paths=2, seed=0)
    found: list[Any] = [
        filtered,
        *(mixture_kalman.approximate(model, x, lengths, method=each) for each in ("imm", "gpb1", "gpb2")),
    ]
    inside = (torch.arange(6) < lengths[:, None])[..., None]
    for each in found:
        torch.testing.assert_close(each.log_marginal_likelihood.detach(), exact.log_marginal_likelihood)
        torch.testing.assert_close(each.filtered_means.detach(), exact.filtered_means.where(inside, 0.0))
        torch.testing.assert_close(each.filtered_covs.detach(), exact.filtered_covs.where(inside[..., None], 0.0))
    torch.testing.assert_close(smoothed.smoothed_means, exact.smoothed_means.where(inside, 0.0))
    torch.testing.assert_close(smoothed.smoothed_covs, exact.smoothed_covs.where(inside[..., None], 0.0))


def approximation(model: SwitchingLinearSSM, x: Tensor, method: Any) -> Tensor:
    return mixture_kalman.approximate(model, x[None], method=method).log_marginal_likelihood[0].detach()


@pytest.mark.parametrize(("method", "num_steps"), [("imm", 1), ("gpb1", 1), ("gpb2", 1), ("gpb2", 2)])
def test_approximate_filters_are_exact_at_first(method: str, num_steps: int) -> None:
    model = make(num_regimes=3)
    x = one(model)
    torch.testing.assert_close(
        approximation(model, x[:num_steps], method), mixtures.log_marginal(model, x[:num_steps]).detach()
    )
    longer = mixtures.log_marginal(model, x[: num_steps + 2]).detach()
    assert abs(float(approximation(model, x[: num_steps + 2], method) - longer)) > 1e-6  # and not later


def test_gpb2_has_the_exact_moments_of_the_second_step() -> None:
    model = make(num_regimes=3)
    x = one(model)[:2]
    found = mixture_kalman.approximate(model, x[None], method="gpb2")
    for part, expected in zip(moments(found, "filtered"), mixtures.filtered(model, x), strict=True):
        torch.testing.assert_close(part[0].detach(), expected.detach())


def error_at(size: float, method: str) -> float:
    """The error of log p(x) where regimes differ by their offsets alone, which are `size` times fixed numbers."""
    model, like = make(), make(seed=5)
    with torch.no_grad():
        for part in (*model.parameters(),):
            if part.dim() > 1 and part is not model.transition_logits:
                part.copy_(part[:1].expand_as(part).clone())
        model.transition_offset.copy_(size * like.transition_offset)
    x = one(like)
    return abs(float(approximation(model, x, method) - mixtures.log_marginal(model, x).detach()))


@pytest.mark.parametrize(("method", "order"), [("gpb1", 2), ("imm", 3), ("gpb2", 3)])
def test_the_error_of_a_collapse_falls_with_the_first_moment_that_it_does_not_keep(method: str, order: int) -> None:
    """gpb1 loses the covariance of s and y, of second order in the regimes' distance; the others keep two moments.

    Where the weights are even, the third moment is zero, too, so that the order may be higher.
    """
    slope = math.log2(error_at(0.1, method) / error_at(0.05, method))
    assert slope > order - 0.5
    assert (slope < 2.5) == (method == "gpb1")


def test_its_gradient_tends_to_that_of_the_sum_over_all_paths() -> None:
    model = make()
    x, num, groups, size = one(model), 300, 30, 10
    parameters = [model.initial_logits, model.transition_matrix]
    exact = torch.autograd.grad(mixtures.log_marginal(model, x), parameters)

    def estimates(**options: Any) -> tuple[Tensor, ...]:
        means = []
        for seed in range(groups):
            value = mixture_kalman.log_marginal_likelihood(
                model, x.expand(size, -1, -1), num_particles=num, ess_threshold=1.0, seed=seed, **options
            )
            means.append(torch.autograd.grad(value.mean(), parameters))
        return tuple(torch.stack(parts) for parts in zip(*means, strict=True))

    assert away(estimates(), exact, num) < LIMIT
    assert away(estimates(gradient="drop"), exact, num) > LIMIT  # what is lost with the ancestors


def test_forecasts_have_the_exact_mean() -> None:
    model = make()
    x = one(model)
    further = torch.cat([x, x.new_full((2, 1), torch.nan)])
    expected = mixtures.smoothed(model, further)[1][-2:].detach()
    drawn = mixture_kalman.forecast(model, x[None], 2, num_samples=4_000, num_particles=4_000, seed=0)
    assert drawn.x.shape == (4_000, 1, 2, 1)
    assert drawn.z is not None
    assert score(drawn.z[:, 0, :, 1:], expected) < LIMIT
    assert score(drawn.z[:, 0, :1, 1:], expected[1:]) > LIMIT  # the other step
    assert mixture_kalman.forecast(model, x[None], 2, num_particles=5, seed=0).x.shape == (1, 2, 1)


@pytest.mark.parametrize("method", ["imm", "gpb2"])
def test_given_first_observations_count_for_nothing_but_the_states(method: Any) -> None:
    model, conditioned = make(), make(first="condition")
    x = one(model)
    exact = (mixtures.log_marginal(model, x) - mixtures.log_marginal(model, x[:1])).detach()
    found = mixture_kalman.filter(conditioned, x.expand(REPEATS, -1, -1), num_particles=NUM_PARTICLES, seed=0)
    assert score((found.log_marginal_likelihood - exact).exp(), 1.0) < LIMIT
    whole = smc.filter(conditioned, x.expand(REPEATS, -1, -1), num_particles=50, seed=0)
    assert score((whole.log_marginal_likelihood - exact).exp(), 1.0) < LIMIT
    both = [mixture_kalman.approximate(each, x[None], method=method).log_normalizers for each in (model, conditioned)]
    torch.testing.assert_close(both[0][:, 1:], both[1][:, 1:])
    assert float(both[1][0, 0].detach()) == 0


def test_padding_and_seeds_change_nothing() -> None:
    model = make()
    x, lengths = model.sample(2, 5, seed=0).x, torch.tensor([5, 3])
    other = x.clone()
    other[1, 3:] = 7.0
    found = [mixture_kalman.smooth(model, each, lengths, num_particles=50, num_paths=20, seed=3) for each in (x, other)]
    for left, right in zip(*found, strict=True):
        assert torch.equal(left, right)
    assert bool((found[0].paths[:, 1, 3:] == 0).all())
    filtered = mixture_kalman.filter(model, x, lengths, num_particles=50, keep="all", seed=3)
    assert filtered.history is not None
    assert filtered.history.z.shape == (5, 50, 2)
    torch.testing.assert_close(filtered.log_weights.logsumexp(0), filtered.log_marginal_likelihood)
    torch.testing.assert_close(filtered.filtered_probs[1, :3].sum(-1), torch.ones(3))


class Driven(SequenceModel):
    """A reader's own model: scalar x, inputs u, and regimes that read x_{t-1}; A depends on both regimes.

    s_t ~ softmax(P[s_{t-1}] + w x_{t-1}),   y_t ~ N(a[s_{t-1}, s_t] y_{t-1} + u_t, q^2),   x_t ~ N(c[s_t] y_t, r^2)
    """

    initial_memory = torch.zeros(1)

    def __init__(self) -> None:
        super().__init__(Gaussian())
        self.states, self.input_dim = SwitchingStates(2, 1), 1
        generator = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator))

        self.moves, self.weights, self.a, self.c = drawn(2, 2), drawn(2), drawn(2, 2), drawn(2)

    def recurrence(self, h: Tensor, z: Any, x: Tensor) -> Tensor:
        return x[..., None]

    def initial(self, h: Tensor) -> RegimeNormal:
        return RegimeNormal(self.moves[0], h[..., None, 1:].expand(*h.shape[:-1], 2, 1), torch.ones(2, 1, 1))

    def transition(self, z: Tensor, h: Tensor) -> RegimeNormal:
        s, y = z[..., 0].long(), z[..., 1:]
        loc = self.a[s] * y + h[..., 1:]
        return RegimeNormal(self.moves[s] + self.weights * h[..., :1], loc[..., None], torch.full((2, 1, 1), 0.7))

    def emission(self, z: Tensor, h: Tensor) -> Any:
        return dist.Normal(self.c[z[..., 0].long()] * z[..., 1], 0.5)

    def path(self, x: Tensor, u: Tensor, regimes: tuple[int, ...]) -> Tensor:
        """log p(s, x) by the joint normal law of x_1, ..., x_T."""
        log_p = self.moves[0].log_softmax(-1)[regimes[0]]
        lower, mean = torch.eye(len(x)), [u[0]]
        for t in range(1, len(x)):
            s, k = regimes[t - 1], regimes[t]
            log_p = log_p + (self.moves[s] + self.weights * x[t - 1]).log_softmax(-1)[k]
            mean.append(self.a[s, k] * mean[-1] + u[t])
            lower[t, :t] = self.a[s, k] * lower[t - 1, :t]
        c = self.c[list(regimes)]
        noise = torch.tensor([1.0] + [0.49] * (len(x) - 1))
        cov = c[:, None] * (lower @ noise.diag() @ lower.mT) * c + 0.25 * torch.eye(len(x))
        return log_p + MultivariateNormal(c * torch.stack(mean), cov).log_prob(x)


@torch.no_grad()
def test_a_readers_own_model_runs_by_its_structure() -> None:
    model = Driven()
    x, u = torch.randn(3, generator=torch.Generator().manual_seed(1)), torch.tensor([0.5, -1.0, 2.0])
    words = torch.cartesian_prod(*[torch.arange(2)] * 3).tolist()
    log_joint = torch.stack([model.path(x, u, tuple(word)) for word in words])
    exact, weights = log_joint.logsumexp(0), log_joint.softmax(0)
    data = Sequences(x.expand(REPEATS, -1), torch.full((REPEATS,), 3), inputs=u[:, None].expand(REPEATS, -1, -1))
    found = mixture_kalman.filter(model, data, num_particles=NUM_PARTICLES, seed=0)
    assert score((found.log_marginal_likelihood - exact).exp(), 1.0) < LIMIT
    whole = smc.filter(model, data, num_particles=20, seed=0).log_marginal_likelihood
    assert score((whole - exact).exp(), 1.0) < LIMIT
    probs = torch.stack([weights @ (torch.tensor(words)[:, t] == 1).double() for t in range(3)])
    smoothed = mixture_kalman.smooth(model, data.select(slice(0, 40)), num_particles=200, num_paths=200, seed=0)
    assert away((smoothed.smoothed_probs[..., 1],), (probs,), 200) < LIMIT
    two = torch.stack([model.path(x[:2], u[:2], (i, j)) for i in range(2) for j in range(2)]).logsumexp(0)
    close = mixture_kalman.approximate(model, x[None, :2], method="gpb2", inputs=u[None, :2, None])
    torch.testing.assert_close(close.log_marginal_likelihood[0], two)


def test_the_model_of_the_regimes_runs_under_other_engines() -> None:
    model = make()
    regimes, x = mixture_kalman.RegimeModel(model), model.sample(5, NUM_STEPS, seed=0).x
    exact = torch.stack([mixtures.log_marginal(model, row) for row in x]).detach()
    bound = svi.evaluate(regimes, x, bound="elbo", num_particles=500, seed=0)
    close = svi.evaluate(regimes, x, bound="iwae", num_particles=500, seed=0)
    gap = float(-exact.sum() / (5 * NUM_STEPS))
    assert gap < close.nats_per_step + LIMIT * close.standard_error + 1e-3
    assert gap - LIMIT * bound.standard_error < bound.nats_per_step
    fit = svi.fit(regimes, x, num_epochs=2, objective="elbo", progress=False)
    assert fit is not None
    assert {id(p) for p in regimes.parameters()} == {id(p) for p in model.parameters()}


def test_models_that_do_not_fit_are_named_with_a_way_out() -> None:
    x = make().sample(1, 3, seed=0).x
    with pytest.raises(ValueError, match=r"regime probabilities that do not read y_\{t-1\} in .*; use smc"):
        mixture_kalman.filter(make(recurrent=True), x)
    with pytest.raises(TypeError, match=r"expected a model with switching states for mixture_kalman, HMM has finite"):
        mixture_kalman.filter(HMM.random(2, 3), torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(TypeError, match="has switching states; use mixture_kalman, smc or svi"):
        kalman.filter(make(), x)
    with pytest.raises(ValueError, match="expected method to be one of"):
        mixture_kalman.approximate(make(), x, method="gpb3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="proposal"):
        mixture_kalman.filter(make(), x, proposal="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"num_paths"):
        mixture_kalman.smooth(make(), x, num_paths=0)


class Wrong(Driven):
    """One law broken at a time."""

    fault = ""

    def transition(self, z: Tensor, h: Tensor) -> Any:
        law = super().transition(z, h)
        if self.fault == "plain":
            return dist.Normal(torch.zeros(2), 1.0).to_event(1)
        if self.fault == "mean":
            return RegimeNormal(law.log_probs, law.loc.sin(), law.scale_tril)
        if self.fault == "cov":
            return RegimeNormal(law.log_probs, law.loc, law.scale_tril * (1 + z[..., 1:, None, None] ** 2))
        return law

    def emission(self, z: Tensor, h: Tensor) -> Any:
        law = super().emission(z, h)
        if self.fault == "emission":
            return dist.Normal(law.loc.exp(), 0.5)
        return law if self.fault != "noise" else dist.Normal(law.loc, 0.5 + z[..., 1] ** 2)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("plain", "laws from transition of Wrong at step 2 that are RegimeNormal"),
        ("mean", "a mean that is affine in y in Wrong.transition"),
        ("cov", "a covariance that does not read y in Wrong.transition"),
        ("emission", "a mean that is affine in y in Wrong.emission"),
        ("noise", "a covariance that does not read y in Wrong.emission"),
    ],
)
def test_laws_that_are_not_linear_are_named(fault: str, message: str) -> None:
    model = Wrong()
    model.fault = fault
    with pytest.raises((TypeError, ValueError), match=message):
        mixture_kalman.filter(model, torch.randn(2, 3), inputs=torch.zeros(2, 3, 1))


def test_an_observation_that_no_regime_explains_is_an_error_that_names_it() -> None:
    model, x = make(), torch.zeros(2, 3, 1)
    x[1, 1] = 1e200
    with pytest.raises(DegenerateWeightsError, match=r"sequence 1 at step 2; .*, or degenerate='-inf'"):
        mixture_kalman.filter(model, x, num_particles=5)
    found = mixture_kalman.filter(model, x, num_particles=5, degenerate="-inf").log_marginal_likelihood
    assert found.isfinite().tolist() == [True, False]
