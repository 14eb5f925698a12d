"""A table and where it comes from: what reading a file or data in memory ends in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pgm_rnn.data.cells import Cells, cells_of
from pgm_rnn.data.source import DataError

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Frame:
    """A table and where it comes from.

    Attributes:
        table: the DataFrame, one row per step.
        name: name of the source for messages, such as "machines.csv".
        place: words for a row number from 0, such as "line 7".
        is_named: whether the columns have names of their own.
        lengths: steps of each sequence, (batch,), where the rows are sequences one after the other; else None.
        inputs: exogenous inputs of the rows, (rows, input_dim), that came beside the table; else None.
        notes: a sentence on each thing that was not obvious.
        is_stored: whether it is an array in a file.
    """

    table: Any
    name: str
    place: Callable[[int], str]
    is_named: bool = True
    lengths: Array | None = None
    inputs: Array | None = None
    notes: tuple[str, ...] = ()
    is_stored: bool = False
    _cells: dict[str, Cells] = field(default_factory=dict)

    def cells(self, name: str) -> Cells:
        """The contents of a column, found once.

        Raises:
            DataError: complex numbers.
        """
        if name not in self._cells:
            if self.table[name].dtype.kind == "c":
                raise DataError(f"expected real numbers in column {name!r} of {self.name}, got complex ones")
            self._cells[name] = cells_of(self.table[name])
        return self._cells[name]
