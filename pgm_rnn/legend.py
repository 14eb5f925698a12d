"""What the numbers of a batch of sequences stand for, in the words of whoever brought them.

Columns have names, kinds, units and, for symbols, words; sequences have ids, steps have times and row numbers. A reader
of files or tables makes the legend, `Sequences` carries it, and results are shown in its words.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["real", "count", "binary", "symbol"]
KINDS: tuple[Kind, ...] = ("real", "count", "binary", "symbol")
"""Kinds of columns: numbers of any size, whole numbers from 0, yes or no, one of a few words."""
FEW = 4
"""Largest number of columns, words or ids that are written out."""
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

    def __repr__(self) -> str:
        """The name with its unit, the kind and the first words."""
        parts = [repr(self.title), self.kind, _listed("word", self.words)]
        return f"Column({', '.join(filter(None, parts))})"

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

    def __repr__(self) -> str:
        """What is known, with the first entries of what is long.

        Example:
            >>> Legend((Column("flow", unit="m3/s"),), sequence="river", ids=("Nile", "Rhine"))
            Legend(1 column: 'flow (m3/s)' real, sequence 'river', 2 ids: 'Nile', 'Rhine')
        """
        parts = [
            _listed("column", self.columns, _in_legend),
            _listed("input", self.inputs),
            "" if self.sequence is None else f"sequence {self.sequence!r}",
            _listed("id", self.ids),
            "" if self.time is None else f"time {self.time!r}",
            _range(self.times),
            "rows" if self.rows else "",
        ]
        return f"Legend({', '.join(filter(None, parts))})"

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


def _listed(what: str, values: Sequence[Any], show: Callable[[Any], str] = repr) -> str:
    """How many there are, and the first of them, such as "2 ids: 'Nile', 'Rhine'"; "" for none."""
    texts = [*map(show, values[:FEW]), *["..."] * (len(values) > FEW)]
    return f"{_counted(what, values)}: {', '.join(texts)}" if texts else ""


def _counted(what: str, values: Sequence[Any]) -> str:
    return f"{len(values)} {what}{'s' if len(values) > 1 else ''}"


def _in_legend(column: Column) -> str:
    words = f" of {_counted('word', column.words)}" if column.words else ""
    return f"{column.title!r} {column.kind}{words}"


def _range(times: Sequence[Times]) -> str:
    """The first and the last time of the first sequence."""
    if not times or not len(times[0]):
        return ""
    return f"from {times[0][0]} to {times[0][-1]}{', ...' if len(times) > 1 else ''}"
