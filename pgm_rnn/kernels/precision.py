"""Tuples of tensors in double precision for a recursion that loses digits, and its results rounded again."""

from typing import Any, TypeVar

import torch
from torch import Tensor

Parts = TypeVar("Parts", bound=tuple[Any, ...])


def double(tensor: Tensor) -> Tensor:
    """A tensor in double precision, where its device has it."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def in_double(parts: Parts) -> Parts:
    """A named tuple whose numbers are in double precision; None, indices and truth values stay."""
    return type(parts)(*(double(part) if _is_real(part) else part for part in parts))


def rounded(parts: Parts, dtype: torch.dtype) -> Parts:
    """A named tuple whose numbers are rounded to `dtype`; None, indices and truth values stay."""
    return type(parts)(*(part.to(dtype) if _is_real(part) else part for part in parts))


def _is_real(part: object) -> bool:
    return isinstance(part, Tensor) and part.is_floating_point()
