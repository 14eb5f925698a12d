"""Columns that only count time: row numbers, years, seconds. A model knows the time already, and it is no variable.

a name of time, and numbers that only grow or only fall     left out, with a note
another name or none, the first column, in equal steps      left out, with a note
the same, in whole numbers that only grow, unequally        an error: it may be either
a name of time, and numbers that go up and down             data, with a note
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from pgm_rnn.data.source import DataError
from pgm_rnn.data.table import Table

WORDS = re.compile(
    "t|ds|(time|timestamp|datetime|date|year|yr|quarter|month|week|day|hour|hr|minute|second|sec|step|row|rowname|tick)s?|"
    "ms|index|idx|unnamed|frame|period|epoch|obs|observation|nr"
)
"""Names of time, alone or as the first word of a name."""
LAST_WORDS = {"time", "timestamp", "date", "datetime", "index", "year"}
"""Names of time as the last word of a name."""
FEW, MANY = 3, 5
"""Steps from which on equal steps, or whole numbers that only grow, are taken for no accident."""
EQUAL = 1e-4
"""Relative difference of steps that are equal but for how the numbers were written down."""
Column = list[np.ndarray[Any, np.dtype[np.float64]]]


def without_clocks(table: Table, path: Path) -> Table:
    """The table without its columns that only count time, and a note on each.

    Raises:
        DataError: nothing else is in the table, or the first column may count time and may be data.
    """
    width, left_out = table.values.shape[-1], list[int]()
    notes = list(table.notes)
    for place in range(width):
        column, name = _numbers(table.column(place)), table.names[place]
        leads = len(left_out) == place and place < width - 1  # only such columns came before, and another follows
        if table.is_named and is_name_of_time(name):
            if _is_monotone(column, strictly=False):
                left_out.append(place)
            elif not _is_constant(column):
                notes.append(f"column {name!r} is taken for data, whatever its name; choose columns with --column")
        elif leads and _has_equal_steps(column):
            left_out.append(place)
        elif leads and _is_whole(column) and _is_monotone(column, strictly=True, num_steps=MANY):
            raise DataError(
                f"expected to know whether column {name!r} of {path} counts time or is data, its whole numbers only "
                "grow or only fall; choose the columns to take with --column"
            )
    notes += [
        f"column {table.names[place]!r} only counts time and is left out; --column takes it" for place in left_out
    ]
    if width and len(left_out) == width:
        raise DataError(
            f"expected a column of data in {path}, got {', '.join(table.names)}, which only counts time; take it "
            "all the same with --column"
        )
    return table.select([place for place in range(width) if place not in left_out])._replace(notes=tuple(notes))


def is_name_of_time(name: str) -> bool:
    """Whether a column's name says that it counts time: "year", "Time (s)", "sample_time", or nothing at all."""
    words = re.findall(r"[a-z]+[0-9]*", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    if name == "T":  # rather a temperature
        return False
    return not name or (bool(words) and (WORDS.fullmatch(words[0]) is not None or words[-1] in LAST_WORDS))


def _numbers(column: Column) -> Column:
    """The numbers of the series that have some, without those that are missing or infinite."""
    return [values[np.isfinite(values)] for values in column if np.isfinite(values).any()]


def _steps(column: Column) -> np.ndarray[Any, np.dtype[np.float64]]:
    with np.errstate(over="ignore"):
        return np.concatenate([np.diff(values) for values in column])


def _is_constant(column: Column) -> bool:
    return not column or all(bool((values == column[0][0]).all()) for values in column)


def _is_whole(column: Column) -> bool:
    return all(bool((values == np.floor(values)).all()) for values in column)


def _is_monotone(column: Column, *, strictly: bool, num_steps: int = 2) -> bool:
    """Whether the numbers of every series only grow, or those of every series only fall."""
    if _is_constant(column) or max(map(len, column)) < num_steps:
        return False
    steps = _steps(column)
    if strictly:
        return bool((steps > 0).all() or (steps < 0).all())
    return bool((steps >= 0).all() or (steps <= 0).all())


def _has_equal_steps(column: Column) -> bool:
    if _is_constant(column) or max(map(len, column)) < FEW:
        return False
    steps, largest = _steps(column), max(float(np.abs(values).max()) for values in column)
    step, rounding = float(steps[0]), 8 * float(np.finfo(np.float64).eps) * largest
    return abs(step) > rounding and bool((np.abs(steps / step - 1) <= EQUAL + rounding / abs(step)).all())
