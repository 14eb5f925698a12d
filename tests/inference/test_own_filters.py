"""Approximate filters of anyone's model with normal laws, against the textbook's loops over steps."""

import math
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import kalman, smc, svi
from pgm_rnn.models import DeepMarkovModel
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.chains import CovarianceError
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import GaussianStates

DIM, OBS_DIM = 2, 2
LENGTHS = torch.tensor([5, 1, 3])
METHODS = ("extended", "unscented", "iterated")
every_method = pytest.mark.parametrize("method", METHODS)


class Bending(SequenceModel):
    """Nonlinear means, noise that grows with z, a memory that reads x, and inputs.

    h_t = (tanh(x_{t-1}), u_t),   z_t ~ N(sin(A z + V h), diag(0.1 + 0.2 z^2)),   x_t ~ N(sinh(C z), S(z))
    """

    input_dim = 1

    def __init__(self) -> None:
        super().__init__(Gaussian(OBS_DIM))
        self.states = GaussianStates(DIM)
        self.register_buffer("initial_memory", torch.zeros(OBS_DIM))
        self.A, self.C = nn.Parameter(torch.randn(DIM, DIM)), nn.Parameter(torch.randn(OBS_DIM, DIM) / 2)
        self.V, self.log_noise = nn.Parameter(torch.randn(DIM, OBS_DIM + 1)), nn.Parameter(torch.tensor(-0.5))

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def initial(self, h: Any) -> Any:
        return dist.Normal(h @ self.V.mT, 0.5).to_event(1)

    def transition(self, z: Any, h: Any) -> Any:
        return dist.Normal(torch.sin(z @ self.A.mT + h @ self.V.mT), (0.1 + 0.2 * z.square()).sqrt()).to_event(1)

    def emission(self, z: Any, h: Any) -> Any:
        common = z.square().sum(-1)[..., None, None]
        cov = self.log_noise.exp() * torch.eye(OBS_DIM) + 0.1 * common * torch.ones(OBS_DIM, OBS_DIM)
        return dist.MultivariateNormal(torch.sinh(z @ self.C.mT), cov)


def moments(law: Any) -> tuple[Tensor, Tensor]:
    """Mean and covariance of one law over vectors."""
    if isinstance(law, torch.distributions.MultivariateNormal):
        return law.mean, law.covariance_matrix
    return law.mean, law.variance.diag()


