"""Comma-separated numbers: one series, a row a step, a column a variable."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pgm_rnn.checks import check_choice
from pgm_rnn.data.source import DataError
from pgm_rnn.data.table import Table, numbered

MISSING = ("", "nan", "na")
"""What a cell without a number holds, in any case."""


def read_csv(path: Path, columns: Sequence[str]) -> Table:
    """The table in a file; where columns are asked for, the others need not be numbers and are taken for missing.

    Raises:
        DataError: rows of unequal length, or anything but numbers in a column that is asked for.
        ValueError: an unknown column.
    """
    rows = _rows(path)
    width = len(rows[0][1]) if rows else 0
    for line, row in rows:
        if len(row) != width:
            raise DataError(f"expected {width} columns in every row of {path}, got {len(row)} in line {line}")
    is_named = any(_number(cell) is None for _, row in rows[:1] for cell in row)
    names, rows = (rows[0][1], rows[1:]) if is_named else (numbered(width), rows)
    for column in columns:
        check_choice("column", column, names)
    table = np.full((1, len(rows), width), math.nan)
    for t, (line, row) in enumerate(rows):
        for place, name in enumerate(names):
            value = _number(row[place])
            if value is None and (not columns or name in columns):
                raise DataError(
                    f"expected numbers in {path}, got {row[place]!r} in line {line}, column {name!r}; "
                    "choose the columns with numbers"
                )
            table[0, t, place] = math.nan if value is None else value
    return Table(table, names, is_named)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line numbers and cells; an empty line is an empty cell, but for those at the end."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            rows = [(reader.line_num, [cell.strip() for cell in row] or [""]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"expected comma-separated numbers in UTF-8, got {path}: {error}") from None
    while rows and rows[-1][1] == [""]:
        rows.pop()
    return rows


def _number(cell: str) -> float | None:
    """What a cell says: NaN where a number is missing, None if it is something else."""
    if cell.lower() in MISSING:
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return None
