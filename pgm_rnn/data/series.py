"""Series of numbers from a file of the user's: x (batch, T, M), float64, NaN where a number is missing.

.csv: one series, with one row per step and one column per variable. A first row with words, or with numbers that count,
names the columns; a cell that is empty, NaN or NA is a missing number.
.npy: an array (T,), (T, M) or (batch, T, M).
.npz: the same, called x or the only array in the file, with `lengths` and `mask` where the series are padded. Never a
pickle.

A column that only counts time is no variable: it is left out, with a note, unless it is asked for.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.data.arrays import read_array
from pgm_rnn.data.clock import without_clocks
from pgm_rnn.data.csv_table import read_csv, read_csv_names
from pgm_rnn.data.source import DataError
from pgm_rnn.data.table import Table

LARGEST = 1e150
"""Largest size of a number in a file: squares of larger ones, and their sums, would overflow float64."""


class Series(NamedTuple):
    """The contents of a file.

    Attributes:
        x: the numbers, (batch, T, M), float64, NaN where one is missing, zeros in the padding.
        columns: names of the variables; "1", "2", ... where the file has none.
        lengths: (batch,), int64; None where no series is padded.
        notes: a sentence on each part of the file that is left out.
    """

    x: Tensor
    columns: tuple[str, ...]
    lengths: Tensor | None = None
    notes: tuple[str, ...] = ()


def read_series(path: Path, columns: Sequence[str] = ()) -> Series:
    """The series in a file.

    Args:
        path: a file whose name ends in .csv, .npy or .npz.
        columns: the variables to take, in this order: names where the file has names, else numbers from 1; all of them
            if empty, but for columns that only count time.

    Raises:
        DataError: no such file, another kind of file, a damaged one, an array that would not be used, values that are
            no finite numbers, or a column that may be time or data.
        ValueError: an unknown column.
    """
    _check_file(path)
    readers = {".csv": read_csv, ".npy": read_array, ".npz": read_array}
    if path.suffix.lower() not in readers:
        raise DataError(f"expected a file that ends in {', '.join(readers)}, got {path}")
    try:
        table = readers[path.suffix.lower()](path, columns)
        table = without_clocks(table, path) if not columns else _chosen(table, columns)
        _check_numbers(table, path)
    except OSError as error:
        raise _unreadable(path, error) from None
    except MemoryError:
        raise DataError(f"expected numbers that fit in memory, got more of them in {path}; take fewer") from None
    lengths = None if table.lengths is None else torch.from_numpy(table.lengths)
    return Series(torch.from_numpy(table.values), tuple(table.names), lengths, tuple(table.notes))


def read_names(path: Path) -> tuple[str, ...]:
    """The names of all columns in a file; an empty tuple if it has none, as for arrays.

    Raises:
        DataError: no such file, or a damaged one.
    """
    _check_file(path)
    try:
        return read_csv_names(path) if path.suffix.lower() == ".csv" else ()
    except OSError as error:
        raise _unreadable(path, error) from None


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"expected a file of numbers, got {path}, which is no file")


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"expected a file that can be read, got {path}: {error.strerror or error}")


def _chosen(table: Table, columns: Sequence[str]) -> Table:
    """The columns that were asked for."""
    for column in columns:
        check_choice("column", column, table.names)
    return table.select([table.names.index(column) for column in columns])


def _check_numbers(table: Table, path: Path) -> None:
    values = table.values
    if 0 in values.shape or np.isnan(values).all():
        raise DataError(f"expected at least one number, got none in {path}")
    if np.isinf(values).any():
        raise DataError(f"expected finite numbers, got infinity in {path}; leave a cell empty where one is missing")
    large = np.argwhere(np.abs(values) > LARGEST)
    if len(large):
        series, step, column = large[0]
        raise DataError(
            f"expected numbers of size up to {LARGEST:g}, got {values[series, step, column]:g} in column "
            f"{table.names[column]!r} of {path}, step {step + 1} of series {series + 1}; rescale the column, or leave "
            "the cell empty"
        )
