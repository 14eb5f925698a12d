"""Kalman filter and smoother by scans over time: O(log T) rounds in place of T steps, for a GPU.

An element of the filter stands for what some steps say about the state before and after them:

    p(z_t | x_{s+1:t}, z_s) = N(A z_s + b, C),      p(x_{s+1:t} | z_s) proportional to exp(eta' z_s - z_s' J z_s / 2)

    one step   S = H Q H' + R,  K = Q H' S^-1
               A = (I - K H) F,  b = u + K (x - H u),  C = (I - K H) Q,  eta = F' H' S^-1 (x - H u),  J = F' H' S^-1 H F
    product    A = A' (I + C J')^-1 A,   b = A' (I + C J')^-1 (b + C eta') + b',   C = A' (I + C J')^-1 C A'^T + C'
               eta = A^T (I + J' C)^-1 (eta' - J' b) + eta,   J = A^T (I + J' C)^-1 J' A + J

with F, u, Q of the transition and H, R of the emission, the earlier element without and the later one with a dash. The
prefixes have b = E(z_t | x_{1:t}) and C = Cov(z_t | x_{1:t}). An element of the smoother is p(z_t | z_{t+1}, x_{1:t}) =
N(E z_{t+1} + g, L), and the suffixes have the smoothed moments: E = E E',  g = E g' + g,  L = E L' E^T + L.

Särkkä & García-Fernández (2021), eq. (10)-(14) for the filter and the same section for the smoother; the covariance of
a step is in Joseph's form here, and the law of z_t given z_{t+1} is that of `gaussian_backward`, where Q may be
singular. On a CPU the recursions of `pgm_rnn.kernels.kalman` are faster.
"""

import torch
from torch import Tensor

from pgm_rnn.kernels import doors
from pgm_rnn.kernels.gaussian_backward import Moments, Smoothed, backward, root_of
from pgm_rnn.kernels.gaussian_chain import GaussianChain, without_missing
from pgm_rnn.kernels.kalman import LOG_2_PI
from pgm_rnn.kernels.scan import Elements, associative_scan
from pgm_rnn.sequences import length_mask


def filtered(chain: GaussianChain, x: Tensor, lengths: Tensor, observed: Tensor | None = None) -> Moments:
    """The moments of the Kalman filter, as `gaussian_backward.filtered` has them, differentiable by autograd.

    Args:
        chain: parameters, with any of their axes.
        x: observations, (B, T, M).
        lengths: number of steps of each sequence, (B,).
        observed: True where an entry was observed, (B, T, M); None for everywhere.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    chain = chain.with_all_axes()
    doors.gaussian_chain(chain, x, lengths)
    inside, gone = length_mask(lengths, x.shape[1])[..., None], None
    x = x.where(inside, 0.0)
    if observed is not None:
        chain, x = without_missing(chain, x, observed)
        gone = (~observed).sum(-1)
    b, C = associative_scan(filtering_product, _filtering_elements(chain, x), 1)[1:3]
    means = _predicted_means(chain, b).where(inside, 0.0)
    covs = _predicted_covs(chain, C)
    terms = _log_densities(chain, x, means, covs)
    if gone is not None:
        terms = terms + 0.5 * LOG_2_PI * gone
    A, Q = chain.transition_matrix, chain.transition_cov
    return Moments(terms.where(inside[..., 0], 0.0), means, covs, b.where(inside, 0.0), C, A, Q)


def smooth(moments: Moments, lengths: Tensor) -> Smoothed:
    """The smoothed moments after a Gaussian filter, as `gaussian_backward.smooth` has them, one row per sequence.

    Raises:
        TypeError: moments of different dtypes.
        ValueError: moments or lengths that do not fit each other.
    """
    moments = doors.moments(moments, lengths)
    gains, offsets, rest = _backward_laws(moments, lengths)
    batch, steps = offsets.shape[:2]
    inside = length_mask(lengths, steps)
    _, smoothed, smoothed_covs = associative_scan(smoothing_product, (gains, offsets, rest), 1, reverse=True)
    within = inside[..., None, None]
    pairwise = gains[:, :-1] @ smoothed_covs[:, 1:]
    return Smoothed(
        smoothed.where(inside[..., None], 0.0),
        smoothed_covs.where(within, 0.0),
        torch.arange(batch, device=offsets.device),
        pairwise.where(within[:, 1:], 0.0),
    )


def sample_paths(moments: Moments, lengths: Tensor, noise: Tensor) -> Tensor:
    """Paths given all observations from the same noise as `gaussian_backward.sample_paths`, (num_samples, B, T, D).

    A draw is an affine map of the state after it, z_t = E z_{t+1} + g + L^(1/2) e_t, and a path their composition.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    moments = doors.moments(moments, lengths)
    doors.tensor("noise", noise, moments.filtered_means, doors.ANY, *moments.filtered_means.shape)
    gains, offsets, rest = _backward_laws(moments, lengths)
    draws = offsets + _times(root_of(rest), noise)  # (num_samples, B, T, D)
    gains = gains.expand(len(noise), *gains.shape)
    (_, paths) = associative_scan(affine_product, (gains, draws), 2, reverse=True)
    return paths.where(length_mask(lengths, noise.shape[2])[..., None], 0.0)


def affine_product(earlier: Elements, later: Elements) -> Elements:
    """(A, b) and (A', b') as maps of a state after them: A (A' z + b') + b."""
    (A, b), (A_later, b_later) = earlier, later
    return A @ A_later, _times(A, b_later) + b


