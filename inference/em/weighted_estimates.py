"""Maximum likelihood of an emission table from observations that belong to each state with some weight.

    params[k] = argmax sum_n weights[n, k] log p(x_n | params[k]) + pseudo_count sum_v log p(v | params[k])

This is the M-step of EM for emissions, with one function per family: Rabiner (1989), eq. (40c) for symbols and
(53)-(54) for normal laws. Where entries are independent, the sums run over the observed ones; missing entries of a
normal vector enter by their moments given the observed ones under the parameters before (`full_moments`). Student's t
law (`student_t`) and zero-inflated counts (`zero_inflated`) have no closed form; their functions take a few steps that
raise the same sum.

Each function searches a set that stays the same from iteration to iteration and lies inside the family. Probabilities
of bits are at least the smallest positive number away from 0 and one rounding error away from 1. Standard deviations
are at least `Units.smallest_scales`; a full covariance exceeds the diagonal matrix of their squares.
"""

from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, Categorical, Emission, EmissionTable, FullGaussian, Gaussian, Pen, Poisson
from pgm_rnn.inference.em.full_moments import full_moments, loc_and_factor
from pgm_rnn.inference.em.units import (
    MIN_SCALE,
    ROUNDINGS,
    ROUNDINGS_KEPT,
    Units,
    in_units,
    table_in_units,
    table_out_of_units,
    units_of,
)
from pgm_rnn.inference.em.weighted import Weighted, moments, weighted

__all__ = [
    "MIN_SCALE",
    "NEARLY",
    "at_smallest_scale",
    "condition",
    "estimate",
    "estimate_in_units",
    "in_working_dtype",
    "independent_means",
    "not_worse",
    "not_worse_of",
    "pseudo_log_prob",
    "working_dtype",
]


def estimate(
    family: Emission,
    x: Tensor,
    weights: Tensor,
    pseudo_count: float,
    units: Units | None = None,
    *,
    observed: Tensor | None = None,
    before: EmissionTable | None = None,
    num_groups: int = 1,
) -> EmissionTable:
    """The table of the most likely law for each state.

    Args:
        family: the family of the observations.
        x: observations, (N, *event).
        weights: weight of each observation in each state, (N, K), not negative.
        pseudo_count: added to the count of each symbol or value of a bit; other families take none.
        units: the units of real observations and of the resulting table; None uses suitable units inside and returns a
            table for x as given.
        observed: True where x was observed, (N,) or (N, *event), None for everywhere.
        before: as for `Weighted`, in the given units; the weighted log likelihood of what was observed never falls
            below that of these laws.
        num_groups: as for `Weighted`.

    Raises:
        TypeError: a family without an estimate in closed form.
    """
    data = weighted(x, weights, observed, before)._replace(num_groups=num_groups)
    if units is not None:
        return estimate_in_units(family, data, pseudo_count, units)
    units = units_of(family, data.x if data.observed is None else data.x.where(data.observed, torch.nan))
    data = data._replace(x=in_units(family, data.x, units), before=before and table_in_units(before, units))
    if data.observed is not None:
        data = data._replace(x=data.x.where(data.observed, 0))
    return table_out_of_units(estimate_in_units(family, data, pseudo_count, units), units)


@singledispatch
def estimate_in_units(family: Emission, data: Weighted, pseudo_count: float, units: Units | None) -> EmissionTable:
    """`estimate` for weighted observations in the units, None for a family without real entries.

    Raises:
        TypeError: a family without an estimate in closed form.
    """
    raise TypeError(f"expected a family with weighted estimates in closed form, got {family}; fit it by svi.fit")


