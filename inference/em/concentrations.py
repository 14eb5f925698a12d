"""M-steps of laws with a mean or direction and a concentration: gamma, von Mises, beta.

    gamma        mean = weighted mean;   a : log a - psi(a) = log mean - mean log x
    von Mises    loc = direction of the mean of (cos x, sin x), R its length;   k : I_1(k) / I_0(k) = R
    beta         a, b : psi(a) - psi(a + b) = mean log x,   psi(b) - psi(a + b) = mean log(1 - x)

The first two are one equation whose left side is monotone, solved by halving. For beta laws the likelihood is concave
in (a, b), and Newton's steps are halved until it does not fall. Sums run over the observed entries; means are weighted.
Where observations are nearly equal these means lose the digits that large concentrations need. So deviations from the
mean are summed instead: for gamma laws mean g(x / mean - 1) = log mean - mean log x with g(d) = d - log(1 + d), and
likewise for the others. If a law before lies outside what is searched and fits better, it is kept, so that no
likelihood falls. An entry that a state has never seen keeps its law, or gets a fixed one. Sources: Minka (2002); Mardia
& Jupp (2000), sec. 5.3.1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.distributions.beta import inside
from pgm_rnn.distributions.gamma import factorial_rest
from pgm_rnn.distributions.poisson import excess
from pgm_rnn.distributions.von_mises import lacking_length
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


class _Rows(NamedTuple):
    """Observations x (n, D), float64, weights (K, n), where they were observed (n, D), and total weights (K, D)."""

    x: Tensor
    weights: Tensor
    there: Tensor
    total: Tensor

    @property
    def seen(self) -> Tensor:
        """Where a state has seen an entry."""
        return self.total > 0

    def mean(self, values: Tensor) -> Tensor:
        """Weighted means of values (n, D) over the observed entries, (K, D)."""
        return (self.weights @ values.where(self.there, 0.0)) / self.total.where(self.seen, 1.0)

    def mean_about(self, of: Callable[..., Tensor], *centres: Tensor) -> Tensor:
        """Weighted means of `of(x, centre, ...)` in each state, (K, D), for centres (K, D)."""
        states = zip(self.weights, *centres, strict=True)
        sums = [weights @ of(self.x, *centre).where(self.there, 0.0) for weights, *centre in states]
        return torch.stack(sums) / self.total.where(self.seen, 1.0)


def _rows(data: Weighted, read: Callable[[Tensor], Tensor]) -> _Rows:
    x = read(data.x.reshape(len(data.x), -1)).double()
    there = torch.ones_like(x, dtype=torch.bool)
    if data.observed is not None:
        there = data.observed.reshape(x.shape)
    weights = data.weights.double().T
    return _Rows(x, weights, there, weights @ there.double())


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
    least = torch.finfo(data.x.dtype).tiny
    rows = _rows(data, lambda x: x.clamp(min=least))
    mean = rows.mean(rows.x).clamp(min=least).where(rows.seen, 1.0)
    spread = rows.mean_about(lambda x, m: excess((x - m) / m, x.log() - m.log()), mean)
    found = _root(lambda a: _gamma_slope(a) - spread, mean)
    found, first = found.where(rows.seen, 1.0), positive.inverse_softplus(mean)
    before = _before(data)
    if before is not None:
        old = positive.scale(before[1])
        better = _gamma_value(found, spread) >= _gamma_value(old, spread)
        found = found.where(better & rows.seen, old)
        first = first.where(rows.seen, before[0])
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
    rows = _rows(data, torch.Tensor.double)
    loc = torch.atan2(rows.mean(rows.x.sin()), rows.mean(rows.x.cos()))
    lack = rows.mean_about(lambda x, centre: 2 * ((x - centre) / 2).sin().square(), loc)
    found = _root(lambda k: lacking_length(k) - lack, loc).where(rows.seen, 1.0)
    before = _before(data)
    if before is not None:
        old = positive.scale(before[1])
        better = _angle_value(found, lack) >= _angle_value(old, lack)
        found = found.where(better & rows.seen, old)
        loc = loc.where(rows.seen, before[0])
    return _table(family, loc, found, data)


def _angle_value(k: Tensor, lack: Tensor) -> Tensor:
    """The mean log density around the mean direction, but for terms without k."""
    return -k * lack - torch.special.i0e(k).log()


@estimate_in_units.register
def _(family: Beta, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    rows = _rows(data, inside)
    shares, variance = _shares(rows)
    start = _of_moments(shares, variance)
    before = _before(data)
    if before is not None:
        c = positive.scale(before[1])
        old = (c * before[0].sigmoid(), c * (-before[0]).sigmoid())
        worse = shares.value(*old) < shares.value(*start)
        start = tuple(part.where(worse & rows.seen, kept) for part, kept in zip(start, old, strict=True))  # type: ignore[assignment]
    a, b = _climbed(*start, shares, rows.seen)
    return _table(family, (a / b).log(), a + b, data)


class _Shares(NamedTuple):
    """Means of numbers between 0 and 1 in each state and entry, (K, D).

    Attributes:
        mean: m, the mean of x.
        rest: the mean of 1 - x.
        of_x: mean g(x / m - 1) = log m - mean log x.
        of_rest: the same of 1 - x.
    """

    mean: Tensor
    rest: Tensor
    of_x: Tensor
    of_rest: Tensor

    def value(self, a: Tensor, b: Tensor) -> Tensor:
        """The mean log density, but for terms without a and b."""
        c, (d, d_rest) = a + b, self._apart(a, b)
        of_x = a * (self.of_x + excess(d, (self.mean / (a / c)).log()))
        of_rest = b * (self.of_rest + excess(d_rest, (self.rest / (b / c)).log()))
        constant = a.log() + b.log() - c.log() + factorial_rest(c) - factorial_rest(a) - factorial_rest(b)
        return constant - of_x - of_rest

    def slopes(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The value's slopes in a and b: mean log x - psi(a) + psi(a + b), and the same of 1 - x."""
        (d, d_rest), of_c = self._apart(a, b), _gamma_slope(a + b)
        return (
            d.log1p() - self.of_x + _gamma_slope(a) - of_c,
            d_rest.log1p() - self.of_rest + _gamma_slope(b) - of_c,
        )

    def _apart(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Relative deviations of the means of x and 1 - x from those of the law, a / c and b / c."""
        share, rest = a / (a + b), b / (a + b)
        d = torch.where(self.mean > 0.5, rest - self.rest, self.mean - share)
        return d / share, -d / rest


def _shares(rows: _Rows) -> tuple[_Shares, Tensor]:
    """The means, and the variances, (K, D)."""
    mean, rest = (rows.mean(part).where(rows.seen, 0.5) for part in (rows.x, 1 - rows.x))
    of_x = rows.mean_about(lambda x, m, q: excess(_deviation(x, m, q) / m, x.log() - m.log()), mean, rest)
    of_rest = rows.mean_about(lambda x, m, q: excess(-_deviation(x, m, q) / q, (-x).log1p() - q.log()), mean, rest)
    variance = rows.mean_about(lambda x, m, q: _deviation(x, m, q).square(), mean, rest)
    return _Shares(mean, rest, of_x, of_rest), variance.where(rows.seen, 1 / 12)


def _deviation(x: Tensor, mean: Tensor, rest: Tensor) -> Tensor:
    """x - mean, from the nearer end of the range."""
    return torch.where(mean > 0.5, rest - (1 - x), x - mean)


def _of_moments(shares: _Shares, variance: Tensor) -> tuple[Tensor, Tensor]:
    """a and b of the law with these moments, as far as it lies in what is searched."""
    c = (shares.mean * shares.rest / variance.clamp(min=1 / MOST) - 1).clamp(0.1, MOST)
    return (shares.mean * c).clamp(min=LEAST), (shares.rest * c).clamp(min=LEAST)


def _climbed(a: Tensor, b: Tensor, shares: _Shares, seen: Tensor) -> tuple[Tensor, Tensor]:
    """a and b after Newton's steps, none of which lowers the likelihood."""
    value = shares.value(a, b)
    for _ in range(_STEPS):
        step_a, step_b = _newton(a, b, *shares.slopes(a, b))
        share = torch.ones_like(a)
        for _ in range(_SHORTER):
            new_a, new_b = (a + share * step_a).clamp(LEAST, MOST), (b + share * step_b).clamp(LEAST, MOST)
            found = shares.value(new_a, new_b)
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


def _newton(a: Tensor, b: Tensor, slope_a: Tensor, slope_b: Tensor) -> tuple[Tensor, Tensor]:
    """Newton's step, at which a and b grow at most tenfold and shrink to a tenth at least.

    With psi'(a) = 1 / a + t(a) the parts 1 / a of the Hessian's determinant cancel, and only those with t are left.
    """
    c = a + b
    of_a, of_b, of_c = (_trigamma_rest(part) for part in (a, b, c))
    determinant = of_a * a / (b * c) + of_b * b / (a * c) + of_a * of_b - of_c * (c / (a * b) + of_a + of_b)
    both, only_a, only_b = 1 / c + of_c, b / (a * c) + of_a - of_c, a / (b * c) + of_b - of_c
    step_a = (only_b * slope_a + both * slope_b) / determinant
    step_b = (only_a * slope_b + both * slope_a) / determinant
    largest = torch.maximum(step_a.abs() / a, step_b.abs() / b)
    low = torch.minimum(step_a / a, step_b / b)
    share = torch.minimum(9 / largest.clamp(min=9.0), 0.9 / (-low).clamp(min=0.9)).nan_to_num(nan=0.0)
    return (share * step_a).nan_to_num(nan=0.0), (share * step_b).nan_to_num(nan=0.0)


def _trigamma_rest(a: Tensor) -> Tensor:
    """t(a) = psi'(a) - 1 / a."""
    large = a > 1e3
    few, inverse = a.where(~large, 1.0), 1 / a
    series = inverse.square() * (1 / 2 + inverse * (1 / 6 - inverse.square() / 30))
    return torch.where(large, series, torch.special.polygamma(1, few) - 1 / few)


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
