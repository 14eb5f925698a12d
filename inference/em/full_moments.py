"""Weighted means and full covariances of normal vectors, of which entries may be missing.

    mean = sum_n w_n E(x_n) / W,   cov = sum_n w_n [d_n d_n' + Cov(x_n)] / W,   d_n = E(x_n) - mean,   W = sum_n w_n

    E(x_m | x_o) = m_m + S_mo S_oo^-1 (x_o - m_o),   Cov(x_m | x_o) = S_mm - S_mo S_oo^-1 S_om

The moments are those given the observed entries o under the law before, so that a step of EM never lowers the
likelihood of what was observed. Source: Little & Rubin (2002), sec. 11.2.

Covariances are computed from their factors: the rows d_n times the roots of their weights, and factors of
Cov(x_n). A covariance itself would square the ratio of its largest to its smallest deviation, and an outlier would
drown the smallest one.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.emissions import FullGaussian, Pen
from pgm_rnn.inference.em.units import ROUNDINGS_KEPT, Units
from pgm_rnn.inference.em.weighted import Weighted, moments
from pgm_rnn.kernels import triangles

_ROWS = 4096
"""Observations that are completed at a time."""


class _Completed(NamedTuple):
    """Expected observations of one state (N, D), their weights (N,), and rows R (E, D), R'R = sum_n w_n Cov(x_n)."""

    x: Tensor
    weights: Tensor
    rows: Tensor


def full_moments(data: Weighted, units: Units) -> tuple[Tensor, Tensor]:
    """Weighted means (K, D) and the Cholesky factors (K, D, D) of the most likely covariances allowed, in float64."""
    found = [_mean_and_root(part) for part in _completed(data, units)]
    loc, root = (torch.stack(values) for values in zip(*found, strict=True))  # root' root the covariance
    return loc, _allowed(root, loc, units)


def pooled_moments(data: Weighted, units: Units) -> tuple[Tensor, Tensor]:
    """`full_moments` with one covariance for the states of each group, the mean of theirs by their weights."""
    found = [(*_mean_and_root(part), part.weights.sum()) for part in _completed(data, units)]
    loc, root, totals = (torch.stack(values) for values in zip(*found, strict=True))
    totals = totals.unflatten(0, (data.num_groups, -1))  # (groups, K)
    sums = totals.sum(1, keepdim=True)
    shares = (totals / sums.where(sums > 0, 1.0)).where(sums > 0, 1 / totals.shape[1])
    rows = shares.sqrt()[..., None, None] * root.unflatten(0, (data.num_groups, -1))
    pooled = triangles.of_rows(rows.flatten(1, 2))  # (groups, D, D)
    farthest = loc.abs().unflatten(0, (data.num_groups, -1)).amax(1)  # the mean with the largest bound
    factor = _allowed(pooled, farthest, units)
    return loc, factor.repeat_interleave(totals.shape[1], 0)


def _allowed(root: Tensor, loc: Tensor, units: Units) -> Tensor:
    """Cholesky factors (K, D, D) of the covariances root' root, made at least the smallest around means (K, D)."""
    smallest = units.smallest_scales(loc.to(units.unit), ROUNDINGS_KEPT).double()  # (K, D)
    _, values, vectors = torch.linalg.svd(root / smallest[:, None])  # in units of the smallest scales
    allowed = values.clamp(min=1)[..., None] * vectors * smallest[:, None]
    return triangles.of_rows(allowed).mT


def _mean_and_root(data: _Completed) -> tuple[Tensor, Tensor]:
    """Weighted mean (D,) and U (D, D), U' U the covariance; 0 and 1 without any weight."""
    x, weights, rows = data
    total = weights.sum()
    if not bool(total > 0):
        return torch.zeros_like(x[0]), torch.eye(x.shape[1]).to(x)
    weights = weights / total
    mean = weights @ x
    deviations = (x - mean) * weights.sqrt()[:, None]
    zeros = torch.zeros_like(x[:1]).expand(x.shape[1], -1)  # at least D rows
    return mean, triangles.of_rows(torch.cat([deviations, rows / total.sqrt(), zeros]))


def _completed(data: Weighted, units: Units) -> Iterator[_Completed]:
    """The observations of each state, completed under the laws before."""
    x = data.x.double()
    if data.observed is None:
        yield from (_Completed(x, column.double(), x[:0]) for column in data.weights.T)
        return
    patterns, which = data.observed.unique(dim=0, return_inverse=True)
    for column, loc, factor in zip(data.weights.T, *_before(data, units), strict=True):
        w, (slopes, roots) = column.double(), _regressions(factor, patterns)
        deviation = (x - loc).where(data.observed, 0.0)
        parts = zip(deviation.split(_ROWS), which.split(_ROWS), strict=True)
        expected = torch.cat([(slopes[numbers] @ rows[..., None])[..., 0] for rows, numbers in parts])
        totals = w.new_zeros(len(patterns)).index_add_(0, which, w)
        spread = totals.sqrt()[:, None, None] * roots.mT  # (patterns, D, D)
        yield _Completed(loc + deviation + expected, w, spread.flatten(0, 1))


def _before(data: Weighted, units: Units) -> tuple[Tensor, Tensor]:
    """Means (K, D) and factors (K, D, D) under which missing entries are completed."""
    if data.before is not None:
        return loc_and_factor(data.before.family, data.before.params.detach().double())  # type: ignore[arg-type]
    loc, variance = moments(data)
    scale = torch.maximum(variance.sqrt(), units.smallest_scales(loc.to(units.unit), ROUNDINGS_KEPT).double())
    return loc, scale.diag_embed()


def _regressions(factor: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """S_mo S_oo^-1 and R with R R' = Cov(x_m | x_o), in rows m and columns o of matrices (patterns, D, D) of zeros.

    With L_o' = Q U, U triangular, S = L L' is not formed: S_mo S_oo^-1 = L_m Q U'^-1, and R = L_m - S_mo S_oo^-1 L_o.
    """
    there = observed.to(factor.dtype)[..., None]  # (patterns, D, 1)
    known, missing = there * factor, (1 - there) * factor
    Q, upper = torch.linalg.qr(torch.cat([known, torch.diag_embed(1 - there[..., 0])], -1).mT)
    across = missing @ Q[..., : len(factor), :]
    slopes = torch.linalg.solve_triangular(upper.mT, across, upper=False, left=False) * there.mT
    return slopes, missing - slopes @ known


def loc_and_factor(family: FullGaussian | Pen, params: Tensor) -> tuple[Tensor, Tensor]:
    """Means (K, D) and Cholesky factors L (K, D, D) of laws of one component."""
    if isinstance(family, FullGaussian):
        law = family.distribution(params)
        return law.loc, law.scale_tril
    _, mu_x, mu_y, log_sx, log_sy, slope, _ = params.unbind(-1)
    first = torch.stack([log_sx.exp(), torch.zeros_like(slope)], -1)
    second = log_sy.exp()[:, None] * torch.stack([slope.tanh(), 1 / slope.cosh()], -1)
    return torch.stack([mu_x, mu_y], -1), torch.stack([first, second], -2)
