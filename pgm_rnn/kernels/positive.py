"""Positive numbers from unconstrained ones, without underflow to zero.

    softplus(raw) = log(1 + e^raw)

A network that reads large observations may output a raw scale of -500, whose softplus is zero in float32, and a normal
law needs a positive standard deviation. So scales from networks are at least `least_scale`: 2.3e-13 in float32,
2.8e-103 in float64. Even a deviation of 10^5 has a finite square when it is divided by such a scale. Parameters in
tables may be smaller, down to the smallest normal number: 1.2e-38 in float32, 2.2e-308 in float64.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def softplus(raw: Tensor) -> Tensor:
    """log(1 + e^raw); torch's default drops e^-raw above 20, which is too early for float64."""
    return F.softplus(raw, threshold=40)


def inverse_softplus(y: Tensor) -> Tensor:
    """log(e^y - 1), the number whose softplus is y > 0, without overflow; NaN for a negative y."""
    return y + torch.log(-torch.expm1(-y))


def scale(raw: Tensor) -> Tensor:
    """softplus(raw), at least the smallest normal number."""
    return softplus(raw).clamp(min=torch.finfo(raw.dtype).tiny)


def least_scale(dtype: torch.dtype) -> float:
    """The smallest scale that a network may output."""
    return float(torch.finfo(dtype).tiny ** (1 / 3))


def scale_of_network(raw: Tensor) -> Tensor:
    """softplus(raw), at least `least_scale`."""
    return softplus(raw).clamp(min=least_scale(raw.dtype))


def at_least(raw: Tensor) -> Tensor:
    """A network's raw scale, raised until its exponential, and so nearly its softplus, is at least `least_scale`."""
    return raw.clamp(min=math.log(least_scale(raw.dtype)))
