"""Independent normal entries with as few operations as possible, because a recurrence makes one such law per step.

log p(x) = sum_i -((x_i - m_i) / s_i)^2 / 2 - log s_i - log(2 pi) / 2
"""

import math
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import register_kl

from pgm_rnn.distributions.observed import entries_log_prob
from pgm_rnn.kernels import vector_densities

_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2


class Normal(TorchDistribution):
    """N(loc, scale^2), entry by entry; the last `event_dim` dimensions are one draw.

    Parameters are not checked. A scale of fewer dimensions than the mean is not expanded: its logarithm is taken once.

    Args:
        loc: means, (*batch, *event).
        scale: standard deviations; their shape broadcasts to that of `loc`.
        event_dim: number of dimensions of `loc`, from the right, that belong to the event.

    Example:
        >>> law = Normal(torch.zeros(3, 2), torch.tensor(2.0), event_dim=1)
        >>> law.batch_shape, law.event_shape, law.log_prob(torch.zeros(2)).shape
        (torch.Size([3]), torch.Size([2]), torch.Size([3]))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, event_dim: int = 0) -> None:
        self.loc, self.scale = loc, scale
        cut = loc.dim() - event_dim
        super().__init__(loc.shape[:cut], loc.shape[cut:], validate_args=False)

    @property
    def support(self) -> Any:
        """Real numbers."""
        return constraints.independent(constraints.real, self.event_dim) if self.event_dim else constraints.real

    @property
    def mean(self) -> Tensor:
        """The mean, `loc`."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """The standard deviation, `scale` in the shape of `loc`."""
        return self.scale.expand(self.loc.shape)

    @property
    def variance(self) -> Tensor:
        """The variance, scale^2 in the shape of `loc`."""
        return self.stddev.square()

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Normal":
        """The same law for a larger batch."""
        return Normal(self.loc.expand(torch.Size(batch_shape) + self.event_shape), self.scale, self.event_dim)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, batch shape."""
        if self.event_dim == 1 and vector_densities.suits(self.loc, self.scale, value):
            return vector_densities.normal(value, self.loc, self.scale)
        deviation = (value - self.loc) / self.scale
        entries = torch.addcmul(-self.scale.log() - _HALF_LOG_TWO_PI, deviation, deviation, value=-0.5)
        return entries.sum(tuple(range(-self.event_dim, 0))) if self.event_dim else entries

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that follow the parameters, (*sample_shape, *batch, *event)."""
        shape = torch.Size(sample_shape) + self.loc.shape
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return torch.addcmul(self.loc, noise, self.scale)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def icdf(self, value: Tensor) -> Tensor:
        """loc + scale times the standard normal quantile of probabilities in (0, 1)."""
        return self.loc + self.scale * torch.special.ndtri(value).to(self.loc.dtype)

    def entropy(self) -> Tensor:
        """Entropy in nats, batch shape."""
        entries = 0.5 + _HALF_LOG_TWO_PI + self.stddev.log()
        return entries.sum(tuple(range(-self.event_dim, 0))) if self.event_dim else entries


def log_prob_of_drawn(noise: Tensor, scale: Tensor) -> Tensor:
    """log N(loc + scale noise; loc, scale^2), nats, summed over the last axis of vectors (..., D): free of loc."""
    if vector_densities.suits(noise, scale):
        return vector_densities.drawn(noise, scale)
    return torch.addcmul(-_HALF_LOG_TWO_PI - scale.log(), noise, noise, value=-0.5).sum(-1)


class ScaledNormal(dist.Normal):
    """Pyro's normal law for scales whose squares underflow or overflow.

    Example:
        >>> law = ScaledNormal(torch.tensor(0.0), torch.tensor(1e-25))
        >>> round(float(law.log_prob(torch.tensor(2e-25))), 3)  # -2 + 25 log 10 - log(2 pi) / 2
        54.646
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ScaledNormal":
        """The same law for a larger batch."""
        batch_shape = torch.Size(batch_shape)
        return ScaledNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, computed from (x - loc) / scale without a variance."""
        if self._validate_args:
            self._validate_sample(value)
        return -0.5 * ((value - self.loc) / self.scale).square() - self.scale.log() - _HALF_LOG_TWO_PI


class Entries(NamedTuple):
    """Parameters of independent normal entries, which broadcast: (*batch, *event).

    Attributes:
        loc: means.
        scale: standard deviations.
        event_dim: number of axes that belong to the event.
    """

    loc: Tensor
    scale: Tensor
    event_dim: int


def entries_of(law: object) -> Entries | None:
    """The parameters of a law of independent normal entries, torch's, Pyro's or ours; None for any other class."""
    event_dim = 0
    while type(law) in (torch.distributions.Independent, dist.Independent):
        event_dim, law = event_dim + law.reinterpreted_batch_ndims, law.base_dist  # type: ignore[attr-defined]
    if type(law) in (torch.distributions.Normal, dist.Normal, ScaledNormal):
        return Entries(law.loc, law.scale, event_dim)  # type: ignore[attr-defined]
    if type(law) is Normal:
        return Entries(law.loc, law.scale, event_dim + law.event_dim)
    return None


@entries_log_prob.register
def _(law: Normal, x: Tensor, observed: Tensor) -> Tensor:
    entries = Normal(law.loc, law.scale).log_prob(x).where(observed, 0.0)
    return entries.sum(tuple(range(-law.event_dim, 0)))


@register_kl(Normal, Normal)  # type: ignore[untyped-decorator]
def _kl(p: Normal, q: Normal) -> Tensor:
    ratio, distance = p.stddev / q.stddev, ((p.loc - q.loc) / q.scale).square()
    entries = (ratio.square() + distance - 1) / 2 - ratio.log()  # log(ratio^2) might underflow
    return entries.sum(tuple(range(-p.event_dim, 0))) if p.event_dim else entries
