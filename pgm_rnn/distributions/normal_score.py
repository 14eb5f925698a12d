"""The normal score of a Student t variable: the standard normal number of the same probability.

    w = Phi^{-1}(F(e)),   F the distribution function of Student's t law with v degrees of freedom
    dw/de = f(e) / phi(w),   dw/dv = (dF/dv) / phi(w)

Both tails are computed by that of -|e|, where no digits are lost. Torch has no F, so it is evaluated by scipy on the
CPU, in double precision; dF/dv is a central difference, whose error is about 1e-8 of its size.
"""

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.distributions.student_t import log_constant

LEAST = 1e-300
"""The smallest probability of a tail: scores are at most 37 in size."""
_STEP = 1e-4
"""Step of the difference, as a fraction of v."""


def normal_score(value: Tensor, df: Tensor) -> Tensor:
    """w of values of Student's t law with `df` degrees of freedom and scale 1, once differentiable; shapes broadcast.

    Example:
        >>> score = normal_score(torch.tensor([0.0, 12.706]), torch.tensor(1.0))  # 12.706 is the 97.5 % point
        >>> [round(w, 3) for w in score.tolist()]
        [0.0, 1.96]
    """
    found: Tensor = _NormalScore.apply(*torch.broadcast_tensors(value, df))
    return found


class _NormalScore(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, value: Tensor, df: Tensor) -> Tensor:
        from scipy.special import ndtri

        score = torch.as_tensor(ndtri(_tail(value, df).numpy())).abs() * value.detach().cpu().double().sign()
        score = score.to(value)
        ctx.save_for_backward(value, df, score)
        return score

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        value, df, score = ctx.saved_tensors
        log_normal = -0.5 * score.square() - 0.5 * math.log(2 * math.pi)
        log_density = log_constant(df) - 0.5 * (df + 1) * (value.square() / df).log1p()
        inside = score.abs() < 36.9  # further out the score no longer moves
        by_value = (log_density - log_normal).exp().where(inside, 0.0)
        step = _STEP * df
        change = (_tail(value, df + step) - _tail(value, df - step)) / (2 * step).cpu().double()
        by_df = -value.sign() * change.to(value) * (-log_normal).exp()
        return grad * by_value, grad * by_df.where(inside, 0.0)


def _tail(value: Tensor, df: Tensor) -> Tensor:
    """F(-|e|) in double precision on the CPU, at least `LEAST`."""
    from scipy.special import stdtr

    degrees, size = (part.detach().cpu().double().numpy() for part in (df, value.abs()))
    return torch.as_tensor(stdtr(degrees, -size)).clamp(min=LEAST)
