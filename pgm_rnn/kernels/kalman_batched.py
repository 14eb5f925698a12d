"""The Kalman recursions in torch, for all sequences at once: for large matrices, and for GPUs.

Functions and arguments are those of `pgm_rnn.kernels.kalman_compiled`.
"""

import math

import torch
from torch import Tensor

from pgm_rnn.sequences import length_mask


def covariances(
    initial_cov: Tensor,
    transition_matrix: Tensor,
    transition_cov: Tensor,
    emission_matrix: Tensor,
    emission_cov: Tensor,
    predicted: Tensor,
    filtered: Tensor,
    gain: Tensor,
    precision: Tensor,
    log_det: Tensor,
    steady: Tensor,
) -> None:
    """Fill covariances, gains, and the innovations' precisions and log determinants; `steady` is left alone.

    Source: the covariances of Särkkä (2013), eq. (4.20)-(4.21), updated in Joseph's form.
    """
    identity = torch.eye(predicted.shape[-1], dtype=predicted.dtype, device=predicted.device)
    p = initial_cov.expand(predicted[:, 0].shape)
    for t in range(predicted.shape[1]):
        c, r = _at(emission_matrix, t), _at(emission_cov, t)
        if t > 0:
            a = _at(transition_matrix, t - 1)
            p = _symmetric(a @ filtered[:, t - 1] @ a.mT + _at(transition_cov, t - 1))
        cross = p @ c.mT
        factor, failed = torch.linalg.cholesky_ex(c @ cross + r)
        factor = factor.where((failed == 0)[:, None, None], torch.nan)
        inverse = torch.cholesky_inverse(factor)
        k = cross @ inverse
        rest = identity - k @ c
        filtered[:, t] = _symmetric(rest @ p @ rest.mT + k @ r @ k.mT)
        predicted[:, t], gain[:, t], precision[:, t] = p, k, inverse
        log_det[:, t] = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def means(
    initial_mean: Tensor,
    transition_matrix: Tensor,
    state_offset: Tensor,
    emission_matrix: Tensor,
    x: Tensor,
    lengths: Tensor,
    gain: Tensor,
    precision: Tensor,
    log_det: Tensor,
    predicted: Tensor,
    filtered: Tensor,
    weighted: Tensor,
    log_normalizers: Tensor,
) -> None:
    """Fill means (B, T, D), precision times innovation (B, T, M), log p(x_t | x_{1:t-1}) (B, T); 0 in the padding.

    Source: the means of Särkkä (2013), eq. (4.20)-(4.21).
    """
    constant = x.shape[2] * math.log(2 * math.pi)
    m = initial_mean.expand(len(x), -1)
    for t in range(x.shape[1]):
        if t > 0:
            m = _times(_at(transition_matrix, t - 1), filtered[:, t - 1]) + _at(state_offset, t - 1)
        v = x[:, t] - _times(_at(emission_matrix, t), m)
        predicted[:, t], weighted[:, t] = m, _times(precision[:, t], v)
        filtered[:, t] = m + _times(gain[:, t], v)
        log_normalizers[:, t] = -0.5 * (log_det[:, t] + torch.linalg.vecdot(weighted[:, t], v) + constant)
    outside = ~length_mask(lengths, x.shape[1])
    log_normalizers.masked_fill_(outside, 0.0)
    for tensor in (predicted, filtered, weighted):
        tensor.masked_fill_(outside[..., None], 0.0)


def information(
    transition_matrix: Tensor,
    emission_matrix: Tensor,
    gain: Tensor,
    precision: Tensor,
    groups: Tensor,
    lengths: Tensor,
    future: Tensor,
    inner_precision: Tensor,
) -> None:
    """Fill N_t (S, T, D, D) and D_t (S, T, M, M), zero in the padding: Durbin & Koopman (2012), sec. 4.4 and 4.5."""
    num_steps = future.shape[1]
    mask = length_mask(lengths, num_steps)
    ahead = torch.zeros_like(future[:, 0])
    for t in range(num_steps - 1, -1, -1):
        k, c = gain[groups, t], _at(emission_matrix, t)
        if t < num_steps - 1:
            a = _at(transition_matrix, t)
            ahead = a.mT @ future[:, t + 1] @ a
        wide, inside = ahead @ k, mask[:, t, None, None]
        inner_precision[:, t] = (precision[groups, t] + k.mT @ wide).where(inside, 0.0)
        back = inner_precision[:, t] @ c - wide.mT
        future[:, t] = _symmetric(ahead + c.mT @ back - wide @ c)


def scores(
    transition_matrix: Tensor,
    emission_matrix: Tensor,
    gain: Tensor,
    filtered_covs: Tensor,
    filtered_means: Tensor,
    weighted: Tensor,
    lengths: Tensor,
    score: Tensor,
    residual: Tensor,
    smoothed: Tensor,
    sums: Tensor,
) -> None:
    """Fill l_t (B, T, D), e_t (B, T, M) and smoothed means: Durbin & Koopman (2012), sec. 4.4-4.5; `sums` stays."""
    num_steps = score.shape[1]
    ahead = torch.zeros_like(score[:, 0])
    for t in range(num_steps - 1, -1, -1):
        if t < num_steps - 1:
            ahead = _times(_at(transition_matrix, t).mT, score[:, t + 1])
        residual[:, t] = weighted[:, t] - _times(gain[:, t].mT, ahead)
        score[:, t] = ahead + _times(_at(emission_matrix, t).mT, residual[:, t])
        smoothed[:, t] = filtered_means[:, t] + _times(filtered_covs[:, t], ahead)


def _at(parameter: Tensor, t: int) -> Tensor:
    return parameter[:, t % parameter.shape[1]]


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """matrix (1 or B, N, D) times vector (B, D): (B, N)."""
    return vector @ matrix[0].mT if len(matrix) == 1 else (matrix @ vector[..., None])[..., 0]


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)


def smoothed_covs(
    gain: Tensor, conditional_cov: Tensor, filtered_covs: Tensor, groups: Tensor, lengths: Tensor, out: Tensor
) -> None:
    """Fill Cov(z_t | x_{1:T}) (S, T, D, D), zero in the padding: Särkkä (2013), eq. (8.6).

    Row s belongs to group `groups[s]`.
    """
    out[:, -1] = cov = filtered_covs[groups, -1]
    for t in range(out.shape[1] - 2, -1, -1):
        j = gain[groups, t]
        cov = _symmetric(j @ cov @ j.mT + conditional_cov[groups, t])
        cov = cov.where((t < lengths - 1)[:, None, None], filtered_covs[groups, t])
        out[:, t] = cov
    out.masked_fill_(~length_mask(lengths, out.shape[1])[..., None, None], 0.0)


def smoothed_means(gain: Tensor, predicted_means: Tensor, filtered_means: Tensor, lengths: Tensor, out: Tensor) -> None:
    """Fill E(z_t | x_{1:T}) (B, T, D), zero in the padding: Särkkä (2013), eq. (8.6)."""
    out.copy_(filtered_means)
    for t in range(out.shape[1] - 2, -1, -1):
        ahead = _times(gain[:, t], out[:, t + 1] - predicted_means[:, t + 1])
        out[:, t] += ahead.where((t < lengths - 1)[:, None], 0.0)
