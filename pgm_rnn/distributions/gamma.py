"""The gamma law by its mean and its concentration, exact to rounding for large concentrations.

    p(x) = (a / m)^a / Gamma(a) x^(a - 1) e^(-a x / m)
    log p(x) = -a g(x / m - 1) + log a - S(a) - log x,   g(d) = d - log(1 + d),   S(a) = log Gamma(a + 1) - a log a + a

Every term of the second line is as small as the result, and d is (x - m) / m, whose numerator is exact for x near m: a
quotient x / m less one would be off by a rounding error of one, which the factor a makes large. It is computed in
float64. The value 0, which stands in paddings and gaps, counts as the smallest positive number.
"""

from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries
from pgm_rnn.distributions.poisson import excess, stirling

_MANY = 16.0
"""From this concentration on, Stirling's series is exact to 1e-16."""


class Gamma(TorchDistribution):
    """Positive numbers of mean m and concentration a, both of the batch shape; the variance is m^2 / a.

    Example:
        >>> law = Gamma(torch.tensor(2.0), torch.tensor(1.0))  # an exponential law
        >>> round(float(law.log_prob(torch.tensor(4.0)).exp()), 4)  # e^-2 / 2
        0.0677
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.positive

    def __init__(self, mean: Tensor, concentration: Tensor) -> None:
        self._mean, self.concentration = torch.broadcast_tensors(mean, concentration)
        super().__init__(self._mean.shape, validate_args=False)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "Gamma":
        shape = torch.Size(batch_shape)
        return Gamma(self._mean.expand(shape), self.concentration.expand(shape))

    @property
    def mean(self) -> Tensor:
        """m."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """m^2 / a."""
        return self._mean.square() / self.concentration

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; its shape is the batch shape broadcast with that of the values."""
        dtype = torch.promote_types(value.dtype, self._mean.dtype)
        x, m, a = value.double().clamp(min=torch.finfo(dtype).tiny), self._mean.double(), self.concentration.double()
        found = -a * excess((x - m) / m, x.log() - m.log()) + a.log() - factorial_rest(a) - x.log()
        return found.to(dtype)

    @override
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, at least the smallest normal number."""
        with torch.no_grad():
            a = self.concentration.double().expand(self._extended_shape(torch.Size(sample_shape)))
            drawn: Tensor = (torch._standard_gamma(a) / a * self._mean.double()).to(self._mean.dtype)
            return drawn.clamp(min=torch.finfo(drawn.dtype).tiny)


def factorial_rest(a: Tensor) -> Tensor:
    """S(a) = log Gamma(a + 1) - a log a + a, for a >= 0; S(0) = 0."""
    many = a >= _MANY
    few = a.where(~many, 1.0)
    of_few = (few + 1).lgamma() - few.xlogy(few) + few
    return torch.where(many, stirling(a.where(many, _MANY)), of_few)


@of_entries.register
def _(law: Gamma, x: Tensor) -> EntryLaws:
    """P(X <= x) is the regularised incomplete gamma function of a and a x / m."""
    a = law.concentration.double()
    rate = (a * x.double().clamp(min=0.0) / law.mean.double()).broadcast_to(torch.broadcast_shapes(x.shape, a.shape))
    upto = torch.special.gammainc(a.expand(rate.shape), rate).to(law.mean.dtype)
    return EntryLaws(upto, upto, law.mean.expand(upto.shape))
