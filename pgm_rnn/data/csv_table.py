"""Comma-separated numbers: one series, with one row per step and one column per variable."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pgm_rnn.checks import check_choice
from pgm_rnn.data.header import Rows, number_in, read_header
from pgm_rnn.data.source import DataError
from pgm_rnn.data.table import Table


def read_csv(path: Path, columns: Sequence[str]) -> Table:
    """The table in a file; if columns are asked for, cells in other columns need not be numbers and become missing.

    Raises:
        DataError: rows of unequal length, a first row that may be names or numbers, duplicate names, or cells that are
            not numbers in a column that is used.
        ValueError: an unknown column.
    """
    rows = _rows(path)
    rows, notes = _without_trailing_commas(rows)
    header = read_header(rows, path)
    names, rows = header.names, rows[1:] if header.is_named else rows
    for column in columns:
        check_choice("column", column, names)
    double = [name for name in columns or names if names.count(name) > 1]
    if double:
        raise DataError(
            f"expected columns with different names in {path}, got {double[0]!r} twice; rename one of them, or choose "
            "others with --column"
        )
    table = np.full((1, len(rows), len(names)), math.nan)
    for t, (line, row) in enumerate(rows):
        for place, name in enumerate(names):
            value = number_in(row[place])
            if value is None and (not columns or name in columns):
                raise DataError(
                    f"expected numbers in {path}, got {row[place]!r} in line {line}, column {name!r}; "
                    "choose the columns with numbers"
                )
            table[0, t, place] = math.nan if value is None else value
    return Table(table, names, header.is_named, notes=(*notes, *header.notes))


def _without_trailing_commas(rows: Rows) -> tuple[Rows, tuple[str, ...]]:
    """The rows without empty columns at their ends, and a note if there were some."""
    width = len(rows[0][1]) if rows else 0
    kept = max([place + 1 for _, row in rows for place in range(width) if row[place]], default=width)
    if kept == width:
        return rows, ()
    what = "the last column is" if width - kept == 1 else f"the last {width - kept} columns are"
    return [(line, row[:kept]) for line, row in rows], (f"{what} empty and left out: a comma ends every line",)


def read_csv_names(path: Path) -> tuple[str, ...]:
    """The names of the columns; an empty tuple if the first row has no names.

    Raises:
        DataError: a file that is no table, or a first row that may be names or numbers.
    """
    rows, _ = _without_trailing_commas(_rows(path))
    header = read_header(rows, path)
    return tuple(header.names) if header.is_named else ()


def _rows(path: Path) -> Rows:
    """Line numbers and cells; an empty line counts as one empty cell, except at the end."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            rows = [(reader.line_num, [cell.strip() for cell in row] or [""]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"expected comma-separated numbers in UTF-8, got {path}: {error}") from None
    while rows and rows[-1][1] == [""]:
        rows.pop()
    width = len(rows[0][1]) if rows else 0
    for line, row in rows:
        if len(row) != width:
            raise DataError(f"expected {width} columns in every row of {path}, got {len(row)} in line {line}")
    return rows
