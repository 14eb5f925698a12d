"""Files and data in memory as one pandas table: a row per step, with what is needed to name a row in an error.

.csv, .tsv, .txt with numbers in columns: `pgm_rnn.data.dialect` finds out how they are written.
.parquet: needs pyarrow, `pip install 'pgm-rnn[parquet]'`.
.npy, .npz: x (T,), (T, M) or (batch, T, M) with lengths, mask and inputs, see `pgm_rnn.data.arrays`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pgm_rnn.coerce import is_table
from pgm_rnn.data.arrays import read_array
from pgm_rnn.data.dialect import dialect_of
from pgm_rnn.data.frame import Frame
from pgm_rnn.data.memory import check_memory
from pgm_rnn.data.source import DataError
from pgm_rnn.data.table import numbered
from pgm_rnn.data.text_tables import read_text_table, short

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".npz", ".npy")
Array = np.ndarray[Any, np.dtype[Any]]


def read_frame(source: Any) -> Frame:
    """The table in a file, a DataFrame, an array, or a list of arrays.

    Raises:
        DataError: no such file, another kind of file or a damaged one, rows of different lengths, or an empty table.
        TypeError: another kind of source.
        ModuleNotFoundError: a Parquet file without pyarrow.
    """
    frame = _file(Path(source)) if isinstance(source, str | Path) else _in_memory(source)
    if not frame.table.shape[0] or not frame.table.shape[1]:
        raise DataError(f"expected rows of data in {frame.name}, got none")
    return frame


def column_names(path: Path) -> tuple[str, ...]:
    """The names of the columns of a file, of a table of text by its first lines alone; none where it has none.

    Raises:
        DataError, ModuleNotFoundError: as `read_frame`.
    """
    suffix = _suffix(path)
    if suffix in (".npy", ".npz"):
        return ()
    with _readable(path):
        if suffix == ".parquet":
            return tuple(map(str, _parquet(path).table.columns))
        dialect = dialect_of(path)
    return tuple(dialect.names) if dialect.is_named else ()


def _suffix(path: Path) -> str:
    """The suffix of a file, in lower case, after a check that there is one that can be read."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(
            f"expected a file, got {path}, which does not exist or is a folder; check the name and the folder"
        )
    if suffix not in SUFFIXES:
        raise DataError(f"expected a file that ends in {', '.join(SUFFIXES)}, got {path}")
    return suffix


