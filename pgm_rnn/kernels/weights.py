"""Weights of particles from their logarithms, log W^n = l^n - log sum_n exp(l^n), with few passes over them."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Normalized(NamedTuple):
    """Weights that sum to one over the first dimension.

    Attributes:
        log_total: log sum_n exp(l^n), (...), nats; -inf where all weights are zero, and then the others are NaN.
        log_weights: l^n - log_total, (N, ...).
        weights: their exponentials, (N, ...), without gradient.
    """

    log_total: Tensor
    log_weights: Tensor
    weights: Tensor


def normalize(log_weights: Tensor) -> Normalized:
    """Normalised weights from unnormalised log weights (N, ...), in nats.

    Exponentials below 1e-35 of the largest in single precision, 1e-304 in double, are zero: subnormal numbers and
    infinite logarithms take a processor a hundred times as long as others.
    """
    largest = log_weights.detach().amax(0).clamp(min=torch.finfo(log_weights.dtype).min)
    least = _least(log_weights.dtype)
    exponentials = F.threshold((log_weights - largest).clamp(min=least).exp(), math.exp(least + 0.01), 0.0)
    total = exponentials.sum(0)
    log_total = largest + total.log()
    return Normalized(log_total, log_weights - log_total, exponentials.detach() / total.detach())


def _least(dtype: torch.dtype) -> float:
    """The least logarithm whose exponential, divided by many others, is a normal number."""
    return math.log(torch.finfo(dtype).tiny) + 7.0
