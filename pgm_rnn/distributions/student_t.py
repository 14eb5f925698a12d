"""Student's t law, exact to rounding for many degrees of freedom, for few, and far out in its tails.

    p(x) = c(v) / s (1 + y^2 / v)^(-(v + 1) / 2),   y = (x - m) / s
    c(v) = Gamma((v + 1) / 2) / (Gamma(v / 2) sqrt(pi v))

From `_MANY` degrees of freedom on, log c(v) is a series in 1 / v, because the two log gammas lose their digits to each
other there; as v grows it becomes that of the normal law. Far out, log(1 + y^2 / v) = 2 log y - log v, whose square
would overflow.
"""

import math

import pyro.distributions as dist
import torch
from torch import Tensor
from typing_extensions import override

_MANY = 50.0
"""From this number on, four terms of the series are exact to 1e-16."""
_SERIES = (-1 / 8, 1 / 192, -1 / 640, 17 / 14336)
"""log Gamma(n + 1/2) - log Gamma(n) - log(n) / 2 = -1 / (8 n) + 1 / (192 n^3) - ..."""
_FAR = 18.0
"""Above this value of log(y / sqrt v), 1 + y^2 / v = y^2 / v to rounding."""


class StudentT(dist.StudentT):
    """Real numbers with degrees of freedom `df`, location `loc` and scale `scale`, all of the batch shape.

    Example:
        >>> law = StudentT(torch.tensor(1e10), 0.0, 1.0)  # the normal law to rounding
        >>> round(float(law.log_prob(torch.tensor(0.0))), 4)
        -0.9189
    """

    @override
    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats; its shape is the batch shape broadcast with that of the values."""
        error = value - self.loc
        log_scale = self.scale.log()
        size = error.detach().abs().log() - log_scale.detach() - self.df.detach().log() / 2
        far = size > _FAR
        near = error.where(~far, 0.0) / self.scale
        of_near = (near.square() / self.df).log1p()
        of_far = 2 * (error.where(far, 1.0).abs().log() - log_scale) - self.df.log()
        return log_constant(self.df) - log_scale - (self.df + 1) / 2 * torch.where(far, of_far, of_near)


def log_constant(df: Tensor) -> Tensor:
    """log c(v), at most -log(2 pi) / 2, its value for the normal law; computed in float64."""
    dtype, df = df.dtype, df.double()
    many = df >= _MANY
    few, inverse = df.where(~many, 1.0), 2 / df.where(many, _MANY)
    of_few = ((few + 1) / 2).lgamma() - (few / 2).lgamma() - 0.5 * (math.pi * few).log()
    series = torch.zeros_like(inverse)
    for coefficient in reversed(_SERIES):
        series = coefficient + inverse.square() * series
    return torch.where(many, inverse * series - 0.5 * math.log(2 * math.pi), of_few).to(dtype)
