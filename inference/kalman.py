"""Inference in state-space models with Gaussian states: the Kalman filter, its smoother, and their nonlinear kin.

    filter          p(z_t | x_{1:t}),  p(z_t | x_{1:t-1}),  log p(x_{1:T})
    smooth          p(z_t | x_{1:T}),  Cov(z_t, z_{t+1} | x_{1:T})           (Rauch, Tung & Striebel, 1965)
    sample_states   z_{1:T} ~ p(z_{1:T} | x_{1:T})
    forecast        p(z_{L+n}, x_{L+n} | x_{1:L})

Exact for a `LinearGaussianSSM`. For a `NoisyRNN`, method="extended" or "unscented" replaces every transition and
emission by a linear one (`pgm_rnn.inference.linearisation`); the rest is the same. Missing observations are NaN, or
where a mask is False; a NaN that a mask calls observed is an error. Source: Vidal (2024), "Extended Kalman Filters for
RNNs".
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.inference import linearised_filter
from pgm_rnn.inference.linearisation import METHODS
from pgm_rnn.kernels import gaussian_backward, kalman
from pgm_rnn.observations import check_inputs, check_mask
from pgm_rnn.randomness import seeded
from pgm_rnn.sequences import as_sequences, length_mask


@runtime_checkable
class GaussianStateModel(Protocol):
    """What the engine needs to know of a model."""

    input_dim: int | None

    @property
    def initial_mean(self) -> Tensor:
        """E(z_1), (D,)."""

    @property
    def initial_cov(self) -> Tensor:
        """Cov(z_1), (D, D)."""

    @property
    def transition_cov(self) -> Tensor:
        """Cov(z_t | z_{t-1}), (D, D)."""

    @property
    def emission_cov(self) -> Tensor:
        """Cov(x_t | z_t), (M, M)."""

    def transition_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """E(z_t | z_{t-1} = z, h_t = h), (..., D)."""

    def emission_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """E(x_t | z_t = z, h_t = h), (..., M)."""

    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor | None:
        """h_1, ..., h_T, (B, T, U): inputs or earlier observations."""

    def check(self, x: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Valid observations and explicit lengths."""


@runtime_checkable
class LinearGaussianModel(GaussianStateModel, Protocol):
    """A model to which the recursions apply exactly."""

    def chain(self, inputs: Tensor | None = None) -> kalman.GaussianChain:
        """Its parameters as the kernels take them."""

    def centred(self, x: Tensor, inputs: Tensor | None = None) -> Tensor:
        """x_t minus what inputs add to it."""


class CovarianceError(ValueError):
    """The covariance of a prediction is not positive definite."""


@dataclass(frozen=True)
class Filtered:
    """Result of `filter`; 0 in the padding.

    Attributes:
        moments: what the filter computed, covariances once where sequences share them.
        lengths: (B,).
    """

    moments: gaussian_backward.Moments
    lengths: Tensor

    @property
    def log_marginal_likelihood(self) -> Tensor:
        """log p(x_{1:T}) in nats, (B,); that of the linear model which stands in, for a nonlinear one."""
        return self.moments.log_normalizers.sum(-1)

    @property
    def log_normalizers(self) -> Tensor:
        """log p(x_t | x_{1:t-1}) in nats, (B, T)."""
        return self.moments.log_normalizers

    @property
    def filtered_means(self) -> Tensor:
        """E(z_t | x_{1:t}), (B, T, D)."""
        return self.moments.filtered_means

    @cached_property
    def filtered_covs(self) -> Tensor:
        """Cov(z_t | x_{1:t}), (B, T, D, D)."""
        return self._of_each_sequence(self.moments.filtered_covs)

    @property
    def predicted_means(self) -> Tensor:
        """E(z_t | x_{1:t-1}), (B, T, D)."""
        return self.moments.predicted_means

    @cached_property
    def predicted_covs(self) -> Tensor:
        """Cov(z_t | x_{1:t-1}), (B, T, D, D)."""
        return self._of_each_sequence(self.moments.predicted_covs)

    def _of_each_sequence(self, covs: Tensor) -> Tensor:
        num_steps = covs.shape[1]
        if bool((self.lengths == num_steps).all()):
            return covs.expand(len(self.lengths), -1, -1, -1)
        return covs.where(length_mask(self.lengths, num_steps)[..., None, None], 0.0)


