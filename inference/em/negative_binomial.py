"""The M-step of the negative binomial law.

    mean          weighted mean, whatever the dispersion
    dispersion    root of the slope of the weighted likelihood in log dispersion, r = 1 / dispersion:
                  sum_n w_n [psi(x_n + r) - psi(r) - log(1 + m / r) + (m - x_n) / (r + m)] = 0

If no dispersion is better than Poisson's law, there is no root, and the dispersion is near the least. Of the root and
the dispersion before, the better one is taken, so rounding lowers no likelihood. Source: Lawless (1987), sec. 2.
"""

import torch
from torch import Tensor

from pgm_rnn.distributions.negative_binomial import NegativeBinomial as Law
from pgm_rnn.emissions import EmissionTable, NegativeBinomial
from pgm_rnn.emissions.limits import NEGATIVE_BINOMIAL as LIMITS
from pgm_rnn.inference.em.weighted import Weighted
from pgm_rnn.inference.em.weighted_estimates import estimate_in_units
from pgm_rnn.kernels import positive

LEAST, MOST = LIMITS.least, LIMITS.most
"""The dispersions that are searched, and that before."""
_PARTS, _PASSES = 8, 15
"""Parts into which the interval of log dispersions is divided, and how many times."""


@estimate_in_units.register
def _(family: NegativeBinomial, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    x, weights = data.x.reshape(len(data.x), -1).double(), data.weights.double()
    there = torch.ones_like(x) if data.observed is None else data.observed.reshape(x.shape).double()
    before = None if data.before is None else positive.scale(data.before.params.detach().double()).chunk(2, -1)[1]
    least = torch.finfo(data.x.dtype).eps
    found = [
        _of_entry(*counted(x[:, d], weights * there[:, d, None]), None if before is None else before[:, d], least)
        for d in range(x.shape[1])
    ]
    mean, dispersion = (torch.stack(part, -1).to(data.x.dtype) for part in zip(*found, strict=True))
    event = family.event_shape
    return family.table(mean.reshape(-1, *event), dispersion.reshape(-1, *event))


def counted(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The different counts, (U, 1), and the weight of each in each state, (U, K)."""
    counts, place = x.unique(return_inverse=True)
    return counts[:, None], weights.new_zeros(len(counts), weights.shape[1]).index_add_(0, place, weights)


def _of_entry(x: Tensor, weights: Tensor, before: Tensor | None, least: float) -> tuple[Tensor, Tensor]:
    """Means, at least `least`, and dispersions of one entry, each (K,)."""
    total = weights.sum(0)
    seen = total > 0
    mean = ((weights * x).sum(0) / total.where(seen, 1.0)).clamp(min=least)
    low, width = torch.full_like(mean, LEAST).log(), torch.full_like(mean, MOST / LEAST).log()
    inside = torch.arange(1.0, _PARTS, dtype=x.dtype, device=x.device)[:, None, None]
    for _ in range(_PASSES):
        width = width / _PARTS
        rising = _slope(x, weights, mean, (-low - inside * width).exp()) > 0  # (parts - 1, K)
        low = low + rising.sum(0) * width
    root = (low + width).exp()
    if before is not None:
        found, kept = (_log_likelihood(x, weights, mean, each) for each in (root, before))
        root = root.where(found >= kept, before)
    return mean, root.where(seen, 1.0)


def _slope(x: Tensor, weights: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    """A positive multiple of the slope of the likelihood in log dispersion, (..., K) for r (..., 1, K)."""
    slope = (x + r).digamma() - r.digamma() - (mean / r).log1p() + (mean - x) / (r + mean)
    return -(weights * slope).sum(-2)  # dr / dlog dispersion = -r


def _log_likelihood(x: Tensor, weights: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    return (weights * Law(positive.inverse_softplus(mean), dispersion).log_prob(x)).sum(0)
