"""The negative binomial law: counts whose variance exceeds their mean, exact to rounding for large counts, too.

    p(x) = Gamma(x + r) / (Gamma(r) x!) (r / (r + m))^r (m / (r + m))^x,   r = 1 / dispersion
    Var x = m + dispersion m^2

Written like this the gammas and powers lose their digits to each other where x or r is large. With
g(d) = d - log(1 + d) and the rest of Stirling's formula S(a) = log Gamma(a + 1) - a log a + a

    log p(x) = -log(1 + x / r) + S(x + r) - S(x) - S(r) - r g(e / (r + m)) - x g(-r e / (x (r + m))),   e = x - m

where every term is as small as the result. The last two are the deviances of r and x from their expected shares of
x + r. It is computed in float64. Source: Loader (2000), of the binomial law.
"""

from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries
from pgm_rnn.distributions.gamma import factorial_rest
from pgm_rnn.distributions.poisson import Poisson, excess

_LEAST_DISPERSION = 1e-100
"""A smaller dispersion is raised to this one; both are Poisson's law to rounding."""
_POISSON = 1e-9
"""Below this dispersion, distribution functions are those of Poisson's law."""


class NegativeBinomial(TorchDistribution):
    """Counts of mean m = softplus(raw_mean).

    Args:
        raw_mean: the unconstrained mean, batch shape.
        dispersion: positive numbers, batch shape.

    Example:
        >>> law = NegativeBinomial(torch.tensor(2.0), torch.tensor(1.0))  # a geometric law
        >>> round(float(law.log_prob(torch.tensor(0.0)).exp()), 4), round(float(1 / (1 + law.mean)), 4)
        (0.3198, 0.3198)
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.nonnegative_integer

    def __init__(self, raw_mean: Tensor, dispersion: Tensor) -> None:
        self.raw_mean, self.dispersion = torch.broadcast_tensors(raw_mean, dispersion)
        super().__init__(self.raw_mean.shape, validate_args=False)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "NegativeBinomial":
        shape = torch.Size(batch_shape)
        return NegativeBinomial(self.raw_mean.expand(shape), self.dispersion.expand(shape))

    @property
    def mean(self) -> Tensor:
        """m."""
        return Poisson(self.raw_mean).mean

    @property
    def variance(self) -> Tensor:
        """m + dispersion m^2."""
        return self.mean + self.dispersion * self.mean.square()

    @property
    def total_count(self) -> Tensor:
        """r = 1 / dispersion, float64."""
        return 1 / self.dispersion.double().clamp(min=_LEAST_DISPERSION)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; its shape is the batch shape broadcast with that of the values."""
        dtype = torch.promote_types(value.dtype, self.raw_mean.dtype)
        return _log_prob(value.double(), self.raw_mean.double(), self.total_count).to(dtype)

    @override
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Counts of Poisson laws whose rates are gamma variables of mean m."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            r = self.total_count.expand(shape)
            rate = torch._standard_gamma(r) / r * Poisson(self.raw_mean.double()).mean
            return torch.poisson(rate).to(self.raw_mean.dtype)


def _log_prob(x: Tensor, raw_mean: Tensor, r: Tensor) -> Tensor:
    """log p(x) in float64."""
    poisson = Poisson(raw_mean)
    mean, log_mean = poisson.mean, poisson.log_rate.clamp(min=torch.finfo(raw_mean.dtype).min)
    n, both = x + r, r + mean
    log_share = n.log() - both.log()
    some = x.where(x > 0, 1.0)
    of_r = r * excess((x - mean) / both, log_share)
    of_x = some * excess(r * (mean - some) / (some * both), log_share + log_mean - some.log())
    of_x = of_x.where(x > 0, r * mean / both)
    return factorial_rest(n) - factorial_rest(x) - factorial_rest(r) - (x / r).log1p() - of_r - of_x


@of_entries.register
def _(law: NegativeBinomial, x: Tensor) -> EntryLaws:
    """P(X <= n) = I_p(r, n + 1) with p = r / (r + m), the regularised incomplete beta function."""
    from scipy.special import betainc

    mean, r = law.mean.double(), law.total_count
    poisson = of_entries(Poisson(law.raw_mean.double()), x.double())

    def upto(number: Tensor, limit: Tensor) -> Tensor:
        n, a, b = torch.broadcast_tensors(number.double().clamp(min=0.0) + 1, r, mean)
        probs = torch.as_tensor(
            betainc(*(part.detach().cpu().numpy() for part in (a, n, a / (a + b)))), device=x.device
        )
        return limit.where(law.dispersion < _POISSON, probs).where(number >= 0, 0.0).to(law.raw_mean.dtype)

    found = upto(x.floor(), poisson.upto)
    return EntryLaws(upto(x.ceil() - 1, poisson.below), found, law.mean.expand(found.shape))
