"""The functions of the engine, and their results."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.inference.kalman.kinds import GaussianStateModel, LinearGaussianModel
from pgm_rnn.inference.kalman.linearisation import METHODS
from pgm_rnn.inference.kalman.problem import prepared, reads_observations
from pgm_rnn.kernels import gaussian_backward
from pgm_rnn.kernels.diffuse_start import Diffuse
from pgm_rnn.randomness import seeded
from pgm_rnn.results import shown
from pgm_rnn.sequence_model.chains import Posterior, as_vectors, summed_out
from pgm_rnn.sequence_model.observations import check_inputs
from pgm_rnn.sequences import Data, last_of, length_mask


@dataclass(frozen=True)
class Filtered:
    """Result of `filter`; 0 in the padding.

    Attributes:
        moments: the moments that the filter computed; covariances that sequences share are stored once.
        lengths: steps of each sequence, (B,).
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "filtered_means")

    moments: gaussian_backward.Moments
    lengths: Tensor

    @property
    def log_marginal_likelihood(self) -> Tensor:
        """log p(x_{1:T}) in nats, (B,), of the linear model or of the linear approximation of a nonlinear one."""
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
    """Result of `smooth`: the result of `filter`, and moments given the whole sequence.

    Attributes:
        diffuse: the parts that a diffuse start adds to the moments, or None.
        scanned: whether smoothing goes by a scan over time, as the filter did.
        unrounded: the moments in double precision, from which smoothing goes back.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "smoothed_means")

    diffuse: Diffuse | None = None
    scanned: bool = False
    unrounded: gaussian_backward.Moments | None = None

    @property
    def _posterior(self) -> Posterior:
        return Posterior(self.moments, self.diffuse, self.scanned, self.unrounded)

    @cached_property
    def _backward(self) -> gaussian_backward.Smoothed:
        return self._posterior.smooth(self.lengths)

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

    def sample_states(self, num_samples: int, *, seed: int | None = None) -> Tensor:
        """Paths from p(z_{1:T} | x_{1:T}), (num_samples, B, T, D), 0 in the padding; as the function `sample_states`.

        Raises:
            ValueError: a sequence that does not determine a diffuse start.
        """
        with seeded(seed, stream=5):
            return self._posterior.sample_paths(self.lengths, num_samples)


class Forecast(NamedTuple):
    """Result of `forecast`: moments of what follows, n = 1..num_steps.

    Attributes:
        state_means: E(z_{L+n} | x_{1:L}), (B, num_steps, D).
        state_covs: Cov(z_{L+n} | x_{1:L}), (B, num_steps, D, D).
        means: E(x_{L+n} | x_{1:L}), (B, num_steps, M).
        covs: Cov(x_{L+n} | x_{1:L}), (B, num_steps, M, M).
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "means", "covs")

    state_means: Tensor
    state_covs: Tensor
    means: Tensor
    covs: Tensor


class Predicted(NamedTuple):
    """Result of `predict`: moments of p(x_t | x_{1:t-1}), the entries of scalar observations counted as one.

    Attributes:
        means: E(x_t | x_{1:t-1}), (B, T, M), 0 in the padding.
        covs: Cov(x_t | x_{1:t-1}), (B, T, M, M); not finite where a diffuse start leaves a variance without a bound.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "means", "covs")

    means: Tensor
    covs: Tensor


@torch.no_grad()
def filter(
    model: GaussianStateModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
    parallel: bool | None = None,
) -> Filtered:
    """Filtered moments of p(z_t | x_{1:t}) and the log marginal likelihood: Särkkä (2013), eq. (4.20)-(4.21).

    For method="extended" these are his alg. 5.4, for "unscented" his alg. 5.14, for "iterated" the filter of Bell &
    Cathey (1993); differences are in `linearisation` and `linearised_filter`.

    Args:
        model: with Gaussian states.
        x: a batch, observations (B, T, M), or one sequence (T, M), as any `Data`, NaN where one is missing.
        lengths: (B,) steps of each sequence, None for T.
        inputs: (B, T, U) for a model with inputs.
        mask: True where x was observed, (B, T) or (B, T, M), instead of NaN.
        method: "exact", the default for linear models; "extended", "unscented" or "iterated" for any model.
        parallel: whether to scan over time in O(log T) rounds (`pgm_rnn.kernels.kalman_scan`), which on a CPU is
            slower; None for a scan on CUDA. Only method="exact" from a proper start has one.

    Raises:
        TypeError: a model without Gaussian states.
        ValueError: observations that do not fit the model, a nonlinear model without a method, or a scan that there is
            none of.
        CovarianceError: a prediction whose covariance is not positive definite.
    """
    problem = prepared(model, x, lengths, inputs, mask, method)
    return Filtered(problem.filtered(parallel).moments, problem.data.lengths)


@torch.no_grad()
def smooth(
    model: GaussianStateModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
    parallel: bool | None = None,
) -> Smoothed:
    """Smoothed moments of p(z_t | x_{1:T}) and p(z_t, z_{t+1} | x_{1:T}): Särkkä (2013), eq. (8.6).

    Arguments and errors are those of `filter`.
    """
    problem = prepared(model, x, lengths, inputs, mask, method)
    result = problem.filtered(parallel)
    return Smoothed(result.moments, problem.data.lengths, *result[1:])


@by_keyword
@torch.no_grad()
def sample_states(
    model: GaussianStateModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    num_samples: int = 1,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
    seed: int | None = None,
    parallel: bool | None = None,
) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}), filtered forward and drawn backward: (num_samples, B, T, D), 0 in the padding.

    Arguments and errors are those of `filter`; `num_samples` is the number of paths for each sequence, and `seed` makes
    the draws reproducible (None uses torch's global generator). Source: Carter & Kohn (1994).

    Raises:
        TypeError, ValueError: as `filter`, num_samples below 1, or a sequence that does not determine a diffuse start.
    """
    check_counts(num_samples=num_samples)
    problem = prepared(model, x, lengths, inputs, mask, method)
    result = problem.filtered(parallel)
    with seeded(seed, stream=5):
        return result.sample_paths(problem.data.lengths, num_samples)