def _file(path: Path) -> Frame:
    suffix = _suffix(path)
    with _readable(path):
        check_memory(path)
        if suffix == ".parquet":
            return _parquet(path)
        return _stored_array(path) if suffix in (".npy", ".npz") else read_text_table(path, dialect_of(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what the system says of a file into one sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(f"expected a file that can be read, got {path}: {error.strerror or error}") from None
    except MemoryError:
        raise DataError(
            f"expected a table that fits in memory, got a larger one in {path}; split the file by sequences"
        ) from None


def _parquet(path: Path) -> Frame:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except ImportError:
        raise ModuleNotFoundError(
            f"expected pyarrow to read {path.name}, which is not installed; pip install 'pgm-rnn[parquet]'"
        ) from None
    except (ValueError, RuntimeError) as error:
        raise DataError(f"expected a Parquet file, got {path}: {short(error)}") from None
    return Frame(_indexed(table), path.name, _row)


def _stored_array(path: Path) -> Frame:
    found = read_array(path)
    lengths = found.lengths if found.lengths is not None else np.full(len(found.values), found.values.shape[1])
    frame = _padded(found.values, lengths, path.name, found.inputs)
    return replace(frame, notes=found.notes, is_stored=True)


def _padded(values: Array, lengths: Array, name: str, inputs: Array | None = None) -> Frame:
    """A padded array (batch, T, M) as the rows of its sequences."""
    inside = np.arange(values.shape[1]) < lengths[:, None]  # (batch, T)
    return _of_rows(values[inside], lengths, name, None if inputs is None else inputs[inside])


def _of_rows(values: Array, lengths: Array, name: str, inputs: Array | None = None) -> Frame:
    import pandas as pd

    table = pd.DataFrame(values, columns=numbered(values.shape[1]))
    return Frame(table, name, _step_of(lengths), False, lengths, inputs)


def _of_tables(tables: Sequence[Any]) -> Frame:
    """Tables of the same columns, one for each sequence."""
    import pandas as pd

    parts = [_indexed(table) for table in tables]
    names = [part.columns.tolist() for part in parts]
    for index, (one, part) in enumerate(zip(names, parts, strict=True)):
        if one != names[0] or not len(part):
            raise DataError(
                f"expected tables with the columns {', '.join(names[0])} and at least one row, got the columns "
                f"{', '.join(one)} and {len(part)} rows at index {index} of the list"
            )
    lengths = np.array([len(part) for part in parts])
    return Frame(pd.concat(parts, ignore_index=True), "the list", _step_of(lengths), True, lengths)


def _step_of(lengths: Array) -> Callable[[int], str]:
    """Words for a row of sequences of these lengths one after the other."""
    ends = np.cumsum(lengths)

    def place(row: int) -> str:
        sequence = int(np.searchsorted(ends, row, side="right"))
        return f"step {row - int(ends[sequence] - lengths[sequence]) + 1} of sequence {sequence}"

    return place


def _in_memory(source: Any) -> Frame:
    import pandas as pd

    if is_table(source) and not isinstance(source, pd.DataFrame | pd.Series) and hasattr(source, "to_pandas"):
        source = source.to_pandas()  # polars
    if isinstance(source, pd.Series):
        source = source.to_frame(source.name if source.name is not None else "1")
    if isinstance(source, pd.DataFrame):
        return Frame(_indexed(source), "the DataFrame", _row)
    if isinstance(source, list | tuple) and source and all(isinstance(part, pd.DataFrame) for part in source):
        return _of_tables(source)
    if isinstance(source, list | tuple) and source and not np.isscalar(source[0]) and np.ndim(_array(source[0])) > 0:
        parts = [_steps(part) for part in source]
        if len({part.shape[1] for part in parts}) > 1 or not all(map(len, parts)):
            shapes = ", ".join(str(part.shape) for part in parts[:6])
            raise DataError(f"expected sequences (T_i, M) with the same M and at least one step, got shapes {shapes}")
        return _of_rows(np.concatenate(parts), np.array([len(part) for part in parts]), "the list")
    values = _array(source)
    if values.ndim not in (1, 2, 3) or 0 in values.shape:
        raise DataError(f"expected an array (T,), (T, M) or (batch, T, M) that is not empty, got shape {values.shape}")
    values = values if values.ndim == 3 else values[None] if values.ndim == 2 else values[None, :, None]
    return _padded(values, np.full(len(values), values.shape[1]), "the array")


def _array(source: Any) -> Array:
    if isinstance(source, Tensor):
        return source.detach().cpu().numpy()
    if not isinstance(source, np.ndarray | list | tuple):
        raise TypeError(
            "expected a path, a DataFrame, an array, a list of arrays or Sequences as source, "
            f"got {type(source).__name__}"
        )
    try:
        array = np.asarray(source)
    except ValueError:
        raise DataError("expected rows of one length in each sequence, got rows of different lengths") from None
    return array


def _steps(part: Any) -> Array:
    """One sequence as (T, M)."""
    values = _array(part)
    if values.ndim not in (1, 2):
        raise DataError(f"expected sequences (T_i,) or (T_i, M) in the list, got shape {values.shape}")
    return values if values.ndim == 2 else values[:, None]


def _indexed(table: Any) -> Any:
    """A table whose index, where it says something, is among its columns; the names are strings."""
    import pandas as pd

    index = table.index
    says = isinstance(index, pd.MultiIndex | pd.DatetimeIndex | pd.PeriodIndex) or index.name is not None
    if says:
        names = [
            name if name is not None else ("time" if index.nlevels == 1 else f"level {i + 1}")
            for i, name in enumerate(index.names)
        ]
        table = table.reset_index(names=names)
    else:
        table = table.reset_index(drop=True)
    table.columns = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in table.columns]
    _check_different(table.columns.tolist())
    return table


def _check_different(names: Sequence[str]) -> None:
    double = [name for name in names if names.count(name) > 1]
    if double:
        raise DataError(f"expected columns with different names, got {double[0]!r} twice; rename one of them")


def _row(row: int) -> str:
    return f"row {row}"
