"""Decides whether the first row of a file of comma-separated numbers names the columns or is an observation.

a cell that is neither a number nor missing                         names
0, 1, 2, ... or years in a row, above numbers with decimals         names, with a note
an empty cell and 0, 1, 2, ..., above a column 0, 1, 2, ...         names, as pandas writes them, with a note
the same above whole numbers, or a lone 0 above decimals            an error: it may be either
a missing or infinite number that is written so nowhere else        an error: it may be either, and a name
anything else                                                       an observation
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pgm_rnn.data.source import DataError
from pgm_rnn.data.table import numbered

MISSING = ("", "nan", "na")
"""Contents of a cell without a number, in upper or lower case."""
FEW, MANY = 3, 5
"""From this many on, decimals above one another, and consecutive whole numbers, are not taken for an accident."""
Rows = list[tuple[int, list[str]]]
"""Line numbers and cells."""


class Header(NamedTuple):
    """The names of the columns, and whether the first row gives them.

    Attributes:
        names: names of the columns; "1", "2", ... if the row is an observation.
        is_named: whether the row gives the names.
        notes: a sentence if the decision is not obvious.
    """

    names: list[str]
    is_named: bool
    notes: tuple[str, ...] = ()


def read_header(rows: Rows, path: Path) -> Header:
    """The names of the columns; all rows must have one length.

    Raises:
        DataError: it may name the columns or be an observation.
    """
    if not rows:
        return Header([], False)
    (line, first), rest = rows[0], rows[1:]
    if any(number_in(cell) is None for cell in first):
        return Header(first, True)
    if not rest:
        return Header(numbered(len(first)), False)
    names = _is_index(first, rest) if _is_odd(first) else _is_counted(first, rest)
    if names is None:
        shown = ", ".join(cell or "an empty cell" for cell in first[:6]) + (", ..." if len(first) > 6 else "")
        raise DataError(
            f"expected column names or numbers in line {line} of {path}, got {shown}, which may be either; put a line "
            "of names in letters in its place, or above it"
        )
    if not names:
        return Header(numbered(len(first)), False)
    shown = ", ".join([cell for cell in first if cell][:6]) + (", ..." if len(first) > 6 else "")
    note = (
        f"the first row ({shown}) is read as the names of the columns; if it holds data, add a line of names above it"
    )
    return Header(first, True, (note,))


def number_in(cell: str) -> float | None:
    """The number in a cell: NaN if it is missing, None if the cell holds something else."""
    if cell.lower() in MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return None


def _is_counted(first: list[str], rest: Rows) -> bool | None:
    """Whether a first row of consecutive whole numbers from 0, or of consecutive years, gives names; None if unclear.

    It is False for all other rows.
    """
    if not all(re.fullmatch(r"\d+", cell) for cell in first):
        return False
    numbers = [int(cell) for cell in first]
    if not _counts(numbers, 0) and not (_are_years(numbers) and (_counts(numbers) or _counts(numbers[::-1]))):
        return False
    decimals = [_is_decimal(cell) for _, row in rest for cell in row if cell.lower() not in MISSING]
    if len(first) == 1:
        return None if numbers == [0] and len(decimals) >= FEW and all(decimals) else False
    leading = [row[0] for _, row in rest[: FEW - 1]]
    goes_on = leading == [str(numbers[0] + 1 + k) for k in range(len(leading))]  # row numbers, or years, of a table
    return True if len(first) >= MANY or (any(decimals) and not goes_on) else None


def _is_index(first: list[str], rest: Rows) -> bool | None:
    """Whether a first row with missing or infinite numbers gives names; None if unclear."""
    if any(_is_decimal(cell) for cell in first):
        return False
    if first[0] == "" and len(first) > 1 and first[1:] == [str(k) for k in range(len(first) - 1)]:
        index = [row[0] for _, row in rest]
        return True if index == [str(k) for k in range(len(rest))] or any(number_in(k) is None for k in index) else None
    elsewhere = {cell for _, row in rest for cell in row}
    return False if all(cell in elsewhere for cell in first if _is_odd([cell])) else None


def _is_odd(cells: Sequence[str]) -> bool:
    """Whether there is a missing or an infinite number."""
    return not all(math.isfinite(number_in(cell) or 0.0) for cell in cells)


def _counts(numbers: Sequence[int], start: int | None = None) -> bool:
    begin = numbers[0] if start is None else start
    return list(numbers) == list(range(begin, begin + len(numbers)))


def _are_years(numbers: Sequence[int]) -> bool:
    return len(numbers) > 1 and all(1000 <= number < 3000 for number in numbers)


def _is_decimal(cell: str) -> bool:
    """Whether a number is written with a point or an exponent."""
    return re.fullmatch(r"[+-]?\d+", cell) is None and math.isfinite(number_in(cell) or math.nan)