@torch.no_grad()
def predict(
    model: LinearGaussianModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> Predicted:
    """Moments of the normal laws p(x_t | x_{1:t-1}), C m + d and C P C' + R: Särkkä (2013), eq. (4.20).

    Arguments and errors are those of `filter`, for a linear model. A law has all entries of x_t, observed or not.
    """
    problem = prepared(model, x, lengths, inputs, mask, None)
    chained, moments = problem.chained(), problem.filtered().moments
    chain = chained.chain.with_all_axes()
    C, inside = chain.emission_matrix, length_mask(problem.data.lengths, chained.x.shape[1])[..., None]
    offset = as_vectors(problem.data.x) - chained.x  # d_t, for x is centred by it
    means = (C @ moments.predicted_means[..., None])[..., 0] + offset
    covs = C @ moments.predicted_covs @ C.mT + chain.emission_cov
    return Predicted(means.where(inside, 0.0), covs.expand(*means.shape[:2], -1, -1))


@torch.no_grad()
def forecast(
    model: GaussianStateModel,
    x: Data,
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
        x: a batch, observations (B, T, M), or one sequence (T, M), as any `Data`, NaN where one is missing.
        num_steps: number of steps to forecast, at least 1.
        lengths: (B,) steps of each sequence, None for T.
        inputs: (B, T, U) for a model with inputs.
        future_inputs: inputs of the steps to forecast, (B, num_steps, U).
        mask: as in `filter`.
        method: as in `filter`.

    Raises:
        TypeError, ValueError: as `filter`, num_steps below 1, a model that reads its own observations, or a sequence
            that does not determine a diffuse start.
    """
    check_counts(num_steps=num_steps)
    problem = prepared(model, x, lengths, inputs, mask, method)
    x = problem.data.x
    future_inputs = check_inputs(future_inputs, model.input_dim, x.new_empty(len(x), num_steps), name="future_inputs")
    if reads_observations(model):
        raise ValueError(
            f"expected a model that does not read its own observations, got {type(model).__name__}; use model.forecast"
        )
    posterior = problem.filtered()
    posterior.check_determined(problem.data.lengths)
    result = Filtered(posterior.moments, problem.data.lengths)
    mean, cov = (last_of(moments, result.lengths) for moments in (result.filtered_means, result.filtered_covs))
    linearise = METHODS["extended" if problem.method == "exact" else problem.method].linearise
    transition, emission, steps = problem.transition(), problem.emission(), []
    for t in range(num_steps):
        h = None if future_inputs is None else future_inputs[:, t]
        step = linearise(transition, h, mean, cov)
        mean, cov = step.mean, step.matrix @ cov @ step.matrix.mT + step.cov
        seen = linearise(emission, h, mean, cov)
        steps.append((mean, cov, seen.mean, seen.matrix @ cov @ seen.matrix.mT + seen.cov))
    return Forecast(*(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True)))


def log_marginal_likelihood(
    model: GaussianStateModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    method: str | None = None,
) -> Tensor:
    """log p(x_{1:T}) in nats, (B,), with gradients for training; arguments and errors are those of `filter`."""
    problem = prepared(model, x, lengths, inputs, mask, method)
    if problem.method == "exact":
        return summed_out(problem.chained(), "model")
    return problem.filtered().moments.log_normalizers.sum(-1)
