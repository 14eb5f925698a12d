"""The shape k of the generalised Pareto law of the largest importance weights, which says whether they can be trusted.

    p(w) = (1 + k (w - u) / s)^(-1 / k - 1) / s    beyond a threshold u

Weights have a finite variance if k < 1/2; averages of them are reliable in practice up to k = 0.7. Sources: Zhang &
Stephens (2009) for the estimate, with the weak prior of Vehtari et al. (2024), app. C, towards k = 1/2.
"""

import math

import torch
from torch import Tensor

RELIABLE = 0.7
"""Largest k with which averages of weights are reliable: Vehtari et al. (2024), sec. 3.2.4."""
FEWEST = 5
"""Smallest number of weights in a tail, below which there is no estimate."""
_PRIOR = 10
"""Number of observations that the prior towards k = 1/2 counts as."""


def pareto_k(log_weights: Tensor) -> Tensor:
    """k of the largest weights of each column, (B,); NaN for too few weights, or a tail of equal ones.

    The tail has the largest min(N / 5, 3 sqrt(N)) weights.

    Args:
        log_weights: (N, B), nats.
    """
    num = len(log_weights)
    size = math.ceil(min(num / 5, 3 * num**0.5))
    if size < FEWEST:
        return torch.full_like(log_weights[0], torch.nan)
    ordered = (log_weights - log_weights.amax(0)).double().sort(0).values
    beyond = ordered[-size:].exp() - ordered[-size - 1].exp()  # (size, B)
    return generalised_pareto_shape(beyond).to(log_weights.dtype)


def generalised_pareto_shape(x: Tensor) -> Tensor:
    """The estimate of k from exceedances x - u, sorted along the first axis: (n, B) to (B,); NaN where all are zero.

    Sources: Zhang & Stephens (2009), eq. (7) and the text after it; Vehtari et al. (2024), eq. (C.1).
    """
    num, columns = len(x), x.shape[1:]
    grid = 30 + int(num**0.5)
    at = torch.arange(1, grid + 1, dtype=x.dtype, device=x.device)
    quartile = x[int(num / 4 + 0.5) - 1].clamp(min=torch.finfo(x.dtype).tiny)
    theta = (1 - (grid / (at - 0.5)).sqrt())[(...,) + (None,) * len(columns)] / (3 * quartile) + 1 / x[-1]  # (grid, B)
    k = torch.log1p(-theta[:, None] * x).mean(1)  # (grid, B)
    log_likelihood = num * ((-theta / k).log() - k - 1)
    weights = log_likelihood.softmax(0)
    theta = (weights * theta).sum(0)
    k = torch.log1p(-theta * x).mean(0)
    return ((num * k + _PRIOR * 0.5) / (num + _PRIOR)).where(x[-1] > 0, torch.nan)
