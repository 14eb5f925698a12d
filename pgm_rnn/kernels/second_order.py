"""Gradients that can be differentiated again, for functions whose first derivatives are compiled.

A compiled recursion knows its gradient but not the gradient's. Where that is asked for (`create_graph=True`,
`torch.func.hessian`), the gradient is taken of the same recursion written with torch operations. It costs what autograd
through a loop costs; first derivatives do not pass through here.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(
    function: Callable[..., Tensor], arguments: Sequence[Tensor], weights: Tensor, known: Tensor
) -> tuple[Tensor, ...]:
    """d sum_b weights[b] function(*arguments)[b] / d arguments, differentiable in arguments and weights.

    Args:
        function: the recursion in torch operations.
        arguments: its arguments.
        weights: (B,).
        known: its result as the compiled recursion computes it, (B,).

    Raises:
        RuntimeError: the function's result is another one, because a number is out of its range.
    """
    value, pull = torch.func.vjp(function, *arguments)[:2]
    found: tuple[Tensor, ...] = pull(_checked(weights, value.detach(), known.detach()))
    return found


def _checked(weights: Tensor, value: Tensor, known: Tensor) -> Tensor:
    """The weights, where the two values of each sequence agree."""
    same = torch.isclose(value, known, rtol=1e-3, atol=1e-3, equal_nan=True)
    try:
        all_same = bool(same.all())
    except RuntimeError:  # inside torch.func.vmap nothing can be raised for some rows; NaN tells
        return weights.where(same, torch.nan)
    if not all_same:
        index = int((~same).nonzero()[0])
        raise RuntimeError(
            f"expected beliefs within the range of float64 for second derivatives, got log p(x) = "
            f"{float(value[index]):.6g} in place of {float(known[index]):.6g} for sequence {index}; "
            "use first derivatives, or a chain whose states stay within reach of each other"
        )
    return weights
