"""A mixture of the laws of finitely many states."""

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


def mixture(laws: TorchDistribution, probs: Tensor) -> TorchDistribution:
    """sum_k probs[..., k] laws[..., k], batch shape (...): again a law of symbols where these are such.

    Args:
        laws: one for each state, batch shape (K,) or (..., K).
        probs: p(z = k), (..., K).
    """
    if isinstance(laws, torch.distributions.Categorical):
        rows = probs @ laws.probs if laws.probs.dim() == 2 else (probs[..., None, :] @ laws.probs)[..., 0, :]
        return dist.Categorical(probs=rows, validate_args=False)
    weights = dist.Categorical(logits=probs.clamp(min=torch.finfo(probs.dtype).tiny).log(), validate_args=False)
    return dist.MixtureSameFamily(weights, laws.expand(probs.shape), validate_args=False)
