"""Series of numbers from a file of the user's: x (batch, T, M), float64, NaN where a number is missing.

.csv: one series, a row a step, a column a variable. A first row with words in it names the columns; a cell that is
empty, NaN or NA is a missing number.
.npy: an array (T,), (T, M) or (batch, T, M).
.npz: the same, called x or the only array in the file. Never a pickle.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.data.source import DataError

MISSING = ("", "nan", "na")
"""What a cell without a number holds, in any case."""


class Series(NamedTuple):
    """What a file holds.

    Attributes:
        x: (batch, T, M), float64, NaN where a number is missing.
        columns: names of the variables; "1", "2", ... where the file has none.
    """

    x: Tensor
    columns: tuple[str, ...]


def read_series(path: Path, columns: Sequence[str] = ()) -> Series:
    """The series in a file.

    Args:
        path: a file whose name ends in .csv, .npy or .npz.
        columns: the variables to take, in this order: names where the file has names, else numbers from 1; all of them
            if empty.

    Raises:
        DataError: no such file, another kind of file, anything but finite numbers in it.
        ValueError: an unknown column.
    """
    if not path.is_file():
        raise DataError(f"expected a file of numbers, got {path}, which is none")
    readers = {".csv": _read_csv, ".npy": _read_array, ".npz": _read_array}
    if path.suffix.lower() not in readers:
        raise DataError(f"expected a file that ends in {', '.join(readers)}, got {path}")
    try:
        table, names = readers[path.suffix.lower()](path, columns)
    except OSError as error:
        raise DataError(f"expected a file that can be read, got {path}: {error.strerror or error}") from None
    if 0 in table.shape or np.isnan(table).all():
        raise DataError(f"expected at least one number, got none in {path}")
    if np.isinf(table).any():
        raise DataError(f"expected finite numbers, got infinity in {path}; leave a cell empty where one is missing")
    return Series(torch.from_numpy(table), tuple(names))


def _chosen(columns: Sequence[str], names: list[str]) -> list[int]:
    """Places of the columns to take."""
    for column in columns:
        check_choice("column", column, names)
    return [names.index(column) for column in columns or names]


def _read_csv(path: Path, columns: Sequence[str]) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Numbers (1, T, M) of the chosen columns, and their names."""
    rows = _rows(path)
    width = len(rows[0][1]) if rows else 0
    for line, row in rows:
        if len(row) != width:
            raise DataError(f"expected {width} columns in every row of {path}, got {len(row)} in line {line}")
    if any(_number(cell) is None for _, row in rows[:1] for cell in row):
        names, rows = rows[0][1], rows[1:]
    else:
        names = [str(number + 1) for number in range(width)]
    places = _chosen(columns, names)
    table = np.empty((1, len(rows), len(places)))
    for t, (line, row) in enumerate(rows):
        for j, place in enumerate(places):
            value = _number(row[place])
            if value is None:
                raise DataError(
                    f"expected numbers in {path}, got {row[place]!r} in line {line}, column {names[place]!r}; "
                    "choose the columns with numbers"
                )
            table[0, t, j] = value
    return table, [names[place] for place in places]


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


def _read_array(path: Path, columns: Sequence[str]) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Numbers (batch, T, M) of the chosen columns, and their numbers for names."""
    array = _loaded(path)
    if array.dtype.kind not in "biuf":
        raise DataError(f"expected an array of numbers in {path}, got {array.dtype}")
    if array.ndim not in (1, 2, 3):
        raise DataError(f"expected an array (T,), (T, M) or (batch, T, M) in {path}, got shape {array.shape}")
    table = array.astype(np.float64)
    table = table[None, :, None] if table.ndim == 1 else table[(None,) * (3 - table.ndim)]  # (batch, T, M)
    names = [str(number + 1) for number in range(table.shape[-1])]
    places = _chosen(columns, names)
    return table[..., places], [names[place] for place in places]


def _loaded(path: Path) -> np.ndarray[Any, Any]:
    try:
        with path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else _only_one(found, path)
    except DataError:
        raise
    except (ValueError, EOFError, BadZipFile):
        raise DataError(f"expected an array of numbers in {path}, got another file, or objects in it") from None


def _only_one(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path) -> np.ndarray[Any, Any]:
    names = list(arrays)
    if "x" not in names and len(names) != 1:
        held = ", ".join(names) or "none"
        raise DataError(f"expected one array in {path}, or one called x, got {held}; save the one you mean")
    return arrays["x" if "x" in names else names[0]]
