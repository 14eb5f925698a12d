"""Arrays, tables and lists as tensors, at the doors of public functions.

A table is whatever has `to_numpy`, such as a DataFrame or a Series of pandas or polars; neither is imported here.
"""

from collections.abc import Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.legend import Column, Legend

_WORDS_OUT = "read tables with words, dates or missing cells by pgm_rnn.read_sequences"


class Given(NamedTuple):
    """Observations as they were given, before they are one batch.

    Attributes:
        parts: the tensors, one for each sequence of a list, or one of them.
        is_list: whether they were a list of sequences.
        legend: the names of the columns of a table, else None.
    """

    parts: tuple[Tensor, ...]
    is_list: bool = False
    legend: Legend | None = None


def given_as(data: Any) -> Given:
    """Observations as tensors: a tensor, an array, a table (T, M), or a list of those, one for each sequence.

    Raises:
        TypeError: something else, or no numbers.
        ValueError: an empty list.
    """
    if is_table(data):
        return Given((_table(data),), legend=_legend(data))
    if isinstance(data, list | tuple) and not _is_flat(data):
        if not data:
            raise ValueError("expected at least one sequence, got an empty list; give a list of arrays (T_i, *event)")
        parts = [_table(part) if is_table(part) else as_tensor("observations", part) for part in data]
        return Given(_in_one_dtype(parts), True, _legend(data[0]))
    return Given((as_tensor("observations", data),))


def is_table(data: object) -> bool:
    """Whether `data` is a table or one of its columns, whose rows are steps."""
    return hasattr(data, "to_numpy") and not isinstance(data, Tensor | np.ndarray)


def as_tensor(name: str, value: Any) -> Tensor:
    """A tensor of the numbers in an array, a table, a list or a tensor; `name` is for the error.

    Arrays keep their dtype; lists of numbers with a point get torch's default one.

    Raises:
        TypeError: no numbers, or lists of different lengths.
    """
    if isinstance(value, Tensor):
        return value
    array = value.to_numpy() if is_table(value) else value
    if not isinstance(array, np.ndarray | list | tuple | np.generic):
        raise TypeError(
            f"expected {name} as a tensor or array (batch, T, *event), a table, or a list of those, "
            f"got {type(value).__name__}"
        )
    try:
        if isinstance(array, list | tuple):
            return torch.as_tensor(array) if _is_flat(array) else torch.stack([as_tensor(name, v) for v in array])
        return torch.as_tensor(_plain(array))
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"expected {name} as numbers in one shape, got something else; {_WORDS_OUT}") from None


def _plain(array: Any) -> Any:
    """An array that torch can share: writable, in one direction, and of numbers where its dtype does not say so."""
    if array.dtype == object and all(isinstance(value, Number) or value is None for value in array.flat):
        array = array.astype(np.float64)
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()


def _is_flat(values: Sequence[Any]) -> bool:
    """Whether a list holds numbers, not sequences."""
    return len(values) > 0 and all(np.ndim(value) == 0 and not is_table(value) for value in values[:1])


def _table(table: Any) -> Tensor:
    """The numbers of a table, (T, M), or of one of its columns, (T, 1)."""
    values = as_tensor("the columns of the table", table)
    return values[:, None] if values.dim() == 1 else values


def _legend(table: Any) -> Legend | None:
    if not is_table(table):
        return None
    names = table.columns if hasattr(table, "columns") else [getattr(table, "name", None) or "1"]
    return Legend(tuple(Column(str(name)) for name in names))


def _in_one_dtype(parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The parts in the widest of their dtypes, so that [1, 2] may stand beside [0.5]."""
    dtypes = {part.dtype for part in parts}
    if len(dtypes) == 1:
        return tuple(parts)
    widest = parts[0].dtype
    for dtype in dtypes:
        widest = torch.promote_types(widest, dtype)
    return tuple(part.to(widest) for part in parts)
