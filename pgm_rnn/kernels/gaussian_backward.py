"""The backward pass after a Gaussian filter: smoothed moments and draws of whole paths.

    p(z_t | z_{t+1}, x_{1:t}) = N(E(z_t | x_{1:t}) + J_t (z_{t+1} - E(z_{t+1} | x_{1:t})), S_t)
    J_t = Cov(z_t | x_{1:t}) A' Cov(z_{t+1} | x_{1:t})^{-1}
    S_t = (I - J_t A) Cov(z_t | x_{1:t}) (I - J_t A)' + J_t Q J_t'        positive definite by its form

Where Q is singular, so may be Cov(z_{t+1} | x_{1:t}); then its inverse is a generalised one (`singular`).

Sources: Rauch, Tung & Striebel (1965); Särkkä (2013), eq. (8.6), with the covariance in another form.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import doors, kalman, singular


class Moments(NamedTuple):
    """Result of any Gaussian filter; the first axis of covariances and of the transition is 1 where it is shared.

    Attributes:
        log_normalizers: log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding.
        predicted_means: E(z_t | x_{1:t-1}), (B, T, D), 0 in the padding.
        predicted_covs: (1 or B, T, D, D).
        filtered_means: E(z_t | x_{1:t}), (B, T, D), 0 in the padding.
        filtered_covs: (1 or B, T, D, D).
        transition_matrix: A of the transition or of its linear approximation, (1 or B, 1 or T - 1, D, D).
        transition_cov: Q, likewise, plus the variance that the approximation leaves.
    """

    log_normalizers: Tensor
    predicted_means: Tensor
    predicted_covs: Tensor
    filtered_means: Tensor
    filtered_covs: Tensor
    transition_matrix: Tensor
    transition_cov: Tensor


class Backward(NamedTuple):
    """The law of a state given the next one.

    Attributes:
        gain: J_t, (1 or B, T - 1, D, D).
        cov: S_t, (1 or B, T - 1, D, D).
    """

    gain: Tensor
    cov: Tensor


class Smoothed(NamedTuple):
    """Smoothed moments, 0 in the padding.

    Attributes:
        means: E(z_t | x_{1:T}), (B, T, D).
        covs: Cov(z_t | x_{1:T}), one row per distinct pair of covariances and length, (S, T, D, D).
        rows: the row of each sequence, (B,).
        pairwise: Cov(z_t, z_{t+1} | x_{1:T}), (S, T - 1, D, D).
    """

    means: Tensor
    covs: Tensor
    rows: Tensor
    pairwise: Tensor


def filtered(chain: kalman.GaussianChain, x: Tensor, lengths: Tensor, observed: Tensor | None = None) -> Moments:
    """The moments that the Kalman filter computes; arguments and errors are those of `kalman.filter`."""
    result, full = kalman.filter(chain, x, lengths, observed), chain.with_all_axes()
    return Moments(
        result.log_normalizers,
        result.predicted_means,
        result.predicted_covs,
        result.filtered_means,
        result.filtered_covs,
        full.transition_matrix.detach(),
        full.transition_cov.detach(),
    )


def backward(moments: Moments) -> Backward:
    """p(z_t | z_{t+1}, x_{1:t}) of each state; J_t is the gain G of Särkkä (2013), eq. (8.6).

    Raises:
        TypeError: moments of different dtypes.
        ValueError: moments whose shapes or devices do not fit each other.
    """
    moments = doors.moments(moments)
    A, cov = moments.transition_matrix, moments.filtered_covs[:, :-1]
    factor, failed = torch.linalg.cholesky_ex(moments.predicted_covs[:, 1:])
    if singular.is_regular(moments.transition_cov) and not bool(failed.any()):
        gain = torch.cholesky_solve(A @ cov, factor).mT
    else:
        unit = singular.units(moments.predicted_covs)[:, 1:]
        gain = cov @ A.mT @ singular.generalised_inverse(moments.predicted_covs[:, 1:], unit)
    rest = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device) - gain @ A
    conditional = rest @ cov @ rest.mT + gain @ moments.transition_cov @ gain.mT
    return Backward(gain, 0.5 * (conditional + conditional.mT))


def smooth(moments: Moments, lengths: Tensor) -> Smoothed:
    """The Rauch-Tung-Striebel smoother: Särkkä (2013), eq. (8.6).

    Cov(z_t, z_{t+1} | x_{1:T}) = J_t Cov(z_{t+1} | x_{1:T}) equals the lag-one covariance that Shumway & Stoffer (1982)
    compute by the recursion (A12)-(A13).

    Raises:
        TypeError: moments of different dtypes.
        ValueError: moments and lengths that do not fit each other.
    """
    moments = doors.moments(moments, lengths)
    law, filtered = backward(moments), moments.filtered_covs
    rows, groups, ends = kalman.distinct(lengths, len(filtered))
    means = smoothed_means(law, moments.predicted_means, moments.filtered_means, lengths)
    covs = filtered.new_empty(len(ends), *filtered.shape[1:])
    kalman.recursion(means, means.shape[-1]).smoothed_covs(law.gain, law.cov, filtered, groups, ends, covs)
    return Smoothed(means, covs, rows, law.gain[groups] @ covs[:, 1:])


def smoothed_means(law: Backward, predicted_means: Tensor, filtered_means: Tensor, lengths: Tensor) -> Tensor:
    """Means given all observations, (B, T, D), with the filtered ones in the padding: Särkkä (2013), eq. (8.6).

    Args:
        law: the law of a state given the next one; its first axis is 1 or B.
        predicted_means: (B, T, D).
        filtered_means: (B, T, D).
        lengths: steps of each sequence, (B,).

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    batch, num_steps, dim = doors.main_tensor("filtered_means", filtered_means, "B, T, D")
    doors.tensor("predicted_means", predicted_means, filtered_means, batch, num_steps, dim)
    doors.tensor("the gain", law.gain, filtered_means, (1, batch), num_steps - 1, dim, dim)
    doors.lengths(lengths, filtered_means, batch, num_steps)
    gain, predicted_means, filtered_means = (part.contiguous() for part in (law.gain, predicted_means, filtered_means))
    means = torch.empty_like(filtered_means)
    kalman.recursion(means, dim).smoothed_means(gain, predicted_means, filtered_means, lengths, means)
    return means


