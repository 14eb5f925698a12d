"""The steps of a Kalman filter for any number of chains at once; a missing entry of an observation is NaN.

    predicted   N(A m + b, A P A' + Q)
    updated     x ~ N(C y + d, R),   y ~ N(m, P):   log N(x; C m + d, S),  S = C P C' + R,   and the law of y given x
                K = P C' S^{-1},   m + K (x - C m - d),   (I - K C) P (I - K C)' + K R K'      (Joseph's form)

All arguments broadcast over their batch axes. Source: Särkkä (2013), eq. (4.20)-(4.21).
"""

import math

import torch
from torch import Tensor

from pgm_rnn.kernels.not_numbers import has_nan
from pgm_rnn.kernels.small_matrices import cholesky, solve, solve_transposed

_LOG_TWO_PI = math.log(2 * math.pi)


def predicted(mean: Tensor, cov: Tensor, matrix: Tensor, offset: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Moments after a move: from m (*batch, D), P (*batch, D, D), A, b and Q."""
    return (matrix @ mean[..., None])[..., 0] + offset, matrix @ cov @ matrix.mT + noise


def log_density(mean: Tensor, cov: Tensor, x: Tensor) -> Tensor:
    """log N(x_o; m_o, S_oo) of the entries o that are not NaN, (*batch), nats; NaN where S is not positive definite."""
    there = _there(x)
    x, cov = _without_missing(mean, cov, x, there)
    factor = cholesky(cov)
    white = solve(factor, x[..., None])[..., 0]
    return _density(factor, white, there)


def updated(
    mean: Tensor, cov: Tensor, matrix: Tensor, offset: Tensor, noise: Tensor, x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x) (*batch), and the moments of y given x, from m (*batch, D), P (*batch, D, D), C, d, R and x (*batch, M).

    All are NaN where S is not positive definite.
    """
    seen = (matrix @ mean[..., None])[..., 0] + offset
    there = _there(x)
    if there is not None:
        matrix = matrix.where(there[..., None], 0.0)
    deviation, total = _without_missing(seen, matrix @ cov @ matrix.mT + noise, x, there)
    factor = cholesky(total)
    gain = solve_transposed(factor, solve(factor, matrix @ cov)).mT  # (*batch, D, M)
    white = solve(factor, deviation[..., None])[..., 0]
    rest = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device) - gain @ matrix
    after = rest @ cov @ rest.mT + gain @ noise @ gain.mT
    moved = mean + (gain @ deviation[..., None])[..., 0]
    return _density(factor, white, there), moved, 0.5 * (after + after.mT)


def _there(x: Tensor) -> Tensor | None:
    """Which entries are not NaN, the shape of x; None for all."""
    return ~x.isnan() if has_nan(x) else None


def _without_missing(mean: Tensor, cov: Tensor, x: Tensor, there: Tensor | None) -> tuple[Tensor, Tensor]:
    """x - m and S, zeros and unit variances in place of what is missing."""
    if there is None:
        return x - mean, cov
    both = there[..., None] & there[..., None, :]
    return (x - mean).where(there, 0.0), cov.where(both, torch.diag_embed((~there).to(cov.dtype)))


def _density(factor: Tensor, white: Tensor, there: Tensor | None) -> Tensor:
    size = factor.shape[-1] if there is None else there.sum(-1)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * (white.square().sum(-1) + size * _LOG_TWO_PI) - log_det
