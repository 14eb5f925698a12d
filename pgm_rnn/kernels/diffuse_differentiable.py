"""log p(x_{1:T}) of a diffuse start by torch operations alone, differentiable as often as autograd is asked.

    H = sum_t V_t' F_t^{-1} V_t,   s = sum_t V_t' F_t^{-1} v_t        the symbols of `pgm_rnn.kernels.diffuse_start`
    log p(x) = log p(x | delta = 0) + 1/2 s' H^+ s - 1/2 log det+ H

H may be singular, and the directions in which it is may turn with the parameters. With any U for which U'HU is regular
and of the rank of H, and G = H U,

    det+ H = det(G'G) / det(U'HU),   s' H^+ s = a' (U'HU) a,   a = (G'G)^{-1} G's

hold exactly and have no eigenvectors to differentiate. It computes in float64.
"""

import math

import torch
from torch import Tensor

from pgm_rnn.kernels import kalman_differentiable
from pgm_rnn.kernels.singular import THRESHOLD
from pgm_rnn.sequences import length_mask


def log_marginal_likelihood(x: Tensor, lengths: Tensor, directions: Tensor, scale: Tensor, *chain: Tensor) -> Tensor:
    """log p(x_{1:T}), (B,), nats.

    Args:
        x: (B, T, M).
        lengths: steps of each sequence, (B,).
        directions: B, (D, q).
        scale: the variances in `chain` that delta has besides its flat prior, (q,); they make entries of H comparable.
        chain: the parameters given delta = 0, with all of their axes.
    """
    inside = length_mask(lengths, x.shape[1])
    white, log_det = kalman_differentiable.whitened(x, lengths, *chain)
    responses = _responses(directions, lengths, x, chain)  # (1 or B, T, M, q)
    responses = responses.where(inside[..., None, None], 0.0).flatten(1, 2)  # (B, T M, q)
    scores = (responses.mT @ white.flatten(1)[..., None])[..., 0]
    constant = x.shape[2] * math.log(2 * math.pi)
    given = -0.5 * (white.square().sum(-1) + (log_det + constant).where(inside, 0.0)).sum(-1)
    return (given + _integrated(responses.mT @ responses, scores, scale.double().sqrt())).to(x.dtype)


def _responses(directions: Tensor, lengths: Tensor, x: Tensor, chain: tuple[Tensor, ...]) -> Tensor:
    """L_t^{-1} V_t, (1 or B, T, M, q): the innovations for x = 0 that start at -B e_j, without offsets."""
    _, *matrices, offset = chain
    nothing = x.new_zeros(max(len(part) for part in matrices), *x.shape[1:])  # (1 or B, T, M)
    steps = lengths.new_full((len(nothing),), x.shape[1])
    found = []
    for column in directions.mT:
        started = (-column[None], *matrices, torch.zeros_like(offset))
        found.append(kalman_differentiable.whitened(nothing, steps, *started)[0])
    return torch.stack(found, dim=-1)


def _integrated(information: Tensor, scores: Tensor, unit: Tensor) -> Tensor:
    """1/2 s' H^+ s - 1/2 log det+ H, (B,), for H (B, q, q), s (B, q); `unit` (q,) makes the entries of H comparable."""
    values, vectors = torch.linalg.eigh((unit[:, None] * information * unit).detach())
    kept = values > THRESHOLD * len(unit) * torch.finfo(values.dtype).eps
    basis = unit[:, None] * vectors * kept[..., None, :]
    rest = (~kept).to(values.dtype).diag_embed()
    inner, image = basis.mT @ information @ basis + rest, information @ basis
    squares = image.mT @ image + rest
    a = torch.linalg.solve(squares, image.mT @ scores[..., None])
    log_det = torch.linalg.slogdet(squares).logabsdet - torch.linalg.slogdet(inner).logabsdet
    return 0.5 * ((a.mT @ inner @ a)[..., 0, 0] - log_det)