def sample_paths(moments: Moments, lengths: Tensor, noise: Tensor) -> Tensor:
    """Paths from p(z_{1:T} | x_{1:T}), drawn from the last state to the first: Carter & Kohn (1994).

    Args:
        moments: the result of a filter.
        lengths: steps of each sequence, (B,).
        noise: standard normal, (num_samples, B, T, D): the same noise gives the same paths.

    Returns:
        (num_samples, B, T, D), 0 in the padding.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    moments = doors.moments(moments, lengths)
    doors.tensor("noise", noise, moments.filtered_means, doors.ANY, *moments.filtered_means.shape)
    law, num_steps = backward(moments), noise.shape[2]
    last_roots, roots = root_of(moments.filtered_covs), root_of(law.cov)
    paths = torch.zeros_like(noise)
    for t in range(num_steps - 1, -1, -1):
        final = (last_roots[:, t] @ noise[:, :, t, :, None])[..., 0]
        if t < num_steps - 1:
            ahead = paths[:, :, t + 1] - moments.predicted_means[:, t + 1]
            between = (law.gain[:, t] @ ahead[..., None] + roots[:, t] @ noise[:, :, t, :, None])[..., 0]
            final = between.where((t < lengths - 1)[:, None], final)
        paths[:, :, t] = (moments.filtered_means[:, t] + final).where((t < lengths)[:, None], 0.0)
    return paths


def root_of(cov: Tensor) -> Tensor:
    """A square root L of each covariance, L L' = cov (*batch, D, D), without what rounding adds to a singular one."""
    factor, failed = torch.linalg.cholesky_ex(cov)
    pivots, variances = factor.diagonal(dim1=-2, dim2=-1).square(), cov.diagonal(dim1=-2, dim2=-1)
    least = singular.THRESHOLD * cov.shape[-1] * torch.finfo(cov.dtype).eps
    if not bool(failed.any()) and bool((pivots > least * variances).all()):
        return factor
    unit = variances.clamp(min=0).sqrt()
    unit = unit.where(unit > 0, 1.0)
    values, vectors = torch.linalg.eigh(cov / (unit[..., :, None] * unit[..., None, :]))
    return unit[..., :, None] * vectors * values.where(values > least, 0.0).sqrt()[..., None, :]
