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
        weights: exp(l^n) scaled so that the largest is 1, (N, ...), without gradient.
        ess: effective sample size (sum_n W^n)^2 / sum_n (W^n)^2, (...): Kong, Liu & Wong (1994).
    """

    log_total: Tensor
    log_weights: Tensor
    weights: Tensor
    ess: Tensor


def normalize(log_weights: Tensor) -> Normalized:
    """Normalised weights from unnormalised log weights (N, ...), in nats.

    Weights below 1e-17 of the largest in single precision, 1e-152 in double, count as zero: a processor takes a hundred
    times as long for infinite logarithms and for numbers whose squares are subnormal.

    Raises:
        TypeError: log weights that are not floating point.
        ValueError: no particle.
    """
    if not log_weights.is_floating_point():
        raise TypeError(f"expected log weights as a floating-point tensor, got {log_weights.dtype}")
    if log_weights.dim() == 0 or len(log_weights) == 0:
        raise ValueError(
            f"expected log weights (N, ...) of at least one particle, got shape {tuple(log_weights.shape)}"
        )
    largest = log_weights.detach().amax(0).clamp(min=torch.finfo(log_weights.dtype).min)
    least = least_exponent(log_weights.dtype)
    weights = F.threshold((log_weights - largest).clamp(min=least).exp(), math.exp(least + 0.01), 0.0)
    total = weights.sum(0)
    log_total = largest + total.log()
    weights = weights.detach()
    return Normalized(log_total, log_weights - log_total, weights, total.detach().square() / weights.square().sum(0))


def least_exponent(dtype: torch.dtype) -> float:
    """The logarithm of the largest weight that counts as zero beside a weight of 1."""
    return math.log(torch.finfo(dtype).tiny) / 2 + 4.0
