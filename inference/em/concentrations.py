"""M-steps of laws with a mean or direction and a concentration: gamma, von Mises, beta.

    gamma        mean = weighted mean;   a : log a - psi(a) = log mean - mean log x
    von Mises    loc = direction of the mean of (cos x, sin x), R its length;   k : I_1(k) / I_0(k) = R
    beta         a, b : psi(a) - psi(a + b) = mean log x,   psi(b) - psi(a + b) = mean log(1 - x)

The first two are one equation whose left side is monotone, solved by halving. For beta laws the likelihood is concave
in (a, b), and Newton's steps are halved until it does not fall. Sums run over the observed entries; means are weighted.
If a law before lies outside what is searched and fits better, it is kept, so that no likelihood falls. An entry that a
state has never seen keeps its law, or gets a fixed one. Sources: Minka (2002); Mardia & Jupp (2000), sec. 5.3.1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.distributions.beta import inside
from pgm_rnn.distributions.gamma import factorial_rest
from pgm_rnn.distributions.von_mises import mean_length
from pgm_rnn.emissions import Beta, EmissionTable, Gamma, VonMises
from pgm_rnn.emissions.limits import GAMMA
from pgm_rnn.inference.em.data_starts import features, usual
from pgm_rnn.inference.em.weighted import Weighted
from pgm_rnn.inference.em.weighted_estimates import estimate_in_units
from pgm_rnn.kernels import positive

LEAST, MOST = GAMMA.least, GAMMA.most  # and those of the other two
"""The concentrations that are searched, and that before."""
_HALVINGS = 60
_STEPS, _SHORTER = 40, 30
"""Newton's steps, and how often one is halved at most."""


class _Sums(NamedTuple):
    """Total weights (K, D) of the observed entries, and weighted means of functions of them, each (K, D), float64."""

    total: Tensor
    means: list[Tensor]

    @property
    def seen(self) -> Tensor:
        """Where a state has seen an entry."""
        return self.total > 0


def _sums(data: Weighted, *functions: Callable[[Tensor], Tensor]) -> _Sums:
    x = data.x.reshape(len(data.x), -1)
    there = torch.ones_like(x, dtype=torch.float64)
    if data.observed is not None:
        there = data.observed.reshape(x.shape).double()
    weights = data.weights.double().T
    total = weights @ there
    values = (of(x).where(there > 0, 0.0) for of in functions)
    return _Sums(total, [(weights @ value) / total.where(total > 0, 1.0) for value in values])


def _before(data: Weighted) -> tuple[Tensor, Tensor] | None:
    """The two kinds of parameters before, each (K, D), float64."""
    if data.before is None:
        return None
    first, second = data.before.params.detach().double().chunk(2, dim=-1)
    return first, second