@estimate_in_units.register
def _(family: Categorical, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    x, weights = data[:2]
    counts = weights.new_zeros(family.num_symbols, weights.shape[1]).index_add_(0, x, weights).T + pseudo_count
    totals = counts.sum(-1, keepdim=True)
    return family.table((counts / totals).where(totals > 0, 1 / family.num_symbols))


@estimate_in_units.register
def _(family: Bernoulli, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    flat = data.x.reshape(len(data.x), -1)
    totals = data.totals + 2 * pseudo_count
    probs = ((data.weights.T @ flat + pseudo_count) / totals).where(totals > 0, 0.5)
    limits = torch.finfo(probs.dtype)
    return family.table(probs.clamp(limits.tiny, 1 - limits.eps).reshape(-1, *family.event_shape))


@estimate_in_units.register
def _(family: Gaussian, data: Weighted, pseudo_count: float, units: Units) -> EmissionTable:
    loc, variance = moments(data)
    loc, scale = loc.to(data.x.dtype), variance.sqrt().to(data.x.dtype)
    scale = torch.maximum(scale, units.smallest_scales(loc))
    return family.table(loc.reshape(-1, *family.event_shape), scale.reshape(-1, *family.event_shape))


@estimate_in_units.register
def _(family: FullGaussian, data: Weighted, pseudo_count: float, units: Units) -> EmissionTable:
    loc, factor = full_moments(data, units)
    return family.table_of_factors(loc.to(data.x.dtype), factor.to(data.x.dtype))


@estimate_in_units.register
def _(family: Pen, data: Weighted, pseudo_count: float, units: Units) -> EmissionTable:
    """A full covariance for the offsets, and a bit: one component only, because a mixture has no closed form."""
    if family.num_components != 1:
        raise TypeError(
            f"expected Pen(1), one component per state, for estimates in closed form, got {family}; fit it by svi.fit"
        )
    loc, factor = full_moments(data.of_columns(slice(2)), units)
    scale = factor.norm(dim=-1)  # of x and of y, (K, 2)
    slope = (factor[:, 1, 0] / factor[:, 1, 1]).asinh()  # tanh of it is L_21 / sigma_y, the correlation
    bits = data.of_columns(slice(2, 3))
    up = estimate_in_units(Bernoulli(1), bits._replace(x=bits.x.to(bits.weights.dtype)), pseudo_count, None).params
    params = torch.cat([torch.zeros_like(slope)[:, None], loc, scale.log(), slope[:, None]], -1)
    return EmissionTable(family, torch.cat([params.to(data.x.dtype), up.detach()], -1))


@estimate_in_units.register
def _(family: Poisson, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    x = data.x
    data = data._replace(x=x.double(), weights=data.weights.double())  # float32 does not hold sums of many counts
    totals = data.totals.clamp(min=torch.finfo(x.dtype).tiny)
    rate = (data.weights.T @ data.x.reshape(len(x), -1) / totals).to(x.dtype).clamp(min=torch.finfo(x.dtype).eps)
    return family.table(rate.reshape(-1, *family.event_shape))


@singledispatch
def at_smallest_scale(family: object, params: Tensor, units: Units | None) -> Tensor:
    """Whether an entry of a state's law is held at the smallest standard deviation allowed: (K, D).

    Args:
        family: the family of the observations.
        params: parameters of the laws in the units, (K, num_params).
        units: as for `estimate`.
    """
    return torch.zeros(len(params), 0, dtype=torch.bool, device=params.device)


@at_smallest_scale.register
def _(family: Gaussian, params: Tensor, units: Units) -> Tensor:
    loc, raw_scale = params.chunk(2, dim=-1)
    return F.softplus(raw_scale) <= NEARLY * units.smallest_scales(loc)


@at_smallest_scale.register(FullGaussian)
@at_smallest_scale.register(Pen)
def _(family: FullGaussian | Pen, params: Tensor, units: Units) -> Tensor:
    return _held_directions(*loc_and_factor(family, params.double()), units, torch.finfo(params.dtype).eps)


@singledispatch
def condition(family: object, params: Tensor) -> Tensor:
    """Rounding errors that a law's log density loses by cancellation, (K,); 0 for most families."""
    return params.new_zeros(len(params), dtype=torch.float64)


@condition.register(FullGaussian)
@condition.register(Pen)
def _(family: FullGaussian | Pen, params: Tensor) -> Tensor:
    if isinstance(family, Pen) and family.num_components > 1:
        return params.new_zeros(len(params), dtype=torch.float64)
    loc, factor = loc_and_factor(family, params.double())
    values = torch.linalg.svdvals(factor)
    return ((values[:, 0] + loc.abs().amax(-1)) / values[:, -1]).nan_to_num(nan=0.0)


def not_worse(
    new: EmissionTable,
    old: EmissionTable,
    x: Tensor,
    weights: Tensor,
    units: Units | None,
    observed: Tensor | None = None,
) -> EmissionTable:
    """The new laws, except for states where the old law fits better because the smallest scale grew with the mean.

    Args:
        new: laws from `estimate`.
        old: the laws before.
        x: observations in the units, (N, *event).
        weights: weight of each observation in each state, (N, K).
        units: as for `estimate`.
        observed: as for `estimate`.
    """
    return not_worse_of(new.family, new, old, x, weights, units, observed)


@singledispatch
def not_worse_of(
    family: Emission,
    new: EmissionTable,
    old: EmissionTable,
    x: Tensor,
    weights: Tensor,
    units: Units | None,
    observed: Tensor | None,
) -> EmissionTable:
    """`not_worse` for laws of a family."""
    if units is None:
        return new
    loc, roundings = independent_means(family, new.params.detach()), ROUNDINGS
    if loc is None:
        loc, roundings = _dependent_means(family, new.params.detach()), ROUNDINGS_KEPT
    if loc is None:
        return new
    loc = loc.to(units.unit)
    moved = (units.smallest_scales(loc, roundings) > units.smallest_scales(torch.zeros_like(loc))).any(-1)
    moved = moved & at_smallest_scale(family, new.params.detach(), units).any(-1)
    if not bool(moved.any()):
        return new
    gains = weights.double() * (new.log_probs(x, observed).double() - old.log_probs(x, observed).double())
    worse = moved & (gains.where(weights > 0, 0.0).sum(0) < 0)
    return EmissionTable(family, old.params.where(worse[:, None], new.params))


@singledispatch
def independent_means(family: object, params: Tensor) -> Tensor | None:
    """Locations (K, D) of laws of independent real entries; None for other families."""
    return None


@independent_means.register
def _(family: Gaussian, params: Tensor) -> Tensor:
    return params.chunk(2, dim=-1)[0]


def _dependent_means(family: Emission, params: Tensor) -> Tensor | None:
    """Means (K, D) of laws of dependent real entries with one component; None for other families."""
    return loc_and_factor(family, params)[0] if isinstance(family, FullGaussian | Pen) else None


@singledispatch
def working_dtype(family: object, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a family's densities and estimates are computed for observations of a dtype."""
    return dtype


@working_dtype.register(FullGaussian)
@working_dtype.register(Pen)
def _(family: FullGaussian | Pen, dtype: torch.dtype) -> torch.dtype:
    return torch.float64


def in_working_dtype(table: EmissionTable) -> EmissionTable:
    """The laws of a table in the dtype in which they are computed."""
    params = table.params.detach()
    return EmissionTable(table.family, params.to(working_dtype(table.family, params.dtype)))


NEARLY = 1.01
"""Rounding of parameters may leave a scale a little above the smallest one."""
_SHARE = 0.3
"""A column belongs to a direction, a unit vector, with at least this coefficient."""


def _held_directions(loc: Tensor, factor: Tensor, units: Units, eps: float) -> Tensor:
    """The columns (K, D) that are part of a direction in which L L' is the smallest allowed."""
    smallest = units.smallest_scales(loc.to(units.unit), ROUNDINGS_KEPT).to(factor)
    whitened = factor / smallest[..., None]
    vectors, values, _ = torch.linalg.svd(whitened)
    held = values <= NEARLY + 4 * eps * values[:, :1]
    return ((vectors.abs() > _SHARE) & held[:, None]).any(-1)


@singledispatch
def pseudo_log_prob(family: object, params: Tensor) -> Tensor:
    """Sum over symbols or values of bits of their log probabilities, which a pseudo-count multiplies: (K,)."""
    return params.new_zeros(len(params))


@pseudo_log_prob.register
def _(family: Categorical, params: Tensor) -> Tensor:
    return params.log_softmax(-1).sum(-1)


@pseudo_log_prob.register
def _(family: Bernoulli, params: Tensor) -> Tensor:
    return (F.logsigmoid(params) + F.logsigmoid(-params)).sum(-1)


@pseudo_log_prob.register
def _(family: Pen, params: Tensor) -> Tensor:
    return F.logsigmoid(params[:, -1]) + F.logsigmoid(-params[:, -1])
