"""M-steps of normal laws with one scale for all columns (`SphericalGaussian`), or for all states (`Tied`).

    spherical    scale_k^2 = sum_nd w_nk (x_nd - m_kd)^2 / sum_nd w_nk
    tied         S = sum_k W_k S_k / sum_k W_k,   W_k = sum_n w_nk,   S_k the variances or the covariance of state k

Sums run over the observed entries; missing entries of a full covariance have their expected moments under the law
before (`full_moments`). Both are maxima in closed form. The columns of a spherical law have one unit. Several starts of
EM stand side by side, and the states of each share a scale among themselves (`Weighted.num_groups`).
"""

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.emissions import EmissionTable, FullGaussian, Gaussian, SphericalGaussian, Tied
from pgm_rnn.inference.em.data_starts import features, usual
from pgm_rnn.inference.em.full_moments import pooled_moments
from pgm_rnn.inference.em.units import MIN_SCALE, Units, changed_params, num_real, units_of
from pgm_rnn.inference.em.weighted import Weighted, moments
from pgm_rnn.inference.em.weighted_estimates import (
    NEARLY,
    at_smallest_scale,
    condition,
    estimate_in_units,
    independent_means,
    not_worse_of,
    working_dtype,
)
from pgm_rnn.kernels import positive


@estimate_in_units.register
def _(family: SphericalGaussian, data: Weighted, pseudo_count: float, units: Units) -> EmissionTable:
    loc, variance = moments(data)
    scale = _pooled(variance, _totals(data, variance), (1,)).sqrt()  # (K, 1)
    scale = torch.maximum(scale, units.smallest_scales(loc).amax(1, keepdim=True))
    return family.table(loc.to(data.x.dtype), scale[:, 0].to(data.x.dtype))


@estimate_in_units.register
def _(family: Tied, data: Weighted, pseudo_count: float, units: Units) -> EmissionTable:
    if isinstance(family.family, FullGaussian):
        before = data.before and EmissionTable(family.family, data.before.params.detach())
        loc, factor = pooled_moments(data._replace(before=before), units)
        rows = family.family.table_of_factors(loc.to(data.x.dtype), factor.to(data.x.dtype)).params
        return EmissionTable(family, rows)
    loc, variance = moments(data)
    groups = (data.num_groups, -1)
    axes = (1, 2) if isinstance(family.family, SphericalGaussian) else (1,)
    totals, least = _totals(data, variance), units.smallest_scales(loc)
    scale = _pooled(variance.unflatten(0, groups), totals.unflatten(0, groups), axes).sqrt()
    scale = torch.maximum(scale, least.unflatten(0, groups).amax(axes, keepdim=True))
    raw = positive.inverse_softplus(scale.to(data.x.dtype))
    raw = raw.expand(-1, len(loc) // data.num_groups, -1).flatten(0, 1)  # (K, D), or (K, 1) for spherical laws
    return EmissionTable(family, torch.cat([loc.to(data.x.dtype), raw], dim=-1))


def _totals(data: Weighted, like: Tensor) -> Tensor:
    """Total weight of each entry in each state, (K, D)."""
    return data._replace(weights=data.weights.double()).totals.expand(like.shape)


def _pooled(variance: Tensor, totals: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mean of variances with weights, over some axes that stay with size 1; 1 without any weight."""
    total = totals.sum(axes, keepdim=True)
    return ((totals * variance).sum(axes, keepdim=True) / total.where(total > 0, 1.0)).where(total > 0, 1.0)


# Units.


@units_of.register
def _(family: SphericalGaussian, x: Tensor, min_scale: float = MIN_SCALE) -> Units:
    """The largest unit of all columns is that of each."""
    found = Units.of(x.reshape(len(x), -1), min_scale)
    return found._replace(unit=found.unit.max().expand(len(found.unit)).clone())


@units_of.register
def _(family: Tied, x: Tensor, min_scale: float = MIN_SCALE) -> Units | None:
    return units_of(family.family, x, min_scale)


@num_real.register(SphericalGaussian)
@num_real.register(Tied)
def _(family: SphericalGaussian | Tied) -> int:
    return family.event_shape.numel()


@changed_params.register
def _(family: SphericalGaussian, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    loc, raw_scale = params.tensor_split([family.size], dim=-1)
    raw_scale = positive.inverse_softplus(positive.scale(raw_scale) / unit[0])
    return torch.cat([(loc - centre) / unit, raw_scale], -1)


@changed_params.register
def _(family: Tied, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    return changed_params(family.family, params, centre, unit)


# Scales that are held, and what else EM asks of a family.


@at_smallest_scale.register
def _(family: SphericalGaussian, params: Tensor, units: Units) -> Tensor:
    loc, raw_scale = params.tensor_split([family.size], dim=-1)
    least = units.smallest_scales(loc).amax(1, keepdim=True)
    return (positive.scale(raw_scale) <= NEARLY * least).expand(loc.shape)


@at_smallest_scale.register
def _(family: Tied, params: Tensor, units: Units | None) -> Tensor:
    return at_smallest_scale(family.family, params, units)


@independent_means.register
def _(family: SphericalGaussian, params: Tensor) -> Tensor:
    return params[:, : family.size]


@not_worse_of.register
def _(
    family: Tied,
    new: EmissionTable,
    old: EmissionTable,
    x: Tensor,
    weights: Tensor,
    units: Units | None,
    observed: Tensor | None,
) -> EmissionTable:
    """The new laws of states that share a scale, or all of the old ones where these fit better."""
    shared = new.params.detach()[:, family.num_own :]
    _, group = shared.unique(dim=0, return_inverse=True)
    gains = weights.double() * (new.log_probs(x, observed).double() - old.log_probs(x, observed).double())
    by_state = gains.where(weights > 0, 0.0).sum(0).detach()
    sums = by_state.new_zeros(int(group.max()) + 1).index_add_(0, group, by_state)
    return EmissionTable(family, old.params.where((sums < 0)[group][:, None], new.params).detach())


@condition.register
def _(family: Tied, params: Tensor) -> Tensor:
    return condition(family.family, params)


@working_dtype.register
def _(family: Tied, dtype: torch.dtype) -> torch.dtype:
    return working_dtype(family.family, dtype)


@features.register(SphericalGaussian)
@features.register(Tied)
def _(family: SphericalGaussian | Tied, x: Tensor) -> np.ndarray | None:
    return features(Gaussian(family.event_shape.numel()), x)


@usual.register
def _(family: Tied, x: Tensor, observed: Tensor) -> Tensor:
    return usual(family.family, x, observed)