def _root(falling: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The concentration at which a falling function crosses zero, between `LEAST` and `MOST`."""
    low, high = torch.full_like(like, LEAST).log(), torch.full_like(like, MOST).log()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        right = falling(middle.exp()) > 0
        low, high = middle.where(right, low), high.where(right, middle)
    return ((low + high) / 2).exp()


def _table(family: Gamma | Beta | VonMises, first: Tensor, concentration: Tensor, data: Weighted) -> EmissionTable:
    """The table with raw parameters of the first kind, and these concentrations."""
    raw = positive.inverse_softplus(concentration)
    return EmissionTable(family, torch.cat([first, raw], dim=-1).to(data.x.dtype))


@estimate_in_units.register
def _(family: Gamma, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    limits = torch.finfo(data.x.dtype)
    sums = _sums(data, torch.Tensor.double, lambda x: x.double().clamp(min=limits.tiny).log())
    mean = sums.means[0].clamp(min=limits.tiny).where(sums.seen, 1.0)
    spread = (mean.log() - sums.means[1]).clamp(min=0.0)
    found = _root(lambda a: _gamma_slope(a) - spread, mean)
    found, first = found.where(sums.seen, 1.0), positive.inverse_softplus(mean)
    before = _before(data)
    if before is not None:
        old = positive.scale(before[1])
        better = _gamma_value(found, spread) >= _gamma_value(old, spread)
        found = found.where(better & sums.seen, old)
        first = first.where(sums.seen, before[0])
    return _table(family, first, found, data)


def _gamma_slope(a: Tensor) -> Tensor:
    """log a - psi(a), which falls from infinity to 0."""
    large = a > 1e4
    few = a.where(~large, 1.0)
    return torch.where(large, 1 / (2 * a) + 1 / (12 * a.square()), few.log() - few.digamma())


def _gamma_value(a: Tensor, spread: Tensor) -> Tensor:
    """The mean log density around the weighted mean, but for terms without a."""
    return a.log() - factorial_rest(a) - a * spread


@estimate_in_units.register
def _(family: VonMises, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    sums = _sums(data, lambda x: x.double().cos(), lambda x: x.double().sin())
    cos, sin = sums.means
    loc, length = torch.atan2(sin, cos), torch.hypot(cos, sin)
    found = _root(lambda k: length - mean_length(k), loc).where(sums.seen, 1.0)
    before = _before(data)
    if before is not None:
        old = positive.scale(before[1])
        better = _angle_value(found, length) >= _angle_value(old, length)
        found = found.where(better & sums.seen, old)
        loc = loc.where(sums.seen, before[0])
    return _table(family, loc, found, data)


def _angle_value(k: Tensor, length: Tensor) -> Tensor:
    """The mean log density around the mean direction, but for terms without k."""
    return -k * (1 - length) - torch.special.i0e(k).log()


@estimate_in_units.register
def _(family: Beta, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    sums = _sums(
        data,
        lambda x: inside(x).double(),
        lambda x: inside(x).double().square(),
        lambda x: inside(x).double().log(),
        lambda x: (-inside(x).double()).log1p(),
    )
    mean, square, log_x, log_y = sums.means
    mean = mean.where(sums.seen, 0.5)
    start = _of_moments(mean, (square - mean.square()).where(sums.seen, 1 / 12))
    before = _before(data)
    if before is not None:
        c = positive.scale(before[1])
        old = (c * before[0].sigmoid(), c * (-before[0]).sigmoid())
        worse = _share_value(*old, log_x, log_y) < _share_value(*start, log_x, log_y)
        start = tuple(part.where(worse & sums.seen, kept) for part, kept in zip(start, old, strict=True))  # type: ignore[assignment]
    a, b = _climbed(*start, log_x, log_y, sums.seen)
    return _table(family, a.log() - b.log(), a + b, data)


def _of_moments(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of the law with these moments, as far as it lies in what is searched."""
    c = (mean * (1 - mean) / variance.clamp(min=1 / MOST) - 1).clamp(0.1, MOST)
    return (mean * c).clamp(min=LEAST), ((1 - mean) * c).clamp(min=LEAST)


def _share_value(a: Tensor, b: Tensor, log_x: Tensor, log_y: Tensor) -> Tensor:
    """The mean log density, but for terms without a and b."""
    c = a + b
    of_sizes = a * (log_x - (a / c).log()) + b * (log_y - (b / c).log())
    return of_sizes + a.log() + b.log() - c.log() + factorial_rest(c) - factorial_rest(a) - factorial_rest(b)


def _climbed(a: Tensor, b: Tensor, log_x: Tensor, log_y: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """a and b after Newton's steps, none of which lowers the likelihood."""
    value = _share_value(a, b, log_x, log_y)
    for _ in range(_STEPS):
        step_a, step_b = _newton(a, b, log_x, log_y)
        share = torch.ones_like(a)
        for _ in range(_SHORTER):
            new_a, new_b = (a + share * step_a).clamp(LEAST, MOST), (b + share * step_b).clamp(LEAST, MOST)
            found = _share_value(new_a, new_b, log_x, log_y)
            better = found >= value
            if bool((better | ~seen).all()):
                break
            share = share.where(better, share / 2)
        better = better & seen
        gain = (found - value).where(better, 0.0)
        a, b, value = new_a.where(better, a), new_b.where(better, b), found.where(better, value)
        if bool((gain <= 1e-15 * (1 + value.abs())).all()):
            break
    return a, b


def _newton(a: Tensor, b: Tensor, log_x: Tensor, log_y: Tensor) -> tuple[Tensor, Tensor]:
    """Newton's step, at which a and b grow at most tenfold and shrink to a tenth at least."""
    c = a + b
    slope_a, slope_b = log_x - a.digamma() + c.digamma(), log_y - b.digamma() + c.digamma()
    of_a, of_b, of_c = (torch.special.polygamma(1, part) for part in (a, b, c))
    determinant = of_a * of_b - of_c * (of_a + of_b)  # of minus the Hessian, positive
    step_a = ((of_b - of_c) * slope_a + of_c * slope_b) / determinant
    step_b = ((of_a - of_c) * slope_b + of_c * slope_a) / determinant
    largest = torch.maximum(step_a.abs() / a, step_b.abs() / b)
    low = torch.minimum(step_a / a, step_b / b)
    share = torch.minimum(9 / largest.clamp(min=9.0), 0.9 / (-low).clamp(min=0.9)).nan_to_num(nan=0.0)
    return (share * step_a).nan_to_num(nan=0.0), (share * step_b).nan_to_num(nan=0.0)


# Starts.


@features.register
def _(family: Gamma, x: Tensor) -> np.ndarray | None:
    """Logarithms, with columns of standard deviation 1."""
    return _scaled(x.reshape(len(x), -1).double().clamp(min=torch.finfo(torch.float64).tiny).log())


@features.register
def _(family: Beta, x: Tensor) -> np.ndarray | None:
    """Log odds, with columns of standard deviation 1."""
    return _scaled(inside(x.reshape(len(x), -1).double()).logit())


@features.register
def _(family: VonMises, x: Tensor) -> np.ndarray | None:
    """Cosines and sines."""
    flat = x.reshape(len(x), -1).double()
    return torch.cat([flat.cos(), flat.sin()], dim=-1).cpu().numpy()


def _scaled(values: Tensor) -> np.ndarray:
    deviation = values.std(0, correction=0)
    return ((values - values.mean(0)) / deviation.where(deviation > 0, 1.0)).cpu().numpy()


@usual.register
def _(family: VonMises, x: Tensor, observed: Tensor) -> Tensor:
    """The mean directions of the observed entries."""
    cos, sin = (part.where(observed, 0.0).sum(0) for part in (x.cos(), x.sin()))
    return torch.atan2(sin, cos)
