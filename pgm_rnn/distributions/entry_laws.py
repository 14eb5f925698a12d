"""Distribution functions and means of the entries of an observation, each entry by itself.

    below = P(X_m < x_m),   upto = P(X_m <= x_m),   mean = E X_m

For continuous entries below = upto. Symbols are taken in the order of their numbers, and have no mean. Where a law
gives each entry only given those before it (`emissions.nade`), so do these functions. They are exact. A class of laws
joins in by registering a function with `of_entries`, in its own file.
"""

from functools import singledispatch
from typing import Any, NamedTuple

import torch
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Poisson,
    StudentT,
)

from pgm_rnn.distributions.normal import Normal
from pgm_rnn.distributions.singular_normal import SingularNormal

MOST_SUMMED = 10_000
"""Largest count up to which the probabilities of a law of counts without a distribution function are summed."""


class EntryLaws(NamedTuple):
    """Functions of the entries of an observation, each (*batch, *event).

    Attributes:
        below: P(X_m < x_m).
        upto: P(X_m <= x_m).
        mean: E X_m; NaN for symbols, and for laws without a mean.
    """

    below: Tensor
    upto: Tensor
    mean: Tensor


@singledispatch
def of_entries(law: Any, x: Tensor) -> EntryLaws:
    """The functions of a law at observations x (*batch, *event), which broadcast with the law's batch.

    Laws of a new kind register their own function here. Without one, a scalar law needs torch's `cdf` if it is
    continuous, and counts are summed up to `MOST_SUMMED`.

    Raises:
        TypeError: a law whose entries have no known distribution function.
    """
    if law.event_shape:
        raise TypeError(_unknown(law))
    if law.support.is_discrete:
        return _summed(law, x)
    try:
        upto = law.cdf(x)
    except NotImplementedError:
        raise TypeError(_unknown(law)) from None
    return EntryLaws(upto, upto, _mean(law).expand(upto.shape))


def averaged(entries: EntryLaws, weights: Tensor, axis: int) -> EntryLaws:
    """The functions of a mixture whose components lie along an axis, with weights that broadcast and sum to one."""
    return EntryLaws(*((weights * part).sum(axis) for part in entries))


def _unknown(law: Any) -> str:
    return (
        f"expected a law whose entries have a distribution function, got {type(law).__name__}; register one with "
        "pgm_rnn.distributions.entry_laws.of_entries"
    )


def _mean(law: Any) -> Tensor:
    try:
        mean: Tensor = law.mean
    except NotImplementedError:
        return torch.tensor(torch.nan)
    return mean


def _summed(law: Any, x: Tensor) -> EntryLaws:
    """Counts 0, 1, 2, ... by their probabilities."""
    largest = float(x.max())
    if not float(x.min()) >= 0 or not largest <= MOST_SUMMED:
        raise TypeError(_unknown(law))
    shape = torch.broadcast_shapes(x.shape, law.batch_shape)
    upto = torch.zeros(shape, dtype=torch.promote_types(x.dtype, torch.get_default_dtype()), device=x.device)
    below = upto.clone()
    for count in range(int(largest) + 1):
        prob = law.log_prob(torch.full_like(x, count)).exp()
        upto, below = upto + prob.where(x >= count, 0.0), below + prob.where(x > count, 0.0)
    return EntryLaws(below, upto, _mean(law).expand(shape))


@of_entries.register(Independent)
def _(law: Any, x: Tensor) -> EntryLaws:
    return of_entries(law.base_dist, x)


@of_entries.register
def _(law: ExpandedDistribution, x: Tensor) -> EntryLaws:
    shape = torch.broadcast_shapes(x.shape, law.batch_shape + law.event_shape)
    return of_entries(law.base_dist, x.expand(shape))


def _normal(loc: Tensor, scale: Tensor, x: Tensor) -> EntryLaws:
    upto = torch.special.ndtr((x - loc) / scale)
    return EntryLaws(upto, upto, loc.expand(upto.shape))


@of_entries.register(torch.distributions.Normal)
@of_entries.register(Normal)
def _(law: Any, x: Tensor) -> EntryLaws:
    return _normal(law.loc, law.scale, x)


@of_entries.register(MultivariateNormal)
@of_entries.register(LowRankMultivariateNormal)
def _(law: Any, x: Tensor) -> EntryLaws:
    return _normal(law.loc, law.variance.sqrt(), x)


@of_entries.register
def _(law: SingularNormal, x: Tensor) -> EntryLaws:
    return _normal(law.loc, law.root.square().sum(-1).sqrt(), x)


@of_entries.register
def _(law: StudentT, x: Tensor) -> EntryLaws:
    from scipy.special import stdtr

    scores = (x - law.loc) / law.scale
    df = law.df.expand(scores.shape)
    upto = torch.as_tensor(stdtr(*(part.detach().cpu().numpy() for part in (df, scores)))).to(scores)
    return EntryLaws(upto, upto, law.mean.expand(upto.shape))


@of_entries.register
def _(law: Bernoulli, x: Tensor) -> EntryLaws:
    zero = 1 - law.probs
    below = torch.where(x > 1, 1.0, zero.where(x > 0, 0.0))
    upto = torch.where(x >= 1, 1.0, zero.where(x >= 0, 0.0))
    return EntryLaws(below, upto, law.probs.expand(upto.shape))


@of_entries.register
def _(law: Poisson, x: Tensor) -> EntryLaws:
    """P(X <= n) = Gamma(n + 1, rate) / n!."""

    def upto(number: Tensor) -> Tensor:
        probs = torch.special.gammaincc(number.clamp(min=0.0) + 1, law.rate)
        return probs.where(number >= 0, 0.0)

    x = x.to(law.rate.dtype)
    found = upto(x.floor())
    return EntryLaws(upto(x.ceil() - 1), found, law.rate.expand(found.shape))


@of_entries.register
def _(law: Categorical, x: Tensor) -> EntryLaws:
    shape = torch.broadcast_shapes(x.shape, law.batch_shape)
    sums = law.probs.cumsum(-1).clamp(max=1.0)
    sums = torch.cat([torch.zeros_like(sums[..., :1]), sums], dim=-1).expand(*shape, -1)
    place = x.expand(shape).long()[..., None]
    below, upto = sums.gather(-1, place)[..., 0], sums.gather(-1, place + 1)[..., 0]
    return EntryLaws(below, upto, torch.full_like(upto, torch.nan))


@of_entries.register
def _(law: MixtureSameFamily, x: Tensor) -> EntryLaws:
    axis = -1 - len(law.event_shape)
    weights = law.mixture_distribution.probs[(...,) + (None,) * len(law.event_shape)]
    return averaged(of_entries(law.component_distribution, x.unsqueeze(axis)), weights, axis)
