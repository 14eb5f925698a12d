"""The Poisson law, exact to rounding for large counts and for small rates.

    log p(x) = x log r - r - log x!                                              for x < 16
             = -x g(r / x - 1) - log(2 pi x) / 2 - s(x),   g(d) = d - log(1 + d)     otherwise

The first line subtracts numbers near x log x; in float32 that loses whole nats from x = 10^5 on. In the second line
every term is as small as the result; s is the remainder of Stirling's formula. Source: Loader (2000).
"""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.kernels import positive

_LEAST_LARGE = 16.0
"""From this count on, five terms of Stirling's series are exact to 1e-16."""
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_NEAR = 0.1
"""Below this size of d / (2 + d), eight terms of the series of g are exact to rounding; above it, nothing cancels."""
_LARGE = 1e16
"""Above this value log(1 + d) = log d to rounding, and d is a quotient that may overflow."""
_UNDERFLOW = -40.0
"""Below this raw rate log softplus(raw) = raw to rounding; far below it softplus(raw) itself is zero."""


class Poisson(dist.Poisson):
    """Counts of rate r = softplus(raw).

    Args:
        raw: the unconstrained rate, batch shape.

    Example:
        >>> law = Poisson(torch.tensor(1e6))
        >>> round(float(law.log_prob(torch.tensor(1_000_000.0))), 4)  # float32; -log(2 pi 10^6) / 2 = -7.8267
        -7.8267
    """

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw
        super().__init__(positive.softplus(raw), validate_args=False)

    @override
    def expand(self, batch_shape: Any, _instance: Any = None) -> "Poisson":
        return Poisson(self.raw.expand(torch.Size(batch_shape)))

    @property
    def log_rate(self) -> Tensor:
        """log r, finite even if r underflows to zero."""
        return torch.where(
            self.raw < _UNDERFLOW, self.raw, self.rate.clamp(min=torch.finfo(self.rate.dtype).tiny).log()
        )

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; its shape is the batch shape broadcast with that of the values."""
        x = value.to(torch.promote_types(value.dtype, self.rate.dtype))
        large = x >= _LEAST_LARGE
        few = x.where(~large, 0.0)
        log_rate = self.log_rate.clamp(min=torch.finfo(self.rate.dtype).min)  # 0 log 0 = 0
        of_few = few * log_rate - self.rate - (few + 1).lgamma()
        if not bool(large.any()):
            return of_few
        many = x.where(large, _LEAST_LARGE)
        return torch.where(large, -deviance(many, self.rate, log_rate) - stirling(many), of_few)


def deviance(x: Tensor, rate: Tensor, log_rate: Tensor) -> Tensor:
    """x log(x / r) + r - x = x g(r / x - 1), at least 0, for x > 0."""
    return x * excess((rate - x) / x, log_rate - x.log())


def excess(d: Tensor, log_ratio: Tensor) -> Tensor:
    """g(d) = d - log(1 + d), at least 0; log_ratio = log(1 + d) is read where 1 + d is near 0 or very large."""
    ratio = d / (2 + d)
    near = ratio.abs() < _NEAR
    v, square = ratio.where(near, 0.0), ratio.where(near, 0.0).square()
    series = torch.zeros_like(v)
    for k in range(8, 0, -1):  # artanh(v) = v + v^3 (1 / 3 + v^2 / 5 + ...)
        series = torch.addcmul(v.new_tensor(1 / (2 * k + 1)), square, series)
    small = v * (d.where(near, 0.0) - 2 * square * series)
    far = (d < -0.99) | (d > _LARGE)  # 1 + d or its gradient may overflow or underflow
    return torch.where(near, small, d - torch.where(far, log_ratio, d.where(~far, 1.0).log1p()))


def stirling(x: Tensor) -> Tensor:
    """log x! - x log x + x, for x of at least 16."""
    inverse = 1 / x
    square, series = inverse.square(), torch.zeros_like(x)
    for coefficient in reversed(_STIRLING):
        series = coefficient + square * series
    return 0.5 * (2 * math.pi * x).log() + inverse * series