def expanded(law: Any, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, derivative and noise covariance at one state."""
    value, noise = moments(law(mean))
    return value, torch.autograd.functional.jacobian(lambda z: moments(law(z))[0], mean), noise


def sigma_points(mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Points and weights of Julier & Uhlmann (1997) for D = 2, kappa = 1."""
    root = math.sqrt(3) * torch.linalg.cholesky(cov).mT
    return torch.cat([mean[None], mean + root, mean - root]), torch.tensor([1 / 3] + [1 / 6] * 4)


def through_points(law: Any, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, covariance and cross covariance with z, of what follows the law: Särkkä (2013), alg. 5.14."""
    points, weights = sigma_points(mean, cov)
    pairs = [moments(law(point)) for point in points]
    values = torch.stack([value for value, _ in pairs])
    noise = sum(w * n for w, (_, n) in zip(weights, pairs, strict=True))
    center = weights @ values
    spread = values - center
    return center, (spread.mT * weights) @ spread + noise, ((points - mean).mT * weights) @ spread


def textbook(model: Bending, x: Tensor, u: Tensor, method: str) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """log p(x), filtered means and covariances of one sequence (T, M), step by step."""
    h, total, means, covs = torch.cat([torch.zeros(OBS_DIM), u[0]]), torch.zeros(()), [], []
    mean, cov = moments(model.initial(h))
    for t, x_t in enumerate(x):
        if t > 0:
            h = torch.cat([torch.tanh(x[t - 1]), u[t]])
            move = lambda z, h=h: model.transition(z, h)  # noqa: E731
            if method == "unscented":
                mean, cov, _ = through_points(move, mean, cov)
            else:
                mean, matrix, noise = expanded(move, mean)
                cov = matrix @ cov @ matrix.mT + noise
        see = lambda z, h=h: model.emission(z, h)  # noqa: E731
        if method == "unscented":
            expected, S, cross = through_points(see, mean, cov)
        else:
            point = mean
            for _ in range(30 if method == "iterated" else 1):
                value, matrix, noise = expanded(see, point)
                expected, S, cross = value + matrix @ (mean - point), matrix @ cov @ matrix.mT + noise, cov @ matrix.mT
                point = mean + cross @ torch.linalg.solve(S, x_t - expected)
        total = total + dist.MultivariateNormal(expected, 0.5 * (S + S.mT)).log_prob(x_t)
        gain = torch.linalg.solve(S, cross.mT).mT
        mean, cov = mean + gain @ (x_t - expected), cov - gain @ S @ gain.mT
        means.append(mean)
        covs.append(cov)
    return total, means, covs


@every_method
def test_a_filter_is_the_textbooks_loop(method: str) -> None:
    model = Bending()
    x, u = 0.5 * torch.randn(3, 5, OBS_DIM), torch.randn(3, 5, 1)
    result = kalman.smooth(model, x, LENGTHS, inputs=u, method=method)
    for b, length in enumerate(LENGTHS.tolist()):
        with torch.no_grad():
            total, means, covs = textbook(model, x[b, :length], u[b], method)
        torch.testing.assert_close(result.log_marginal_likelihood[b], total)
        torch.testing.assert_close(result.filtered_means[b, :length], torch.stack(means))
        torch.testing.assert_close(result.filtered_covs[b, :length], torch.stack(covs))
        torch.testing.assert_close(result.smoothed_means[b, length - 1], means[-1])
        assert float(torch.linalg.eigvalsh(result.smoothed_covs[b, :length]).min()) > 0
    others = {m: kalman.filter(model, x, inputs=u, method=m).log_marginal_likelihood for m in METHODS if m != method}
    for other in others.values():
        assert not torch.allclose(other, kalman.filter(model, x, inputs=u, method=method).log_marginal_likelihood)


def test_the_iterated_filter_finds_the_mode_of_each_update_and_the_extended_one_does_not() -> None:
    class Still(Bending):
        """The same, with a noise of the observations that does not depend on z."""

        def emission(self, z: Any, h: Any) -> Any:
            return dist.Normal(torch.sinh(z @ self.C.mT), self.log_noise.exp()).to_event(1)

    model = Still()
    x, u = torch.randn(4, 1, OBS_DIM), torch.randn(4, 1, 1)
    h = torch.cat([torch.zeros(4, OBS_DIM), u[:, 0]], -1)
    slopes = {}
    for method in ("extended", "iterated"):
        z = kalman.filter(model, x, inputs=u, method=method).filtered_means[:, 0].requires_grad_()
        density = model.initial(h).log_prob(z) + model.emission(z, h).log_prob(x[:, 0])
        [slope] = torch.autograd.grad(density.sum(), z)
        slopes[method] = float(slope.abs().max())
    assert slopes["iterated"] < 1e-8
    assert slopes["extended"] > 1e-2


@every_method
def test_missing_entries_change_nothing_and_values_in_the_padding_neither(method: str) -> None:
    class Blind(Bending):
        """The same without a memory that would read what is missing."""

        def __init__(self) -> None:
            super().__init__()
            self.V = nn.Parameter(torch.randn(DIM, 1))
            self.initial_memory = None

    model = Blind()
    x, u = torch.randn(3, 5, OBS_DIM), torch.randn(3, 5, 1)
    seen = torch.rand(3, 5, OBS_DIM) > 0.4
    result = kalman.smooth(model, x.where(seen, torch.nan), LENGTHS, inputs=u, method=method)
    other = kalman.smooth(model, x.where(seen, 7.0), LENGTHS, inputs=u, mask=seen, method=method)
    torch.testing.assert_close(result.smoothed_means, other.smoothed_means)
    for b, length in enumerate(LENGTHS.tolist()):
        one = slice(b, b + 1)
        alone = kalman.smooth(model, x[one, :length], inputs=u[one, :length], mask=seen[one, :length], method=method)
        torch.testing.assert_close(result.log_marginal_likelihood[b], alone.log_marginal_likelihood[0])
        torch.testing.assert_close(result.smoothed_means[b, :length], alone.smoothed_means[0])
    nothing = kalman.filter(model, x, inputs=u, mask=torch.zeros_like(seen), method=method)
    assert not nothing.log_marginal_likelihood.any()
    ahead = kalman.forecast(model, x, 2, LENGTHS, inputs=u, future_inputs=u[:, :2], method=method)
    assert ahead.means.isfinite().all()


@every_method
def test_the_gradient_is_the_slope_of_the_approximate_likelihood(method: str) -> None:
    model, size = Bending(), 1e-5
    x, u = 0.5 * torch.randn(3, 5, OBS_DIM), torch.randn(3, 5, 1)
    found = torch.autograd.grad(
        kalman.log_marginal_likelihood(model, x, LENGTHS, inputs=u, method=method).sum(), list(model.parameters())
    )
    directions = [torch.randn_like(p) for p in model.parameters()]
    values = []
    for by in (size, -2 * size):
        with torch.no_grad():
            for p, d in zip(model.parameters(), directions, strict=True):
                p.add_(by * d)
        value = kalman.log_marginal_likelihood(model, x, LENGTHS, inputs=u, method=method).detach().sum()
        values.append(float(value))
    slope = sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True))
    assert (values[0] - values[1]) / (2 * size) == pytest.approx(slope, rel=1e-5)


def test_particles_and_gradient_steps_on_a_bound_take_the_model_too() -> None:
    model = Bending()
    u = torch.randn(3, 5, 1)
    x = model.sample(3, 5, inputs=u, seed=0).x
    estimate = smc.filter(model, x, num_particles=20_000, inputs=u, seed=0)
    unscented = kalman.filter(model, x, inputs=u, method="unscented").log_marginal_likelihood
    assert float((estimate.log_marginal_likelihood - unscented).abs().max()) < 1.5  # an approximation, not a wrong law
    data = Sequences(x, torch.full((3,), 5), inputs=u)
    before = float(svi.evaluate(model, data, bound="iwae", num_particles=50).nats_per_step)
    svi.fit(model, data, objective="iwae", num_particles=5, num_epochs=10, learning_rate=0.02, progress=False)
    assert float(svi.evaluate(model, data, bound="iwae", num_particles=50).nats_per_step) < before


@every_method
def test_laws_that_are_not_normal_are_refused_by_name(method: str) -> None:
    model = DeepMarkovModel(obs_dim=3, latent_dim=2, hidden_dim=4)
    bits = torch.zeros(2, 3, 3, dtype=torch.int64)
    told = r"expected normal laws of vectors from DeepMarkovModel\.emission, .* got Bernoulli with event shape \(3,\)"
    with pytest.raises(TypeError, match=told):
        kalman.filter(model, bits, method=method)
    normal = DeepMarkovModel(latent_dim=2, hidden_dim=4, emission=Gaussian(3))
    result = kalman.smooth(normal, torch.randn(2, 3, 3), method=method)
    assert result.smoothed_covs.isfinite().all()


@every_method
def test_an_observation_that_is_determined_is_an_error_at_its_step(method: str) -> None:
    class Known(SequenceModel):
        initial_memory = None

        def __init__(self) -> None:
            super().__init__(Gaussian(1))
            self.states = GaussianStates(1)

        def initial(self, h: Any) -> Any:
            return dist.Normal(torch.zeros(1), 1.0).to_event(1)

        def transition(self, z: Any, h: Any) -> Any:
            return dist.Delta(z, event_dim=1)

        def emission(self, z: Any, h: Any) -> Any:
            return dist.Delta(z, event_dim=1)

    with pytest.raises(CovarianceError, match="for sequence 0 at step 2"):
        kalman.filter(Known(), torch.ones(2, 3, 1), method=method)
