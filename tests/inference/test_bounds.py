"""Bounds on models whose log p(x) is known: by quadrature over states on a grid, and by the Kalman filter."""

import math
from itertools import pairwise
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import smc
from pgm_rnn.inference.svi import bounds
from pgm_rnn.models import LinearGaussianSSM, NoisyRNN
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.state_law import StateLaw
from tests.instances import LENGTHS, every_law, every_model_of_vectors, gradients, make_hmm, make_model, ragged
from tests.latent_toy import LatentToy

LIMIT = 4.5  # standard errors


class Guided(SequenceModel):
    """A linear-Gaussian model without its likelihood; q(z_t | x_t) = N(a x_t + b, s^2) is wider than the posterior."""

    has_latent = True

    def __init__(self, inner: LinearGaussianSSM, guided: bool = True) -> None:
        super().__init__(inner.family)
        self.inner, self.guided = inner, guided
        self.a, self.b = nn.Parameter(torch.tensor(0.4)), nn.Parameter(torch.tensor(0.1))
        self.log_s = nn.Parameter(torch.tensor(0.4))
        self.initial_memory = None

    @override
    def initial(self, h: Tensor | None) -> TorchDistribution:
        return self.inner.initial(h)

    @override
    def transition(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        return self.inner.transition(z, h)

    @override
    def emission(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        return self.inner.emission(z, h)

    @override
    def encode(self, x: Tensor, lengths: Tensor) -> Tensor | None:
        return x

    @override
    def proposal(self, z: Tensor | None, h: Tensor | None, features: Tensor | None) -> TorchDistribution:
        if not self.guided:
            return super().proposal(z, h, features)
        assert features is not None
        return dist.Normal(self.a * features + self.b, self.log_s.exp().expand(features.shape)).to_event(1)


def linear(guided: bool = True) -> Guided:
    """p is known: `inner.log_marginal_likelihood`."""
    return Guided(LinearGaussianSSM.random(1, 1, seed=3).double(), guided)


def scalar_network() -> NoisyRNN:
    """A network with one state and feedback."""
    return NoisyRNN.random(1, 1, feedback=True, activation="tanh", seed=5).double()


def by_quadrature(model: NoisyRNN, x: Tensor) -> Tensor:
    """log p(x_{1:T}) of sequences (B, T, 1) from the definition: z_t integrated over a grid, one step after another.

    p(x_{1:t}, z_t) = p(x_t | z_t) int p(z_t | z_{t-1}, x_{t-1}) p(x_{1:t-1}, z_{t-1}) dz_{t-1}, with tails beyond the
    grid below 1e-12 and a trapezoid rule on smooth densities, exact to rounding.
    """
    grid = torch.linspace(-9, 9, 601)
    width = float(grid[1] - grid[0])

    def normal(values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return (-0.5 * (values - mean) ** 2 / variance).exp() / (2 * math.pi * variance).sqrt()

    m, P = model.initial_mean[0], model.initial_cov[0, 0]
    A, Q = model.transition_matrix[0, 0], model.transition_cov[0, 0]
    C, R = model.emission_matrix[0, 0], model.emission_cov[0, 0]
    assert model.input_matrix is not None
    W = model.input_matrix[0, 0]
    totals = []
    for row in x[..., 0]:
        density = normal(grid, m, P) * normal(row[0], C * grid, R)
        for before, now in pairwise(row):
            moves = normal(grid[None, :], torch.tanh(A * grid + W * before)[:, None], Q)  # (old, new)
            density = normal(now, C * grid, R) * (density @ moves) * width
        totals.append((density.sum() * width).log())
    return torch.stack(totals)


def known(name: str, num_steps: int = 4) -> tuple[SequenceModel, Tensor, float]:
    """A model, one sequence (1, T, 1), and its log p(x)."""
    if name == "network":
        network = scalar_network()
        x = network.sample(1, num_steps, seed=0).x
        return network, x, float(by_quadrature(network, x).detach())
    model = linear(guided=name == "guided")
    x = model.inner.sample(1, num_steps, seed=0).x
    return model, x, float(model.inner.log_marginal_likelihood(x).detach())


every_known = pytest.mark.parametrize("name", ["network", "guided", "unguided"])


@torch.no_grad()
def draws(model: SequenceModel, x: Tensor, num_particles: int, repeats: int, seed: int = 0) -> Tensor:
    """Log weights of `repeats` copies of one sequence, (K, repeats)."""
    return bounds.log_weights(model, x.expand(repeats, *x.shape[1:]), num_particles=num_particles, seed=seed)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


# What the bounds are.


@every_known
def test_weights_are_unbiased_and_those_with_a_broken_guide_density_are_not(name: str) -> None:
    model, x, log_p = known(name)
    log_w = draws(model, x, 1, 60_000)[0]
    mean, error = mean_and_error((log_w - log_p).exp())
    assert abs(mean - 1) < LIMIT * error


def test_weights_without_the_guides_density_are_biased() -> None:
    """The control: the model's density of the guide's draws over the model's own law of them, p(x | z)."""
    model, x, log_p = known("guided")
    assert isinstance(model, Guided)
    x = x.expand(20_000, -1, -1)
    with torch.no_grad():
        z = StateLaw(model, x, torch.full((len(x),), 4), "model", guide=True).sample()
        log_w = model.emission(z, None).log_prob(x).sum(-1)
    mean, error = mean_and_error((log_w - log_p).exp())
    assert abs(mean - 1) > LIMIT * error


@every_known
def test_the_bounds_are_ordered_and_tighten_with_the_number_of_particles(name: str) -> None:
    model, x, log_p = known(name)
    log_w = draws(model, x, 16, 10_000)
    found = {1: bounds.elbo(log_w)} | {k: bounds.iwae(log_w[:k]) for k in (2, 4, 16)}
    means = {k: mean_and_error(values) for k, values in found.items()}
    steps = [*means.values(), (log_p, 0.0)]
    for (lower, error), (upper, other) in pairwise(steps):
        assert lower + LIMIT * math.hypot(error, other) < upper


def test_the_order_is_lost_where_a_weight_is_wrong() -> None:
    """The control of the ordering: w = p(x, z) / q(z | x)^2 passes log p(x)."""
    model, x, log_p = known("guided")
    x = x.expand(16 * 500, -1, -1)
    with torch.no_grad():
        law = StateLaw(model, x, torch.full((len(x),), 4), "model", guide=True)
        narrow = law.sample()
        log_w = model.log_prob(x, narrow) - 2 * law.log_prob(narrow)
    assert float(bounds.iwae(log_w.reshape(16, 500)).mean()) > log_p


def test_pyros_elbo_is_the_mean_log_weight_draw_by_draw() -> None:
    model, x = LatentToy(), torch.randn(3, 4)
    x = x.where(torch.arange(4) < LENGTHS[:, None], 0.0)
    log_w = bounds.log_weights(model, x, LENGTHS, num_particles=5, seed=2)
    with seeded(2, stream=11):
        theirs = -Trace_ELBO().differentiable_loss(model.model, model.guide, x.repeat(5, 1), LENGTHS.repeat(5)) / 5
    torch.testing.assert_close(bounds.elbo(log_w).sum(), theirs)


@pytest.mark.slow
def test_the_logarithm_is_of_each_sequences_mean_as_pyros_and_that_of_the_batchs_is_looser() -> None:
    """Jensen: sum_i log mean_k w_i^k >= log mean_k prod_i w_i^k."""
    model, x, _ = known("network", 10)
    repeats, K, size = 100, 4, 8
    log_w = draws(model, x, K, repeats * size)
    ours = bounds.iwae(log_w).reshape(repeats, size).sum(-1)
    renyi = RenyiELBO(alpha=0, num_particles=K)
    theirs = torch.tensor([-renyi.loss(model.model, model.guide, x.expand(size, -1, -1)) for _ in range(repeats)])
    (mean, error), (other, spread) = mean_and_error(ours), mean_and_error(theirs)
    assert abs(mean - other) < LIMIT * math.hypot(error, spread)
    whole, error = mean_and_error(ours - bounds.iwae(log_w.reshape(K, repeats, size).sum(-1)))
    assert whole > LIMIT * error


@every_known
def test_fivos_gap_falls_with_the_number_of_particles(name: str) -> None:
    model, x, log_p = known(name, 12)
    x = x.expand(4_000, *x.shape[1:])
    gaps = []
    with torch.no_grad():
        for n in (1, 4, 16):
            mean, error = mean_and_error(smc.log_marginal_likelihood(model, x, num_particles=n, seed=0))
            assert mean + LIMIT * error < log_p
            gaps.append(log_p - mean)
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


def test_on_a_long_sequence_fivo_is_tighter_than_iwae_with_as_many_particles() -> None:
    model, x, log_p = known("network", 40)
    x = x.expand(200, *x.shape[1:])
    with torch.no_grad():
        fivo = smc.log_marginal_likelihood(model, x, num_particles=16, seed=0)
        iwae = bounds.iwae(bounds.log_weights(model, x, num_particles=16, seed=0))
    (upper, error), (lower, other) = mean_and_error(fivo), mean_and_error(iwae)
    assert lower + LIMIT * math.hypot(error, other) < upper < log_p


def test_the_delta_methods_variance_is_that_of_the_logarithm_of_the_mean() -> None:
    model, x, _ = known("guided")
    log_w = draws(model, x, 200, 1_000)
    claimed = bounds.variance_of_iwae(log_w, torch.zeros_like(log_w)).mean()
    spread = bounds.iwae(log_w).var()
    assert float(claimed) == pytest.approx(float(spread), rel=0.25)  # Var of a variance, 4.5 sqrt(2 / 999), and 1 / K
    assert bool(bounds.variance_of_iwae(log_w[:1], log_w[:1]).isnan().all())


def test_effective_particles_are_one_for_one_weight_and_all_for_equal_ones() -> None:
    log_w = torch.tensor([[0.0, 0.0, 0.0], [-1e4, 0.0, 0.0], [-1e4, 0.0, -math.inf], [-1e4, 0.0, -math.inf]])
    torch.testing.assert_close(bounds.effective_particles(log_w - 1e3), torch.tensor([1.0, 4.0, 2.0]))


# Shapes.


@every_law
def test_every_models_weights_are_finite_one_a_particle_and_sequence(name: str, family: Any) -> None:
    model, x = make_model(name, family), ragged(family)
    log_w = bounds.log_weights(model, x, LENGTHS, num_particles=3)
    assert log_w.shape == (3, 3)
    assert log_w.isfinite().all()
    if model.exact:
        torch.testing.assert_close(log_w, model.log_marginal_likelihood(x, LENGTHS).expand(3, 3))


@every_model_of_vectors
def test_the_padding_does_not_matter(name: str) -> None:
    model, x = make_model(name, Gaussian(2)), ragged(Gaussian(2))
    other = x.where((torch.arange(4) < LENGTHS[:, None])[..., None], 7.0)
    assert torch.equal(
        bounds.log_weights(model, x, LENGTHS, num_particles=2, seed=0),
        bounds.log_weights(model, other, LENGTHS, num_particles=2, seed=0),
    )


@every_model_of_vectors
def test_a_single_sequence_of_one_step_is_enough_for_weights(name: str) -> None:
    model, x = make_model(name, Gaussian(2)), ragged(Gaussian(2))[:1, :1]
    log_w, first = bounds.log_weights_after_first(model, x, num_particles=4, seed=0)
    torch.testing.assert_close(log_w, first)


def test_the_first_weights_are_those_of_the_first_step_alone() -> None:
    model, x = LatentToy(), torch.randn(3, 4)
    log_w, first = bounds.log_weights_after_first(model, x, num_particles=20_000, seed=0)
    short = bounds.log_weights(model, x[:, :1], num_particles=20_000, seed=1)
    (mean, error), (other, spread) = (
        mean_and_error(first[:, 0].exp().detach()),
        mean_and_error(short[:, 0].exp().detach()),
    )
    assert abs(mean - other) < LIMIT * math.hypot(error, spread)
    assert not torch.equal(log_w, first)


# Gradients.


@pytest.mark.parametrize("objective", ["elbo", "iwae", "fivo never", "fivo adaptive", "fivo always"])
@pytest.mark.parametrize("name", ["network", "guided"])
def test_the_gradient_is_the_slope_with_the_same_random_numbers(name: str, objective: str) -> None:
    """The ancestors stay as they are over so small a step; that they would move over a larger one is FIVO's bias."""
    model, x, _ = known(name)
    x, size = x.repeat(3, 1, 1), 1e-6
    lengths = torch.tensor([4, 1, 3])

    def value() -> Tensor:
        if objective.startswith("fivo"):
            resample: Any = objective.removeprefix("fivo ")
            return smc.log_marginal_likelihood(model, x, lengths, num_particles=4, resample=resample, seed=0).sum()
        log_w = bounds.log_weights(model, x, lengths, num_particles=4, seed=0)
        return (bounds.elbo(log_w) if objective == "elbo" else bounds.iwae(log_w)).sum()

    found = gradients(value(), model)
    parameters = dict(model.named_parameters())
    directions = {name: torch.randn_like(p) for name, p in parameters.items()}
    expected = sum(float((found[name] * d).sum()) for name, d in directions.items())
    values = []
    for by in (size, -2 * size):
        with torch.no_grad():
            for name, p in parameters.items():
                p.add_(by * directions[name])
        values.append(float(value().detach()))
    assert (values[0] - values[1]) / (2 * size) == pytest.approx(expected, rel=1e-5)


# Bad input.


class Positive(LatentToy):
    """A guide that never goes below zero."""

    @override
    def proposal(self, z: Tensor | None, h: Tensor | None, features: Tensor | None) -> TorchDistribution:
        assert h is not None
        return dist.Exponential(torch.ones(h.shape[:-1]))


def test_a_guide_that_misses_states_of_the_model_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected a guide over .*Real.*, the support of the model's states, got"):
        bounds.log_weights(Positive(), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"expected a guide over .*Real"):
        bounds.check_guide(Positive(), torch.zeros(2, 3))


def test_bad_options_are_errors() -> None:
    with pytest.raises(ValueError, match="expected num_particles to be an integer of at least 1, got 0"):
        bounds.log_weights(LatentToy(), torch.zeros(2, 3), num_particles=0)
    with pytest.raises(ValueError, match="at least one sequence and one step"):
        bounds.log_weights(LatentToy(), torch.zeros(0, 3))
    with pytest.raises(ValueError, match=r"got 0 at index 1; drop empty sequences first"):
        bounds.log_weights(make_hmm(Gaussian()), torch.zeros(2, 3), torch.tensor([3, 0]))
