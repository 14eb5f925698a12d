"""Zero-inflated laws of counts: with some probability a zero, whatever the law of the counts says.

p(0) = gate + (1 - gate) q(0),   p(x) = (1 - gate) q(x) for x = 1, 2, ...
"""

from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from typing_extensions import override

from pgm_rnn.distributions.entry_laws import EntryLaws, of_entries


class ZeroInflated(TorchDistribution):
    """A law q of counts with further zeros, which a gate with some log odds adds.

    Args:
        counts: q, a law of scalars.
        gate_logits: log odds of the gate; they broadcast with the batch shape of q.

    Example:
        >>> import pyro.distributions as dist
        >>> law = ZeroInflated(dist.Poisson(torch.tensor(2.0)), torch.tensor(0.0))
        >>> law.mean, law.log_prob(torch.tensor(0.0)).exp()  # 1/2 + e^-2 / 2
        (tensor(1.), tensor(0.5677))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)
    support = constraints.nonnegative_integer

    def __init__(self, counts: TorchDistribution, gate_logits: Tensor) -> None:
        shape = torch.broadcast_shapes(counts.batch_shape, gate_logits.shape)
        self.counts: Any = counts if counts.batch_shape == shape else counts.expand(shape)
        self.gate_logits = gate_logits.expand(shape)
        super().__init__(shape, validate_args=False)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "ZeroInflated":
        shape = torch.Size(batch_shape)
        return ZeroInflated(self.counts.expand(shape), self.gate_logits.expand(shape))

    @property
    def gate(self) -> Tensor:
        """Probability of a zero that the law of the counts does not make."""
        return self.gate_logits.sigmoid()

    @property
    def mean(self) -> Tensor:
        """(1 - gate) m, m the mean of q."""
        mean: Tensor = (-self.gate_logits).sigmoid() * self.counts.mean
        return mean

    @property
    def variance(self) -> Tensor:
        """(1 - gate) (v + gate m^2), m and v the mean and the variance of q."""
        inner: Tensor = self.counts.variance + self.gate * self.counts.mean.square()
        return (-self.gate_logits).sigmoid() * inner

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; its shape is the batch shape broadcast with that of the values."""
        of_counts = F.logsigmoid(-self.gate_logits) + self.counts.log_prob(value)
        return torch.where(value == 0, torch.logaddexp(F.logsigmoid(self.gate_logits), of_counts), of_counts)

    @override
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of q, some of which the gate makes zero."""
        with torch.no_grad():
            drawn: Tensor = self.counts.sample(torch.Size(sample_shape))
            return drawn.where(torch.rand_like(drawn) >= self.gate, 0.0)


@of_entries.register
def _(law: ZeroInflated, x: Tensor) -> EntryLaws:
    inner, gate = of_entries(law.counts, x), law.gate
    below = gate * (x > 0) + (1 - gate) * inner.below
    upto = gate * (x >= 0) + (1 - gate) * inner.upto
    return EntryLaws(below, upto, law.mean.expand(upto.shape))
