"""Tests for the transformations of `torch.func`, under which only torch operations may be used.

Torch has no public ones; those used here are in every version since 2.0.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def is_differentiated(tensors: Iterable[Tensor]) -> bool:
    """Whether grad, vjp, jvp, jacrev, jacfwd or hessian differentiates with respect to one of these tensors.

    Torch does not differentiate a custom `autograd.Function` twice in forward mode, and says nothing.
    """
    return any(torch._C._functorch.is_gradtrackingtensor(tensor) for tensor in tensors)


def is_transformed(tensors: Iterable[Tensor]) -> bool:
    """Whether one of these tensors stands for others, as inside `torch.func.vmap` or one of the above."""
    return any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors)