@dataclass(frozen=True)
class Smoothed(Filtered):
    """Result of `smooth`: that of `filter`, and what the whole sequence says."""

    @cached_property
    def _backward(self) -> gaussian_backward.Smoothed:
        return gaussian_backward.smooth(self.moments, self.lengths)

    @property
    def smoothed_means(self) -> Tensor:
        """E(z_t | x_{1:T}), (B, T, D)."""
        return self._backward.means

    @property
    def smoothed_covs(self) -> Tensor:
        """Cov(z_t | x_{1:T}), (B, T, D, D)."""
        return self._backward.covs[self._backward.rows]

    @property
    def pairwise_covs(self) -> Tensor:
        """Cov(z_t, z_{t+1} | x_{1:T}), (B, T - 1, D, D), rows z_t, columns z_{t+1}."""
        return self._backward.pairwise[self._backward.rows]


class Forecast(NamedTuple):
    """Result of `forecast`: moments of what follows, n = 1..num_steps.

    Attributes:
        state_means: E(z_{L+n} | x_{1:L}), (B, num_steps, D).
        state_covs: Cov(z_{L+n} | x_{1:L}), (B, num_steps, D, D).
        means: E(x_{L+n} | x_{1:L}), (B, num_steps, M).
        covs: Cov(x_{L+n} | x_{1:L}), (B, num_steps, M, M).
    """

    state_means: Tensor
    state_covs: Tensor
    means: Tensor
    covs: Tensor


@torch.no_grad()
def filter(
    model: GaussianStateModel,
    x: Tensor,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
) -> Filtered:
    """Filtered moments of p(z_t | x_{1:t}) and the log marginal likelihood.

    Args:
        model: with Gaussian states.
        x: observations (B, T, M), NaN where one is missing.
        lengths: (B,) steps of each sequence, None for T.
        inputs: (B, T, U) for a model with inputs.
        mask: True where x was observed, (B, T) or (B, T, M), instead of NaN.
        method: "exact" for a linear model, its default; "extended" or "unscented" for any.

    Raises:
        TypeError: a model without Gaussian states.
        ValueError: observations that do not fit the model, a model that is not linear without a method.
        CovarianceError: a prediction without a positive definite covariance.
    """
    problem = _prepared(model, x, lengths, inputs, mask, method)
    return Filtered(problem.moments(), problem.lengths)


@torch.no_grad()
def smooth(
    model: GaussianStateModel,
    x: Tensor,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
) -> Smoothed:
    """Smoothed moments of p(z_t | x_{1:T}), and those of neighbours; arguments and errors as `filter`."""
    problem = _prepared(model, x, lengths, inputs, mask, method)
    return Smoothed(problem.moments(), problem.lengths)


@torch.no_grad()
def sample_states(
    model: GaussianStateModel,
    x: Tensor,
    lengths: Tensor | None = None,
    num_samples: int = 1,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
    seed: int | None = None,
) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}), filtered forward and drawn backward: (num_samples, B, T, D), 0 in the padding.

    Arguments and errors as `filter`; `seed` makes the draws reproducible, None uses torch's global generator.
    """
    check_counts(num_samples=num_samples)
    problem = _prepared(model, x, lengths, inputs, mask, method)
    moments = problem.moments()
    with seeded(seed, stream=5):
        noise = torch.randn(num_samples, *moments.filtered_means.shape, dtype=problem.x.dtype).to(problem.x.device)
    return gaussian_backward.sample_paths(moments, problem.lengths, noise)


@torch.no_grad()
def forecast(
    model: GaussianStateModel,
    x: Tensor,
    num_steps: int,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    future_inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
) -> Forecast:
    """Moments of the states and observations that follow each sequence.

    Args:
        model: with Gaussian states, not driven by its own observations.
        x: observations (B, T, M), NaN where one is missing.
        num_steps: how far to go, at least 1.
        lengths: (B,) steps of each sequence, None for T.
        inputs: (B, T, U) for a model with inputs.
        future_inputs: what follows them, (B, num_steps, U).
        mask: as in `filter`.
        method: as in `filter`.

    Raises:
        TypeError, ValueError: as `filter`.
    """
    check_counts(num_steps=num_steps)
    problem = _prepared(model, x, lengths, inputs, mask, method)
    future_inputs = check_inputs(future_inputs, model.input_dim, problem.x.new_empty(len(problem.x), num_steps))
    if _reads_observations(model):
        raise ValueError("expected a model that does not read its own observations; draw from model.forecast instead")
    result = Filtered(problem.moments(), problem.lengths)
    index, last = torch.arange(len(problem.lengths)), problem.lengths - 1
    mean, cov = result.filtered_means[index, last], result.filtered_covs[index, last]
    linearise, steps = METHODS["extended" if problem.method == "exact" else problem.method], []
    for t in range(num_steps):
        h = None if future_inputs is None else future_inputs[:, t]
        step = linearise(model.transition_mean, h, mean, cov)
        mean, cov = step.mean, step.matrix @ cov @ step.matrix.mT + step.cov + model.transition_cov
        seen = linearise(model.emission_mean, h, mean, cov)
        steps.append((mean, cov, seen.mean, seen.matrix @ cov @ seen.matrix.mT + seen.cov + model.emission_cov))
    return Forecast(*(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True)))


def log_marginal_likelihood(
    model: GaussianStateModel,
    x: Tensor,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
) -> Tensor:
    """log p(x_{1:T}) in nats, (B,), with gradients, to train a model by; arguments and errors as `filter`."""
    problem = _prepared(model, x, lengths, inputs, mask, method)
    if problem.method == "exact":
        assert isinstance(model, LinearGaussianModel)
        centred = model.centred(problem.x, problem.inputs)
        return kalman.log_marginal_likelihood(model.chain(problem.inputs), centred, problem.lengths, problem.observed)
    return problem.moments().log_normalizers.sum(-1)


class _Problem(NamedTuple):
    """Checked arguments."""

    model: GaussianStateModel
    x: Tensor
    lengths: Tensor
    inputs: Tensor | None
    observed: Tensor | None
    method: str

    def moments(self) -> gaussian_backward.Moments:
        """The filter's moments."""
        return self._exact() if self.method == "exact" else self._linearised()

    def _exact(self) -> gaussian_backward.Moments:
        assert isinstance(self.model, LinearGaussianModel)
        chain, x = self.model.chain(self.inputs), self.model.centred(self.x, self.inputs)
        result, full = kalman.filter(chain, x, self.lengths, self.observed), chain.with_all_axes()
        check_finite(result.log_normalizers)
        transition = (full.transition_matrix.detach(), full.transition_cov.detach())
        return gaussian_backward.Moments(*result[:5], *transition)

    def _linearised(self) -> gaussian_backward.Moments:
        inside = length_mask(self.lengths, self.x.shape[1])
        observed = inside[..., None].expand(self.x.shape)
        if self.observed is not None:
            observed = observed & self.observed
        driver = self.model.unroll_memory(self.x, None, self.inputs)
        moments = linearised_filter.run(self.model, self.x, observed, driver, METHODS[self.method])
        return moments._replace(
            log_normalizers=moments.log_normalizers.where(inside, 0.0),
            predicted_means=moments.predicted_means.where(inside[..., None], 0.0),
            filtered_means=moments.filtered_means.where(inside[..., None], 0.0),
        )