def _backward_laws(moments: Moments, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E, g and L of p(z_t | z_{t+1}, x_{1:t}), (B, T, ...); E is 0 at the last step, which has its filtered law."""
    means, covs, steps = moments.filtered_means, moments.filtered_covs, moments.filtered_means.shape[1]
    gains, rest = torch.zeros_like(covs), covs
    if steps > 1:
        law = backward(moments)
        gains = torch.cat([law.gain, torch.zeros_like(covs[:, :1])], 1)
        rest = torch.cat([law.cov, covs[:, -1:]], 1)
    last = (torch.arange(steps, device=means.device) >= lengths[:, None] - 1)[..., None]
    later = torch.cat([moments.predicted_means[:, 1:], torch.zeros_like(means[:, :1])], 1)
    offsets = means - (gains @ later[..., None])[..., 0].where(~last, 0.0)
    gains = gains.expand(len(means), -1, -1, -1).where(~last[..., None], 0.0)
    return gains, offsets, rest.expand(len(means), -1, -1, -1).where(~last[..., None], covs)


def filtering_product(earlier: Elements, later: Elements) -> Elements:
    """The product of elements (A, b, C, eta, J) of the filter."""
    (A, b, C, eta, J), (A_later, b_later, C_later, eta_later, J_later) = earlier, later
    unit = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    both = torch.linalg.solve(unit + C @ J_later, A_later, left=False)  # A' (I + C J')^-1
    back = torch.linalg.solve(unit + J_later @ C, A.mT, left=False)  # A^T (I + J' C)^-1
    return (
        both @ A,
        _times(both, b + _times(C, eta_later)) + b_later,
        _symmetric(both @ C @ A_later.mT) + C_later,
        _times(back, eta_later - _times(J_later, b)) + eta,
        _symmetric(back @ J_later @ A) + J,
    )


def smoothing_product(earlier: Elements, later: Elements) -> Elements:
    """The product of elements (E, g, L) of the smoother."""
    (E, g, L), (E_later, g_later, L_later) = earlier, later
    return E @ E_later, _times(E, g_later) + g, _symmetric(E @ L_later @ E.mT) + L


def _filtering_elements(chain: GaussianChain, x: Tensor) -> Elements:
    """(A, b, C, eta, J) of every step; matrices (1 or B, T, D, D), vectors (B, T, D)."""
    assert chain.state_offset is not None
    steps = x.shape[1]
    start = _observed(chain.initial_mean[:, None], chain.initial_cov[:, None], chain, x, slice(0, 1))
    zeros = torch.zeros_like(start[1])
    if steps == 1:
        return zeros, start[0], start[1], torch.zeros_like(start[0]), zeros
    Q = chain.transition_cov.expand(-1, steps - 1, -1, -1)
    b, C, reduced, information, noticed = _observed(chain.state_offset, Q, chain, x, slice(1, None))
    F = chain.transition_matrix.expand(-1, steps - 1, -1, -1)
    later = reduced @ F, b, C, _times(F.mT, information), _symmetric(F.mT @ noticed @ F)
    first = zeros, start[0], start[1], torch.zeros_like(start[0]), zeros
    return tuple(torch.cat(_same_rows(one, other), 1) for one, other in zip(first, later, strict=True))


def _observed(mean: Tensor, cov: Tensor, chain: GaussianChain, x: Tensor, steps: slice) -> tuple[Tensor, ...]:
    """Mean and covariance of N(mean, cov) given x of some steps, I - K H, H' S^-1 (x - H mean) and H' S^-1 H."""
    H, R, x = _of_steps(chain.emission_matrix, steps), _of_steps(chain.emission_cov, steps), x[:, steps]
    precision = torch.linalg.inv(_symmetric(H @ cov @ H.mT + R))
    weights = H.mT @ precision  # H' S^-1
    residual = x - _times(H, mean)
    gain, unit = cov @ weights, torch.eye(cov.shape[-1], dtype=x.dtype, device=x.device)
    reduced = unit - gain @ H
    joseph = reduced @ cov @ reduced.mT + gain @ R @ gain.mT
    return mean + _times(gain, residual), _symmetric(joseph), reduced, _times(weights, residual), weights @ H


def _of_steps(parameter: Tensor, steps: slice) -> Tensor:
    return parameter if parameter.shape[1] == 1 else parameter[:, steps]


def _same_rows(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    rows = max(len(one), len(other))
    return one.expand(rows, *one.shape[1:]), other.expand(rows, *other.shape[1:])


def _predicted_means(chain: GaussianChain, means: Tensor) -> Tensor:
    assert chain.state_offset is not None
    later = _times(chain.transition_matrix, means[:, :-1]) + chain.state_offset
    return torch.cat([chain.initial_mean[:, None].expand(len(means), -1, -1), later], 1)


def _predicted_covs(chain: GaussianChain, covs: Tensor) -> Tensor:
    A = chain.transition_matrix
    later = _symmetric(A @ covs[:, :-1] @ A.mT) + chain.transition_cov
    return torch.cat(_same_rows(chain.initial_cov[:, None], later), 1)


def _log_densities(chain: GaussianChain, x: Tensor, means: Tensor, covs: Tensor) -> Tensor:
    """log N(x_t; H m_t, H P_t H' + R), (B, T)."""
    H = chain.emission_matrix
    factor = torch.linalg.cholesky(_symmetric(H @ covs @ H.mT) + chain.emission_cov)
    residual = x - _times(H, means)
    white = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
    log_scale = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * (white.square().sum(-1) + x.shape[-1] * LOG_2_PI) - log_scale


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
