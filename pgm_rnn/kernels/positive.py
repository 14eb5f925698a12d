"""Positive numbers from unconstrained ones, without underflow to zero.

    softplus(raw) = log(1 + e^raw)

A network that reads large observations may ask for a raw scale of -500, whose softplus is zero in float32, and no law
has the standard deviation zero. So scales that come from networks are at least `least_scale`: 2.3e-13 in float32,
2.8e-103 in float64. A deviation of 10^5, measured in such a scale and squared, is still finite. Parameters in tables
may be smaller, down to the smallest normal number: 1.2e-38 in float32, 2.2e-308 in float64.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def softplus(raw: Tensor) -> Tensor:
    """log(1 + e^raw); by default torch drops e^-raw above 20, which float64 notices."""
    return F.softplus(raw, threshold=40)


def scale(raw: Tensor) -> Tensor:
    """softplus(raw), at least the smallest normal number."""
    return softplus(raw).clamp(min=torch.finfo(raw.dtype).tiny)


def least_scale(dtype: torch.dtype) -> float:
    """The floor of the scales that networks ask for."""
    return float(torch.finfo(dtype).tiny ** (1 / 3))


def scale_of_network(raw: Tensor) -> Tensor:
    """softplus(raw), at least `least_scale`."""
    return softplus(raw).clamp(min=least_scale(raw.dtype))


def at_least(raw: Tensor) -> Tensor:
    """A network's raw scale, whose softplus or exponential is at least `least_scale`."""
    return raw.clamp(min=math.log(least_scale(raw.dtype)))
