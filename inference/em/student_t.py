"""The M-step of Student's t law: a few steps of ECM on its scale mixture.

    u_n      = (v + 1) / (v + (x_n - m)^2 / s^2)           expected precision of observation n, given the laws before
    m, s^2   = weighted mean and mean square, m with weights w_n u_n, s^2 = sum_n w_n u_n (x_n - m)^2 / sum_n w_n
    v        : log(v / 2) - psi(v / 2) + 1 + mean(log u - u) + psi((v' + 1) / 2) - log((v' + 1) / 2) = 0

v' are the degrees of freedom before, and u is computed again before v. Each line maximises the expected density of x
and of the precisions in some of the parameters, so the weighted likelihood never falls, although it is at no maximum
after finitely many steps. Steps of v are short where v is large, so longer ones in the same direction are tried, too,
and the best of them is taken. Source: Liu & Rubin (1995), secs. 2 and 3.

The likelihood of few observations has no bound: a law with v degrees of freedom collapses on a value that has more
than v / (v + 1) of its weight. So scales are at least `Units.smallest_scales`, and laws that are estimated without laws
before them, which are starts, keep `START` degrees of freedom.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.distributions.student_t import log_constant
from pgm_rnn.emissions import EmissionTable, StudentT
from pgm_rnn.emissions.limits import STUDENT_T
from pgm_rnn.inference.em.units import Units, changed_params, num_real
from pgm_rnn.inference.em.weighted import Weighted, moments
from pgm_rnn.inference.em.weighted_estimates import at_smallest_scale, estimate_in_units, independent_means
from pgm_rnn.kernels import positive

START = 4.0
"""Degrees of freedom of a start."""
LEAST, MOST = STUDENT_T.least, STUDENT_T.most
"""The degrees of freedom that are searched, and those before."""
_STEPS, _STEPS_OF_START = 3, 20
_HALVINGS = 30
_LONGER = (8.0, 64.0)
"""Longer steps of log v, as multiples of that of ECM."""
_NEARLY = 1.01
"""Rounding of parameters may leave a scale a little above the smallest one."""


class _Laws(NamedTuple):
    """Location, scale and degrees of freedom, each (K, D), float64."""

    loc: Tensor
    scale: Tensor
    df: Tensor

    def precisions(self, x: Tensor, k: int) -> Tensor:
        """u_n of observations (N, D) in state k."""
        square = ((x - self.loc[k]) / self.scale[k]).square()
        return (self.df[k] + 1) / (self.df[k] + square)


def _laws(params: Tensor) -> _Laws:
    loc, raw_scale, raw_df = params.detach().double().chunk(3, dim=-1)
    return _Laws(loc, positive.scale(raw_scale), positive.scale(raw_df))


@estimate_in_units.register
def _(family: StudentT, data: Weighted, pseudo_count: float, units: Units) -> EmissionTable:
    if data.before is None:
        loc, variance = moments(data)
        laws = _Laws(loc, torch.maximum(variance.sqrt(), units.smallest_scales(loc)), torch.full_like(loc, START))
        for _ in range(_STEPS_OF_START):
            laws = _with_location_and_scale(laws, data, units)
    else:
        laws = _laws(data.before.params)
        for _ in range(_STEPS):
            laws = _with_df(_with_location_and_scale(laws, data, units), data)
    event = family.event_shape
    return family.table(*(part.to(data.x.dtype).reshape(-1, *event) for part in laws))


def _rows(data: Weighted) -> tuple[Tensor, Tensor]:
    """Observations (N, D), and 1 where they were observed, (N, D) or (1, 1)."""
    x = data.x.reshape(len(data.x), -1).double()
    if data.observed is None:
        return x, x.new_ones(1, 1)
    return x, data.observed.reshape(x.shape).double()


def _with_location_and_scale(laws: _Laws, data: Weighted, units: Units) -> _Laws:
    """The same degrees of freedom with new locations and scales; an entry that a state has never seen keeps its own."""
    x, there = _rows(data)
    loc, scale = laws.loc.clone(), laws.scale.clone()
    for k, w in enumerate(data.weights.T.double()):
        weights = w[:, None] * there  # (N, D) or (N, 1)
        total, precise = weights.sum(0), weights * laws.precisions(x, k)
        seen = total > 0
        sums = precise.sum(0)
        loc[k] = ((precise * x).sum(0) / sums.where(sums > 0, 1.0)).where(sums > 0, loc[k])
        variance = (precise * (x - loc[k]).square()).sum(0) / total.where(seen, 1.0)
        scale[k] = variance.sqrt().where(seen, scale[k])
    return _Laws(loc, torch.maximum(scale, units.smallest_scales(loc)), laws.df)


def _with_df(laws: _Laws, data: Weighted) -> _Laws:
    """The same locations and scales with new degrees of freedom."""
    x, there = _rows(data)
    mean = torch.full_like(laws.df, -torch.inf)  # of log u - u, at most -1
    for k, w in enumerate(data.weights.T.double()):
        weights, u = w[:, None] * there, laws.precisions(x, k)
        total = weights.sum(0)
        mean[k] = ((weights * (u.log() - u)).sum(0) / total.where(total > 0, 1.0)).where(total > 0, -torch.inf)
    half = (laws.df + 1) / 2
    step = _root(1 + mean + half.digamma() - half.log(), laws.df)
    return _best([laws._replace(df=df) for df in (step, *_longer(laws.df, step))], data)


def _longer(before: Tensor, step: Tensor) -> list[Tensor]:
    """Longer steps than that from `before` to `step`, within the degrees of freedom that are searched."""
    low, high = before.clamp(max=LEAST), before.clamp(min=MOST)
    return [torch.minimum(torch.maximum(before * (step / before) ** times, low), high) for times in _LONGER]


def _best(candidates: list[_Laws], data: Weighted) -> _Laws:
    """The degrees of freedom of the best candidate for each entry of each state; all else is the same in all."""
    x, there = _rows(data)
    values = torch.zeros(len(candidates), *candidates[0].df.shape, dtype=x.dtype, device=x.device)
    for k, w in enumerate(data.weights.T.double()):
        weights = w[:, None] * there
        square, total = ((x - candidates[0].loc[k]) / candidates[0].scale[k]).square(), weights.sum(0)
        for value, laws in zip(values, candidates, strict=True):
            df = laws.df[k]
            value[k] = total * log_constant(df) - (df + 1) / 2 * (weights * (square / df).log1p()).sum(0)
    df = torch.stack([laws.df for laws in candidates])
    return candidates[0]._replace(df=df.gather(0, values.argmax(0)[None])[0])


def _root(constant: Tensor, before: Tensor) -> Tensor:
    """v with log(v / 2) - psi(v / 2) = -constant, by halving of log v; the left side falls from infinity to 0."""
    low, high = before.clamp(max=LEAST).log(), before.clamp(min=MOST).log()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        half = middle.exp() / 2
        rising = half.log() - half.digamma() + constant > 0
        low, high = middle.where(rising, low), high.where(rising, middle)
    return high.exp().where(constant.isfinite(), before)


@num_real.register
def _(family: StudentT) -> int:
    return family.event_shape.numel()


@changed_params.register
def _(family: StudentT, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    loc, raw_scale, raw_df = params.chunk(3, dim=-1)
    raw_scale = positive.inverse_softplus(positive.scale(raw_scale) / unit)
    return torch.cat([(loc - centre) / unit, raw_scale, raw_df], -1)


@at_smallest_scale.register
def _(family: StudentT, params: Tensor, units: Units) -> Tensor:
    loc, raw_scale, _ = params.chunk(3, dim=-1)
    return positive.scale(raw_scale) <= _NEARLY * units.smallest_scales(loc)


@independent_means.register
def _(family: StudentT, params: Tensor) -> Tensor:
    return params.chunk(3, dim=-1)[0]
