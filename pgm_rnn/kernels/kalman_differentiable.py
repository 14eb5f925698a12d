"""log p(x_{1:T}) of a linear-Gaussian chain by torch operations alone, differentiable as often as autograd is asked.

    v_t = x_t - C m_t,   F_t = C P_t C' + R,   log p(x_{1:T}) = -1/2 sum_t log det(2 pi F_t) + v_t' F_t^{-1} v_t

Särkkä (2013), eq. (4.20)-(4.21); symbols as in `pgm_rnn.kernels.kalman`. It computes in float64.
"""

import math

import torch
from torch import Tensor

from pgm_rnn.sequences import length_mask


def log_marginal_likelihood(x: Tensor, lengths: Tensor, *chain: Tensor) -> Tensor:
    """log p(x_{1:T}), (B,), nats, NaN where F_t is not positive definite; arguments are those of `whitened`."""
    white, log_det = whitened(x, lengths, *chain)
    constant = x.shape[2] * math.log(2 * math.pi)
    inside = length_mask(lengths, x.shape[1])
    return -0.5 * (white.square().sum(-1) + (log_det + constant).where(inside, 0.0)).sum(-1).to(x.dtype)


def whitened(
    x: Tensor,
    lengths: Tensor,
    initial_mean: Tensor,
    initial_cov: Tensor,
    transition_matrix: Tensor,
    transition_cov: Tensor,
    emission_matrix: Tensor,
    emission_cov: Tensor,
    state_offset: Tensor,
) -> tuple[Tensor, Tensor]:
    """L_t^{-1} v_t, (B, T, M), 0 in the padding, and log det F_t, (1 or B, T), for F_t = L_t L_t', in float64.

    Both are NaN where F_t is not positive definite; parameters have all of their axes.
    """
    mask = length_mask(lengths, x.shape[1])
    A, Q, C, R, b = (
        part.double() for part in (transition_matrix, transition_cov, emission_matrix, emission_cov, state_offset)
    )
    m, P = initial_mean.double().expand(len(x), -1), initial_cov.double()
    identity = torch.eye(P.shape[-1], dtype=P.dtype, device=P.device)
    steps = x.double().where(mask[..., None], 0.0).unbind(1)
    rows, log_dets = [], []
    for t, (x_t, inside) in enumerate(zip(steps, mask.unbind(1), strict=True)):
        if t > 0:
            move = _at(A, t - 1)
            m = _times(move, m) + _at(b, t - 1)
            P = _symmetric(move @ P @ move.mT + _at(Q, t - 1))
        c, noise = _at(C, t), _at(R, t)
        v, cross = x_t - _times(c, m), P @ c.mT
        factor, failed = torch.linalg.cholesky_ex(_symmetric(c @ cross + noise))
        factor = factor.where((failed == 0)[:, None, None], torch.nan)
        gain = torch.cholesky_solve(cross.mT, factor).mT
        white = torch.linalg.solve_triangular(factor, v[..., None], upper=False)[..., 0]
        rows.append(white.where(inside[:, None], 0.0))
        log_dets.append(2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1))
        rest = identity - gain @ c
        m, P = m + _times(gain, v), _symmetric(rest @ P @ rest.mT + gain @ noise @ gain.mT)
    return torch.stack(rows, dim=1), torch.stack(log_dets, dim=1)


def _at(parameter: Tensor, t: int) -> Tensor:
    """The parameter at step t, (1 or B, ...)."""
    return parameter[:, t % parameter.shape[1]]


def _times(matrices: Tensor, rows: Tensor) -> Tensor:
    """Each matrix times its vector, (B, ...)."""
    return (matrices @ rows[..., None])[..., 0]


def _symmetric(matrices: Tensor) -> Tensor:
    return 0.5 * (matrices + matrices.mT)
