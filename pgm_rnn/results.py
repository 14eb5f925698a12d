"""One-line texts of results: names with numbers if they are few, with shapes if they are many."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

FEW = 4
"""Largest number of entries that are written out."""


def shown(result: Any, *names: str) -> str:
    """The text of a result for its `__repr__`: its type and the named attributes in short form."""
    return f"{type(result).__name__}({', '.join(f'{name}={in_short(getattr(result, name))}' for name in names)})"


def in_short(value: Any) -> str:
    """A value in a few words: numbers, or the shape of many numbers."""
    if isinstance(value, Tensor):
        return _numbers(value) if value.dim() < 2 else f"tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {in_short(part)}" for name, part in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return f"{len(value)} entries"
    return repr(value)


def _numbers(value: Tensor) -> str:
    """A number, or a vector with its first entries and its length."""
    values = value.detach().cpu()
    texts = [f"{number:.6g}" for number in values.reshape(-1)[:FEW].to(torch.float64).tolist()]
    if values.dim() == 0:
        return texts[0]
    return f"[{', '.join(texts)}]" if len(values) <= FEW else f"[{', '.join(texts)}, ... {len(values)} in all]"
