"""Values that a compiled recursion has computed, with gradients that wait until someone asks for them.

A compiled recursion that has no gradient of its own is sometimes fifty times as fast as the same recursion in torch
operations, and most callers look at the values alone, even where a parameter asks for gradients. So the values are
compiled, and a backward pass, if there ever is one, runs the recursion in torch operations and goes through it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

Definition = Callable[..., tuple[Tensor, ...]]
"""A recursion in torch operations, from its inputs to its results."""


def with_gradients(values: Sequence[Tensor], definition: Definition, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`values`, with the gradients in `inputs`, of any order, that `definition(*inputs)` has.

    Args:
        values: the results of the definition, computed in another way; copies of them are returned.
        definition: must not look at the inputs' gradients, and depend on no other tensor that asks for one.
        inputs: tensors; those under a transformation of `torch.func` are not accepted.
    """
    found: tuple[Tensor, ...] = _Deferred.apply(definition, len(values), *values, *inputs)
    return found


class _Deferred(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, definition: Definition, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.definition, ctx.count = definition, count
        ctx.save_for_backward(*tensors[count:])
        return tuple(value.clone() for value in tensors[:count])

    @staticmethod
    @override
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        pull = torch.func.vjp(ctx.definition, *ctx.saved_tensors)[1]
        return None, None, *[None] * ctx.count, *pull(grads)
