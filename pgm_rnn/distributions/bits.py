"""Laws of independent bits: p(x_d = 1) = sigmoid(l_d)."""

import pyro.distributions as dist
import torch
from torch import Tensor


def logits_of(law: object) -> Tensor | None:
    """The logits l of a law of independent bits, torch's or Pyro's, (*batch, *event); None for any other class."""
    while type(law) in (torch.distributions.Independent, dist.Independent):
        law = law.base_dist  # type: ignore[attr-defined]
    if type(law) in (torch.distributions.Bernoulli, dist.Bernoulli):
        logits: Tensor = law.logits  # type: ignore[attr-defined]
        return logits
    return None
