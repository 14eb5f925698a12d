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
        return 1 - mean_length(self.concentration)

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


_MANY = 1e6
"""Above this concentration draws are normal."""


def mean_length(concentration: Tensor) -> Tensor:
    """I_1(k) / I_0(k), the length of the mean of (cos x, sin x)."""
    return torch.special.i1e(concentration) / torch.special.i0e(concentration)


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
