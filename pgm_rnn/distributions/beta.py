"""The beta law by its mean and its concentration, exact to rounding for large concentrations.

    p(x) = Gamma(c) / (Gamma(a) Gamma(b)) x^(a - 1) (1 - x)^(b - 1),   a = m c,   b = (1 - m) c
    log p(x) = -a g(d / m) - b g(-d / (1 - m)) + log(a b / c) + S(c) - S(a) - S(b) - log x - log(1 - x),   d = x - m

with g and S of `gamma`. Every term of the second line is as small as the result. It is computed in float64, with d from
the end of the range that is nearer to the mean. The values 0, which stands in paddings and gaps, and 1 count as their
neighbours inside.
"""

from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries
from pgm_rnn.distributions.gamma import factorial_rest
from pgm_rnn.distributions.poisson import excess

_MOST_LOGIT = 300.0
"""A larger logit of the mean is 0 or 1 to rounding."""


class Beta(TorchDistribution):
    """Numbers between 0 and 1 of mean m = sigmoid(logit) and concentration c; the variance is m (1 - m) / (1 + c).

    Example:
        >>> law = Beta(torch.tensor(0.0), torch.tensor(2.0))  # the uniform law
        >>> round(float(law.log_prob(torch.tensor(0.3))), 6) == 0
        True
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.unit_interval

    def __init__(self, logit: Tensor, concentration: Tensor) -> None:
        self.logit, self.concentration = torch.broadcast_tensors(logit, concentration)
        super().__init__(self.logit.shape, validate_args=False)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "Beta":
        shape = torch.Size(batch_shape)
        return Beta(self.logit.expand(shape), self.concentration.expand(shape))

    @property
    def mean(self) -> Tensor:
        """m."""
        return self.logit.sigmoid()

    @property
    def variance(self) -> Tensor:
        """m (1 - m) / (1 + c)."""
        return self.logit.sigmoid() * (-self.logit).sigmoid() / (1 + self.concentration)

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """a and b, positive, in float64."""
        logit, c = self.logit.double().clamp(-_MOST_LOGIT, _MOST_LOGIT), self.concentration.double()
        least = torch.finfo(c.dtype).tiny
        return (c * logit.sigmoid()).clamp(min=least), (c * (-logit).sigmoid()).clamp(min=least)

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; its shape is the batch shape broadcast with that of the values."""
        dtype = torch.promote_types(value.dtype, self.logit.dtype)
        x, (a, b), c = inside(value.to(dtype)).double(), self.pair, self.concentration.double()
        logit = self.logit.double().clamp(-_MOST_LOGIT, _MOST_LOGIT)
        log_m, log_rest = F.logsigmoid(logit), F.logsigmoid(-logit)
        log_x, log_y = x.log(), (-x).log1p()
        m, rest = logit.sigmoid(), (-logit).sigmoid()
        d = torch.where(logit > 0, rest - (1 - x), x - m)
        found = -a * excess(d / m, log_x - log_m) - b * excess(-d / rest, log_y - log_rest)
        found = found + log_m + log_rest + c.log() + factorial_rest(c) - factorial_rest(a) - factorial_rest(b)
        return (found - log_x - log_y).to(dtype)

    @override
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, strictly between 0 and 1."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            first, second = (torch._standard_gamma(part.expand(shape)) for part in self.pair)
            total = first + second
            share = (first / total.where(total > 0, 1.0)).where(total > 0, torch.rand_like(total) < self.mean)
            return inside(share.to(self.logit.dtype))


def inside(x: Tensor) -> Tensor:
    """Numbers with 0 and 1 moved to their neighbours between them."""
    limits = torch.finfo(x.dtype)
    return x.clamp(limits.tiny, 1 - limits.eps / 2)


@of_entries.register
def _(law: Beta, x: Tensor) -> EntryLaws:
    """P(X <= x) is the regularised incomplete beta function of a, b and x."""
    from scipy.special import betainc

    given = torch.broadcast_tensors(*law.pair, x.double().clamp(0.0, 1.0))
    upto = torch.as_tensor(betainc(*(part.detach().cpu().numpy() for part in given))).to(law.logit)
    return EntryLaws(upto, upto, law.mean.expand(upto.shape))
