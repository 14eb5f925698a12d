"""EM for `Joint`: what its families do, each for its own columns.

Its `Units` have one entry for each column. A column of symbols, bits or counts has centre 0, unit 1 and an infinite
spread, so that its values stay as they are and none of them is an outlier.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pgm_rnn.emissions import Categorical, EmissionTable, Joint
from pgm_rnn.emissions.joint_law import Part
from pgm_rnn.inference.em.data_starts import features, usual
from pgm_rnn.inference.em.units import MIN_SCALE, Units, changed_params, num_real, units_of
from pgm_rnn.inference.em.weighted import Weighted, weighted
from pgm_rnn.inference.em.weighted_estimates import (
    at_smallest_scale,
    condition,
    estimate_in_units,
    not_worse_of,
    pseudo_log_prob,
    working_dtype,
)


@units_of.register
def _(family: Joint, x: Tensor, min_scale: float = MIN_SCALE) -> Units | None:
    found = [units_of(part.family, part.entries(x), min_scale) for part in family.parts]
    if all(units is None for units in found):
        return None
    padded = [_padded(units, part, x) for units, part in zip(found, family.parts, strict=True)]
    centre, unit, spread = (torch.cat(values) for values in zip(*padded, strict=True))
    return Units(centre, unit, spread, min_scale)


def _padded(units: Units | None, part: Part, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre, unit and spread of every column of one family, (width,)."""
    own = x.new_zeros(3, 0) if units is None else torch.stack(units[:3])
    others = x.new_tensor([[0.0], [1.0], [torch.inf]]).expand(3, x[..., part.columns].shape[-1] - own.shape[1])
    centre, unit, spread = torch.cat([own, others], dim=-1)
    return centre, unit, spread


def _of_part(units: Units | None, part: Part) -> Units | None:
    """The units of the real columns of one family; None if it has none."""
    width = num_real(part.family)
    if units is None or width == 0:
        return None
    own = slice(part.columns.start, part.columns.start + width)
    return Units(units.centre[own], units.unit[own], units.spread[own], units.min_scale)


@changed_params.register
def _(family: Joint, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    found = []
    for part in family.parts:
        own, width, start = params[:, part.params], num_real(part.family), part.columns.start
        if width:
            real = slice(start, start + width)
            own = changed_params(part.family, own, centre[real], unit[real])
        found.append(own)
    return torch.cat(found, dim=-1)


def _table(table: EmissionTable, part: Part) -> EmissionTable:
    """The laws of the columns of one family."""
    return EmissionTable(part.family, table.params.detach()[:, part.params])


def _joined(family: Joint, tables: Iterator[EmissionTable], like: Tensor) -> EmissionTable:
    """The laws of all columns, in the dtype of `like`."""
    return EmissionTable(family, torch.cat([table.params.detach().to(like.dtype) for table in tables], dim=-1))


@estimate_in_units.register
def _(family: Joint, data: Weighted, pseudo_count: float, units: Units | None) -> EmissionTable:
    tables = (
        estimate_in_units(part.family, _weighted(data, part), pseudo_count, _of_part(units, part))
        for part in family.parts
    )
    return _joined(family, tables, data.x)


def _weighted(data: Weighted, part: Part) -> Weighted:
    """The weighted observations of the columns of one family; one without weight if none was observed."""
    observed = None if data.observed is None else part.entries(data.observed)
    before, x = None if data.before is None else _table(data.before, part), part.observations(data.x)
    if observed is not None and not bool(observed.any()):
        return Weighted(x[:1], data.weights[:1] * 0, None, before)
    return weighted(x, data.weights, observed, before)


@not_worse_of.register
def _(
    family: Joint,
    new: EmissionTable,
    old: EmissionTable,
    x: Tensor,
    weights: Tensor,
    units: Units | None,
    observed: Tensor | None,
) -> EmissionTable:
    tables = (_kept(part, new, old, x, weights, units, observed) for part in family.parts)
    return _joined(family, tables, new.params)


def _kept(
    part: Part,
    new: EmissionTable,
    old: EmissionTable,
    x: Tensor,
    weights: Tensor,
    units: Units | None,
    observed: Tensor | None,
) -> EmissionTable:
    """`not_worse_of` for the columns of one family."""
    seen = observed if observed is None or observed.dim() < x.dim() else part.entries(observed)
    tables, own = (_table(new, part), _table(old, part)), part.observations(x)
    return not_worse_of(part.family, *tables, own, weights, _of_part(units, part), seen)


@at_smallest_scale.register
def _(family: Joint, params: Tensor, units: Units | None) -> Tensor:
    found = []
    for part in family.parts:
        held = at_smallest_scale(part.family, params[:, part.params], _of_part(units, part))
        width = part.columns.stop - part.columns.start
        found.append(F.pad(held, (0, width - held.shape[-1]), value=False))
    return torch.cat(found, dim=-1)


@condition.register
def _(family: Joint, params: Tensor) -> Tensor:
    return torch.stack([condition(part.family, params[:, part.params]) for part in family.parts]).amax(0)


@working_dtype.register
def _(family: Joint, dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if torch.float64 in [working_dtype(each, dtype) for each in family.families] else dtype


@pseudo_log_prob.register
def _(family: Joint, params: Tensor) -> Tensor:
    return torch.stack([pseudo_log_prob(part.family, params[:, part.params]) for part in family.parts]).sum(0)


@usual.register
def _(family: Joint, x: Tensor, observed: Tensor) -> Tensor:
    """For symbols, the most frequent one in place of the mean."""
    found = []
    for part in family.parts:
        own, there = x[:, part.columns], observed[:, part.columns]
        if isinstance(part.family, Categorical):
            counts = own[there].long().bincount(minlength=part.family.num_symbols)
            found.append(counts.argmax()[None].to(x.dtype))
        else:
            found.append(usual(part.family, own, there))
    return torch.cat(found)


@features.register
def _(family: Joint, x: Tensor) -> np.ndarray | None:
    """The features of all columns side by side, symbols as one-hot vectors; None if all of them are symbols."""
    if all(isinstance(each, Categorical) for each in family.families):
        return None
    found = [_features(part, x) for part in family.parts]
    return np.concatenate([each for each in found if each is not None], axis=1)


def _features(part: Part, x: Tensor) -> np.ndarray | None:
    """Features of the columns of one family, (N, width)."""
    own = part.observations(x)
    if isinstance(part.family, Categorical):
        return F.one_hot(own, part.family.num_symbols).double().cpu().numpy()
    return features(part.family, own)
