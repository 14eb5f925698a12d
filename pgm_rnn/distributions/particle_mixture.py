"""The predictive law of weighted particles: p(x) = sum_n W^n p(x | z^n)."""

from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.entry_laws import EntryLaws, averaged, of_entries
from pgm_rnn.kernels.weights import normalize


class ParticleMixture(TorchDistribution):
    """A mixture whose components are the first batch dimension of a law.

    Args:
        log_weights: log W^n, (N, *batch), nats.
        components: the laws p(x | z^n), batch shape (N, *batch).

    Example:
        >>> import pyro.distributions as dist
        >>> law = ParticleMixture(torch.tensor([0.25, 0.75]).log(), dist.Bernoulli(torch.tensor([0.0, 1.0])))
        >>> law.log_prob(torch.tensor(1.0)).exp()
        tensor(0.7500)
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(self, log_weights: Tensor, components: TorchDistribution) -> None:
        self.log_weights, self.components = log_weights, components
        super().__init__(log_weights.shape[1:], components.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the components."""
        return self.components.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ParticleMixture":
        """The same law for a larger batch."""
        shape = torch.Size([len(self.log_weights), *batch_shape])
        return ParticleMixture(self.log_weights.expand(shape), self.components.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, batch shape."""
        return normalize(self.log_weights + self.components.log_prob(value)).log_total

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws: a particle by its weight, then an observation from its law; (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            weights = self.log_weights.movedim(0, -1).softmax(-1).expand(*sample_shape, *self.batch_shape, -1)
            chosen = torch.distributions.Categorical(weights, validate_args=False).sample()
            drawn = self.components.sample(torch.Size(sample_shape)).movedim(len(sample_shape), 0)  # (N, *shape)
            index = chosen[(None, ...) + (None,) * len(self.event_shape)].expand(1, *drawn.shape[1:])
            return drawn.gather(0, index)[0]


@of_entries.register
def _(law: ParticleMixture, x: Tensor) -> EntryLaws:
    found = of_entries(law.components, x)
    weights = law.log_weights.softmax(0)
    shape = torch.broadcast_shapes(found.upto.shape, (len(weights), *x.shape))
    each = EntryLaws(*(part.expand(shape) for part in found))
    return averaged(each, weights[(...,) + (None,) * len(law.event_shape)], 0)