def checked(
    model: GaussianStateModel, x: Tensor, lengths: Tensor | None, inputs: Tensor | None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Valid observations, lengths, inputs, and where an entry was observed (None: everywhere); errors as `filter`."""
    if not isinstance(model, GaussianStateModel):
        raise TypeError(
            f"kalman needs a model with Gaussian states, {type(model).__name__} has none; "
            "forward_backward takes finitely many states, svi.evaluate a model without latent states"
        )
    given, given_lengths, _ = as_sequences(x, lengths)
    observed = _observed(given, given_lengths, mask)
    x, lengths = model.check(given, given_lengths, observed)
    if observed is not None and _reads_observations(model):
        raise ValueError(
            f"expected every observation, for {type(model).__name__} reads it at the next step, got missing ones; "
            "fill them in"
        )
    return x, lengths, check_inputs(inputs, model.input_dim, x), observed


def _prepared(
    model: GaussianStateModel,
    x: Tensor,
    lengths: Tensor | None,
    inputs: Tensor | None,
    mask: Tensor | None,
    method: str | None,
) -> _Problem:
    x, lengths, inputs, observed = checked(model, x, lengths, inputs, mask)
    linear = isinstance(model, LinearGaussianModel)
    if method is None and not linear:
        raise ValueError(
            f"expected method='extended' or 'unscented' for {type(model).__name__}, which is not linear, got None"
        )
    method = method or "exact"
    check_choice("method", method, (*(("exact",) if linear else ()), *METHODS))
    return _Problem(model, x, lengths, inputs, observed, method)


def _observed(x: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor | None:
    """True where an entry was observed, the shape of x; None where every one was."""
    if mask is not None:
        return kalman.per_entry(check_mask(mask, x), x)
    if not x.is_floating_point():
        return None
    missing = x.isnan() & length_mask(lengths, x.shape[1])[(...,) + (None,) * (x.dim() - 2)]
    return ~missing if bool(missing.any()) else None


def _reads_observations(model: GaussianStateModel) -> bool:
    return getattr(model, "initial_memory", None) is not None


def check_finite(log_normalizers: Tensor) -> None:
    """Raise a `CovarianceError` that says where, if a prediction had no positive definite covariance."""
    failed = log_normalizers.isnan()
    if bool(failed.any()):
        sequence, step = failed.nonzero()[0].tolist()
        raise CovarianceError(
            f"expected predictions with positive definite covariances, that of sequence {sequence} at step {step + 1} "
            "is not; use float64, or larger variances"
        )
