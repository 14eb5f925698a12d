"""Laws of independent bits: p(x_d = 1) = sigmoid(l_d)."""

import pyro.distributions as dist
import torch
from torch import Tensor

from pgm_rnn.kernels import vector_densities


class Bernoulli(dist.Bernoulli):
    """Pyro's law of bits given logits, whose log densities take one compiled pass where there are many of them."""

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, batch shape; arguments are not checked."""
        logits = self.logits
        if not value.requires_grad and vector_densities.suits(logits, value):
            return vector_densities.bits(value, logits)
        found: Tensor = super().log_prob(value)
        return found


def logits_of(law: object) -> Tensor | None:
    """The logits l of a law of independent bits, torch's or Pyro's, (*batch, *event); None for any other class."""
    while type(law) in (torch.distributions.Independent, dist.Independent):
        law = law.base_dist  # type: ignore[attr-defined]
    if type(law) in (torch.distributions.Bernoulli, dist.Bernoulli, Bernoulli):
        logits: Tensor = law.logits  # type: ignore[attr-defined]
        return logits
    return None
