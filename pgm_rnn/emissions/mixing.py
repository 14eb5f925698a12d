"""A mixture of the laws of finitely many states."""

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor


def mixture(laws: TorchDistribution, log_weights: Tensor) -> TorchDistribution:
    """sum_k exp(log_weights[..., k]) laws[..., k], batch shape (...): Categorical if the laws are, else a mixture.

    Args:
        laws: one for each state, batch shape (K,) or (..., K).
        log_weights: log p(z = k), (..., K), -inf where a state is impossible.
    """
    if isinstance(laws, torch.distributions.Categorical):
        weights, rows = log_weights.exp(), laws.probs
        probs = weights @ rows if rows.dim() == 2 else (weights[..., None, :] @ rows)[..., 0, :]
        return dist.Categorical(logits=probs.log(), validate_args=False)  # probs= would make zeros positive
    weights = dist.Categorical(logits=log_weights, validate_args=False)
    return dist.MixtureSameFamily(weights, laws.expand(log_weights.shape), validate_args=False)


def log_weights(probs: Tensor) -> Tensor:
    """log probs; -inf with a gradient of zero where a probability is zero.

    A small positive weight in its place would change the law.
    """
    return probs.where(probs > 0, 1.0).log().where(probs > 0, -torch.inf)
