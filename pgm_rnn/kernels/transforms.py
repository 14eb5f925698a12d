"""Tests for the transformations of `torch.func`, under which only torch operations may be used.

Torch has no public ones; those used here are in every version since 2.0.
"""

from collections.abc import Callable, Iterable
from functools import partial
from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override


def is_differentiated(tensors: Iterable[Tensor]) -> bool:
    """Whether grad, vjp, jvp, jacrev, jacfwd or hessian differentiates with respect to one of these tensors.

    Torch does not differentiate a custom `autograd.Function` twice in forward mode, and says nothing.
    """
    return any(torch._C._functorch.is_gradtrackingtensor(tensor) for tensor in tensors)


def is_transformed(tensors: Iterable[Tensor]) -> bool:
    """Whether one of these tensors stands for others, as inside `torch.func.vmap` or one of the above."""
    return any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors)


def all_rows(tensor: Tensor) -> Tensor:
    """The tensor of the values of all rows, of which `torch.func.vmap` shows a function one; another one as it is."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


class Function(torch.autograd.Function):
    """torch's own, without its look at the names of `forward`'s arguments in every call.

    Arguments are given by position, all of them, so that there are no names and defaults to find. Inside
    `torch.func.vmap` of something else it is applied as it is; who lets mapped tensors in defines `vmap`.
    """

    _ANY = Signature([Parameter("arguments", Parameter.VAR_POSITIONAL)])

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "forward" in vars(cls):
            cls.forward.__signature__ = cls._ANY  # type: ignore[attr-defined]
        if "vmap" not in vars(cls):
            cls.vmap = staticmethod(partial(_unmapped, cls))  # type: ignore[method-assign]


def _unmapped(of: type[Function], info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
    """The values for arguments of which none is mapped, and the axes of rows that they do not have."""
    found = of.apply(*inputs)
    return found, (None,) * len(found) if isinstance(found, tuple) else None


Rule = Callable[..., tuple[Tensor, int]]


class ByRule(Function):
    """`ByRule.apply(function, rule, *tensors)`: function(*tensors), where `torch.func.vmap` follows a rule.

    The rule is called with the number of rows, the axis of the rows in each tensor (None for a tensor without) and the
    tensors; it returns the values of all rows and the axis of the rows in them.
    """

    @staticmethod
    @override
    def forward(function: Callable[..., Tensor], rule: Rule, *tensors: Tensor) -> Tensor:
        return function(*tensors)

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """There is nothing to keep: what the rule calls is differentiated, not this."""

    @staticmethod
    @override
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        _, rule, *tensors = inputs
        found: tuple[Tensor, int] = rule(info.batch_size, in_dims[2:], *tensors)
        return found
