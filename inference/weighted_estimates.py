"""Maximum likelihood of an emission table from observations that belong to each state with some weight.

    params[k] = argmax sum_n weights[n, k] log p(x_n | params[k]) + pseudo_count sum_v log p(v | params[k])

The M-step of EM, one function a family. Each keeps a law inside the family: probabilities of bits at least the smallest
positive number away from 0 and one rounding error away from 1, scales at least `MIN_SCALE` of the data's own, for a
full covariance in every direction: the most likely one among those that exceed diag(MIN_SCALE^2 variances).
"""

from functools import singledispatch

import torch
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, EmissionTable, FullGaussian, Gaussian, Pen, Poisson

MIN_SCALE = 1e-3
"""Smallest standard deviation of a state, as a part of the standard deviation of all observations."""


@singledispatch
def estimate(family: Emission, x: Tensor, weights: Tensor, pseudo_count: float) -> EmissionTable:
    """The table of the most likely law for each state.

    Args:
        family: of the observations.
        x: observations, (N, *event).
        weights: how much each belongs to each state, (N, K), not negative.
        pseudo_count: of each symbol, or of each value of a bit; the other families take none.

    Raises:
        TypeError: a family without an estimate in closed form.
    """
    raise TypeError(f"expected a family with weighted estimates in closed form, got {family}; fit it by svi.fit")


@estimate.register
def _(family: Categorical, x: Tensor, weights: Tensor, pseudo_count: float) -> EmissionTable:
    counts = weights.new_zeros(family.num_symbols, weights.shape[1]).index_add_(0, x, weights).T + pseudo_count
    totals = counts.sum(-1, keepdim=True)
    return family.table((counts / totals).where(totals > 0, 1 / family.num_symbols))


@estimate.register
def _(family: Bernoulli, x: Tensor, weights: Tensor, pseudo_count: float) -> EmissionTable:
    flat = x.reshape(len(x), -1)
    totals = weights.sum(0)[:, None] + 2 * pseudo_count
    probs = ((weights.T @ flat + pseudo_count) / totals).where(totals > 0, 0.5)
    limits = torch.finfo(probs.dtype)
    return family.table(probs.clamp(limits.tiny, 1 - limits.eps).reshape(-1, *family.event_shape))


@estimate.register
def _(family: Gaussian, x: Tensor, weights: Tensor, pseudo_count: float) -> EmissionTable:
    flat = x.reshape(len(x), -1)
    totals = weights.sum(0)[:, None].clamp(min=torch.finfo(x.dtype).tiny)
    loc = weights.T @ flat / totals  # (K, D)
    variance = torch.stack([w @ (flat - m).square() for w, m in zip(weights.T, loc, strict=True)]) / totals
    scale = torch.maximum(variance.sqrt(), _smallest_scales(flat))
    return family.table(loc.reshape(-1, *family.event_shape), scale.reshape(-1, *family.event_shape))


@estimate.register
def _(family: FullGaussian, x: Tensor, weights: Tensor, pseudo_count: float) -> EmissionTable:
    totals = weights.sum(0)[:, None].clamp(min=torch.finfo(x.dtype).tiny)
    loc, unit = weights.T @ x / totals, _smallest_scales(x)  # (K, D), (D,)
    centred = (((x - m) / unit, w) for w, m in zip(weights.T, loc, strict=True))
    cov = torch.stack([(e * w[:, None]).T @ e for e, w in centred]) / totals[..., None]
    values, vectors = torch.linalg.eigh(cov)  # in units of the smallest scales
    root = values.clamp(min=1).sqrt()[:, None] * vectors * unit[:, None]  # (K, D, D), root root' the covariance
    upper = torch.linalg.qr(root.mT).R
    signs = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(x)
    return family.table_of_factors(loc, (signs[..., None] * upper).mT)


@estimate.register
def _(family: Pen, x: Tensor, weights: Tensor, pseudo_count: float) -> EmissionTable:
    """A full covariance for the offsets, and a bit: one component only, for a mixture has no closed form."""
    if family.num_components != 1:
        raise TypeError(
            f"expected Pen(1), one component a state, for estimates in closed form, got {family}; fit it by svi.fit"
        )
    offsets, num_states = FullGaussian(2), weights.shape[1]
    law = offsets.distribution(estimate(offsets, x[:, :2], weights, pseudo_count).params)
    scale = law.variance.sqrt()
    tril = law.scale_tril  # rho = L_21 / sigma_y: below one as long as L_22 > 0
    correlation = tril[..., 1, 0] / tril[..., 1, :].norm(dim=-1)
    up = torch.sigmoid(estimate(Bernoulli(1), x[:, 2:], weights, pseudo_count).params).reshape(num_states)
    limits = torch.finfo(x.dtype)
    largest = 1 - limits.eps
    return family.table(
        x.new_ones(num_states, 1),
        law.mean[:, None],
        scale[:, None],
        correlation.clamp(-largest, largest)[:, None],
        up.clamp(limits.tiny, largest),
    )


@estimate.register
def _(family: Poisson, x: Tensor, weights: Tensor, pseudo_count: float) -> EmissionTable:
    flat = x.reshape(len(x), -1)
    totals = weights.sum(0)[:, None].clamp(min=torch.finfo(x.dtype).tiny)
    rate = (weights.T @ flat / totals).clamp(min=torch.finfo(x.dtype).eps)
    return family.table(rate.reshape(-1, *family.event_shape))


def _smallest_scales(x: Tensor) -> Tensor:
    """The smallest standard deviation allowed of each entry, (D,), for observations (N, D)."""
    return MIN_SCALE * x.std(0, correction=0).clamp(min=torch.finfo(x.dtype).eps)
