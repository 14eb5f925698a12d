"""Columns of numbers as they are in a file, before any is left out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Table(NamedTuple):
    """Columns of numbers.

    Attributes:
        values: (batch, T, M), float64, NaN where a number is missing, zeros in the padding.
        names: names of the columns; "1", "2", ... if the file has none.
        is_named: whether the names come from the file.
        lengths: (batch,), int64; None where no series is padded.
        notes: a sentence on each part of the file that is left out.
        inputs: exogenous inputs, (batch, T, input_dim), float64, where the file has some.
    """

    values: np.ndarray[Any, np.dtype[np.float64]]
    names: list[str]
    is_named: bool = False
    lengths: np.ndarray[Any, np.dtype[np.int64]] | None = None
    notes: tuple[str, ...] = ()
    inputs: np.ndarray[Any, np.dtype[np.float64]] | None = None

    def select(self, places: Sequence[int]) -> "Table":
        """The columns at these places, in this order."""
        return self._replace(values=self.values[..., list(places)], names=[self.names[place] for place in places])

    def column(self, place: int) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """The numbers of a column, an array (T_i,) of each series."""
        rows = self.values[..., place]
        return list(rows) if self.lengths is None else [row[:n] for row, n in zip(rows, self.lengths, strict=True)]


def numbered(width: int) -> list[str]:
    """Names for columns that have none: "1", "2", ..."""
    return [str(number + 1) for number in range(width)]
