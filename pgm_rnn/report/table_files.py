"""Files of tables and pictures: the suffix is the format, and a file is written whole or not at all."""

import io
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pgm_rnn.files import write_whole
from pgm_rnn.report.records import is_writable
from pgm_rnn.report.short_numbers import written_fast

PARQUET, NETCDF = ".parquet", ".nc"
Writer = Callable[[], bytes]


def check_table_file(path: Path, suffixes: tuple[str, ...], option: str = "the file") -> Path:
    """Return `path` if such a file can be written there; this is checked before the work, not after it.

    Args:
        path: path of the file.
        suffixes: the formats that the result has.
        option: what named the file, for the error.

    Raises:
        ValueError: another suffix, a folder that is missing or cannot be written to, or a .parquet without pyarrow.
    """
    if path.suffix.lower() not in suffixes:
        *most, last = suffixes
        raise ValueError(f"expected {option} to end in {', '.join(most)} or {last}, got {path}")
    if path.is_dir() or not is_writable(path.resolve().parent):
        raise ValueError(f"expected {option} to be in a folder that can be written to, got {path}")
    if path.suffix.lower() == PARQUET and find_spec("pyarrow") is None:
        raise ValueError(
            f"expected pyarrow for {path}, got an environment without it; pip install 'pgm-rnn[parquet]', or write a "
            ".csv"
        )
    return path


def write_table_file(path: Path, writers: Mapping[str, Writer]) -> None:
    """Write the format that the suffix names.

    Raises:
        ValueError: as `check_table_file`.
        OSError: the file cannot be written.
    """
    check_table_file(path, tuple(writers))
    write_whole(path, writers[path.suffix.lower()]())


def table_writers(frame: Callable[[], Any]) -> dict[str, Writer]:
    """The formats of a table, .csv with a row of names and .parquet, of the DataFrame that `frame` gives."""
    return {".csv": lambda: written_fast(frame()).to_csv(index=False).encode(), PARQUET: lambda: _parquet_of(frame())}


def _parquet_of(frame: Any) -> bytes:
    contents = io.BytesIO()
    frame.to_parquet(contents, index=False)
    return contents.getvalue()


def netcdf_of(dataset: Any) -> bytes:
    """An xarray Dataset as a netCDF file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.nc"
        dataset.to_netcdf(path, engine="h5netcdf")
        return path.read_bytes()
