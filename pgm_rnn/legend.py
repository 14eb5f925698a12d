"""What the numbers of a batch of sequences stand for, in the words of whoever brought them.

Columns have names, kinds, units and, for symbols, words; sequences have ids, steps have times and row numbers. A reader
of files or tables makes the legend, `Sequences` carries it, and results are shown in its words.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["real", "count", "binary", "symbol"]
KINDS: tuple[Kind, ...] = ("real", "count", "binary", "symbol")
"""Kinds of columns: numbers of any size, whole numbers from 0, yes or no, one of a few words."""
Times = np.ndarray[Any, np.dtype[Any]]


class Column(NamedTuple):
    """One variable.

    Attributes:
        name: its name.
        kind: the kind of its values.
        unit: the unit that they are in, if it is known.
        words: what the symbols 0, 1, ... of a column of kind "symbol" stand for; empty for other kinds.
    """

    name: str
    kind: Kind = "real"
    unit: str | None = None
    words: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name with the unit, such as "flow (m3/s)"."""
        return self.name if self.unit is None else f"{self.name} ({self.unit})"


class Legend(NamedTuple):
    """The words for a batch of sequences; every field but the first may be unknown, and is then empty.

    Attributes:
        columns: the variables of x, in the order of its entries.
        inputs: names of the exogenous inputs.
        sequence: name of the column of ids.
        ids: the id of each sequence.
        time: name of the column of times.
        times: the times of each sequence, arrays (T_i,) of dates, numbers or strings.
        rows: where each step stood in the table that was read, arrays (T_i,) of row numbers from 0.
    """

    columns: tuple[Column, ...]
    inputs: tuple[str, ...] = ()
    sequence: str | None = None
    ids: tuple[Any, ...] = ()
    time: str | None = None
    times: tuple[Times, ...] = ()
    rows: tuple[Times, ...] = ()

    def select(self, places: Sequence[int]) -> "Legend":
        """The legend of the sequences at these places of the batch."""
        parts: dict[str, Any] = {
            name: tuple(values[place] for place in places)
            for name in ("ids", "times", "rows")
            if (values := getattr(self, name))
        }
        return self._replace(**parts)

    def steps(self, part: slice) -> "Legend":
        """The legend of some steps of every sequence."""
        parts: dict[str, Any] = {name: tuple(v[part] for v in getattr(self, name)) for name in ("times", "rows")}
        return self._replace(**parts)
