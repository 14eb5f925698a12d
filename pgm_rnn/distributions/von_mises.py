"""The von Mises law of angles, exact to rounding for large concentrations.

p(x) = exp(k cos(x - loc)) / (2 pi I_0(k))
log p(x) = -2 k sin^2((x - loc) / 2) - log(2 pi) - log(e^-k I_0(k)),   -pi <= x <= pi
"""

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries


class VonMises(TorchDistribution):
    """Angles in radians around the direction `loc`, with concentration k, both of the batch shape.

    The mean is the mean direction, in -pi..pi, and the variance 1 - I_1(k) / I_0(k) the circular one.

    Example:
        >>> law = VonMises(torch.tensor(0.0), torch.tensor(1e-6))  # all angles alike
        >>> round(float(law.log_prob(torch.tensor(1.0)).exp() * 2 * math.pi), 4)
        1.0
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.interval(-math.pi, math.pi)

    def __init__(self, loc: Tensor, concentration: Tensor) -> None:
        self.loc, self.concentration = torch.broadcast_tensors(loc, concentration)
        super().__init__(self.loc.shape, validate_args=False)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "VonMises":
        shape = torch.Size(batch_shape)
        return VonMises(self.loc.expand(shape), self.concentration.expand(shape))

    @property
    def mean(self) -> Tensor:
        """The mean direction."""
        return torch.atan2(self.loc.sin(), self.loc.cos())

    @property
    def variance(self) -> Tensor:
        """The circular variance, in 0..1."""
        return lacking_length(self.concentration)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; its shape is the batch shape broadcast with that of the values."""
        bent = ((value - self.loc) / 2).sin().square()
        return -2 * self.concentration * bent - math.log(2 * math.pi) - torch.special.i0e(self.concentration).log()

    @override
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws in -pi..pi; those of concentrations above 10^6 are normal, with the error 1 / (8 k)."""
        with torch.no_grad():
            k = self.concentration.double()
            drawn = dist.VonMises(torch.zeros_like(k), k.clamp(1e-8, _MANY)).sample(torch.Size(sample_shape))
            drawn = torch.where(k > _MANY, torch.randn_like(drawn) / k.sqrt(), drawn) + self.loc.double()
            return torch.atan2(drawn.sin(), drawn.cos()).to(self.loc.dtype)


_LACK = (1 / 2, 1 / 8, 1 / 8, 25 / 128, 13 / 32)
"""1 - I_1(k) / I_0(k) = 1 / (2 k) + 1 / (8 k^2) + ..., the quotient of Hankel's series."""
_SERIES_FROM = 1e3
"""From this concentration on, five terms are exact to rounding; the difference from 1 loses three digits at most."""
_MANY = 1e6
"""Above this concentration draws are normal."""


def lacking_length(concentration: Tensor) -> Tensor:
    """1 - I_1(k) / I_0(k): by how much the mean of (cos x, sin x) is shorter than 1; computed in float64."""
    k = concentration.double()
    large = k > _SERIES_FROM
    few, inverse, series = k.where(~large, 1.0), 1 / k, torch.zeros_like(k)
    for coefficient in reversed(_LACK):
        series = inverse * (coefficient + series)
    found: Tensor = torch.where(large, series, 1 - torch.special.i1e(few) / torch.special.i0e(few))
    return found.to(concentration.dtype)


@of_entries.register
def _(law: VonMises, x: Tensor) -> EntryLaws:
    """P(-pi <= X <= x); the mean is the mean direction."""
    from scipy.stats import vonmises

    loc, k, x = torch.broadcast_tensors(law.loc.double(), law.concentration.double(), x.double())
    angles, sizes = (x - loc).detach().cpu().numpy(), k.detach().cpu().numpy()
    found = (vonmises.cdf(each, sizes) for each in (angles, (-math.pi - loc).detach().cpu().numpy()))
    last, first = (torch.as_tensor(each).to(law.loc) for each in found)
    upto = (last - first).clamp(0.0, 1.0)
    return EntryLaws(upto, upto, law.mean.expand(upto.shape))
