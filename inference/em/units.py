"""Units in which real observations are of ordinary size: y = (x - centre) / unit, column by column.

    centre    the median
    spread    the median of the distances from it that are not zero, the largest one left out
    unit      a power of two near the spread, so that nothing is rounded by the division

EM works on y, where squares neither vanish nor overflow and means lose no digits, whatever the unit and the zero of x:
posteriors are the same for x and a x + b. A single outlier moves neither centre nor spread. A column in which at most
one value differs from the others has the size of its median as spread, or 1 if that is zero.
"""

from functools import singledispatch
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pgm_rnn.emissions import Emission, EmissionTable, FullGaussian, Gaussian, Pen
from pgm_rnn.emissions.entries import inverse_softplus

MIN_SCALE = 1e-6
"""Smallest standard deviation of a state as a fraction of its column's spread."""
ROUNDINGS = 128
"""A state's standard deviation must exceed this many rounding errors of its mean, measured from the column's centre."""
ROUNDINGS_KEPT = 8
"""`ROUNDINGS` for densities that are computed in float64, so that only the mean that the model stores is rounded.

It is smaller, because a bound that moves with the mean lets the likelihood fall: this one moves only for states that
are more than 16 spreads away from the centre.
"""

FAR = 100.0
"""An observation further than this many spreads from its column's centre is an outlier."""


class Units(NamedTuple):
    """Units of the D real columns of an observation.

    Attributes:
        centre: (D,), in units of x as the next two.
        unit: (D,), powers of two.
        spread: (D,).
        min_scale: the smallest standard deviation allowed, as a fraction of the spread.
    """

    centre: Tensor
    unit: Tensor
    spread: Tensor
    min_scale: float = MIN_SCALE

    @staticmethod
    def of(x: Tensor, min_scale: float = MIN_SCALE) -> "Units":
        """The units of observations (N, D), NaN where one is missing."""
        columns = [_centre_and_spread(column[~column.isnan()]) for column in x.T]
        centre, spread, largest = (torch.stack(values) for values in zip(*columns, strict=True))
        limits = torch.finfo(x.dtype)
        smallest = (largest * limits.tiny**0.25).clamp(min=limits.tiny)  # so that squares of y stay finite
        size = torch.maximum(spread, smallest)
        unit = size / size.frexp().mantissa
        return Units(centre, unit, spread, min_scale)

    @property
    def log_volume(self) -> float:
        """log p(y) - log p(x) of one observation, nats."""
        return float(self.unit.double().log().sum())

    def log_volume_of(self, counts: Tensor) -> float:
        """log p(y) - log p(x) of observations with `counts` (D,) observed entries in each column, nats."""
        return float(counts.double() @ self.unit.double().log())

    def ordinary(self, y: Tensor) -> Tensor:
        """Whether no real entry of observations (N, M), in the units, is further than `FAR` from its centre, (N,)."""
        return (y[:, : len(self.unit)].abs() <= FAR * self.spread / self.unit).all(-1)

    def smallest_scales(self, loc: Tensor, roundings: int = ROUNDINGS) -> Tensor:
        """The smallest standard deviation allowed around means (K, D), means and result in the units: (K, D).

        A fraction of the spread, and more than a mean is rounded, here and where it is kept in the units of x.

        Args:
            loc: the means.
            roundings: the number of rounding errors of a mean that a standard deviation must exceed.
        """
        eps, spread = torch.finfo(self.unit.dtype).eps, self.spread / self.unit
        here = eps * torch.maximum(roundings * loc.abs(), ROUNDINGS * spread)
        kept = eps * (self.centre / self.unit).abs()
        return torch.maximum(torch.maximum(here, kept), self.min_scale * spread)


@singledispatch
def units_of(family: Emission, x: Tensor, min_scale: float = MIN_SCALE) -> Units | None:
    """The units of observations (N, *event) of a family; None for a family without real entries."""
    width = num_real(family)
    return Units.of(x.reshape(len(x), -1)[:, :width], min_scale) if width else None


@singledispatch
def num_real(family: object) -> int:
    """Number of real entries, at the front of an observation, whose laws can be rescaled in closed form."""
    return 0


@num_real.register(Gaussian)
@num_real.register(FullGaussian)
def _(family: Gaussian | FullGaussian) -> int:
    return family.event_shape.numel()


@num_real.register
def _(family: Pen) -> int:
    return 2


def in_units(family: Emission, x: Tensor, units: Units | None) -> Tensor:
    """Observations (..., *event) in the units."""
    if units is None:
        return x
    flat = x.reshape(*x.shape[: x.dim() - len(family.event_shape)], -1)
    width = len(units.unit)
    real = (flat[..., :width] - units.centre) / units.unit
    return torch.cat([real, flat[..., width:]], -1).reshape(x.shape)


def table_in_units(table: EmissionTable, units: Units | None) -> EmissionTable:
    """The laws of y for a table of laws of x."""
    if units is None:
        return table
    return _changed(table, units.centre, units.unit)


def table_out_of_units(table: EmissionTable, units: Units | None) -> EmissionTable:
    """The laws of x for a table of laws of y."""
    if units is None:
        return table
    return _changed(table, -units.centre / units.unit, 1 / units.unit)


def _changed(table: EmissionTable, centre: Tensor, unit: Tensor) -> EmissionTable:
    """The laws of (v - centre) / unit for a table of laws of v, computed in float64."""
    params = changed_params(table.family, table.params.detach().double(), centre.double(), unit.double())
    return EmissionTable(table.family, params.to(table.params.dtype))


@singledispatch
def changed_params(family: object, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    """The parameters (K, num_params) of the laws of (v - centre) / unit for those of laws of v.

    Raises:
        TypeError: a family without real entries.
    """
    raise TypeError(f"expected a family of real numbers, got {family}")


@changed_params.register
def _(family: Gaussian, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    loc, raw_scale = params.chunk(2, dim=-1)
    scale = F.softplus(raw_scale) / unit
    return torch.cat([(loc - centre) / unit, inverse_softplus("scale", scale)], -1)


@changed_params.register
def _(family: FullGaussian, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    law = family.distribution(params)
    return family.table_of_factors((law.loc - centre) / unit, law.scale_tril / unit[:, None]).params.detach()


@changed_params.register
def _(family: Pen, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    n = family.num_components
    log_pi, mu_x, mu_y, log_sx, log_sy, rest = params.split([n, n, n, n, n, n + 1], dim=-1)
    mus = [(mu - c) / u for mu, c, u in zip((mu_x, mu_y), centre, unit, strict=True)]
    logs = [log_s - u.log() for log_s, u in zip((log_sx, log_sy), unit, strict=True)]
    return torch.cat([log_pi, *mus, *logs, rest], -1)


def _centre_and_spread(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Median, spread and largest distance from the median of one column's values (n,)."""
    one = torch.ones((), dtype=values.dtype, device=values.device)
    if len(values) == 0:
        return 0 * one, one, 0 * one
    centre = values.median()
    distances = (values - centre).abs()
    apart = distances[distances > 0].sort().values
    if len(apart) > 1:
        return centre, apart[:-1].median(), distances.max()
    size = centre.abs()
    return centre, torch.where(size > 0, size, one), distances.max()
