"""Tables of text, .csv, .tsv and .txt, by pandas; every line has as many cells as there are columns.

How a file is written, `pgm_rnn.data.dialect` finds out.
"""

import csv
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pgm_rnn.data.dialect import BLANKS, MISSING, Dialect, first_rows, is_missing, is_number, prepared
from pgm_rnn.data.frame import Frame
from pgm_rnn.data.source import DataError

CHUNK = 1 << 20


def read_text_table(path: Path, dialect: Dialect) -> Frame:
    """The table in a file that is written so.

    Raises:
        DataError: a line with another number of cells, or bytes that are no text.
    """
    import pandas as pd

    found = _counted(path, dialect)
    if found.fits is False:
        _check_widths(path, dialect)
    try:
        table = _parsed(path, _options(path, dialect, found), dialect.encoding)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        _check_widths(path, dialect)
        raise DataError(f"expected a table in {path}, got a line that does not fit: {short(error)}") from None
    if len(dialect.names) == 1:
        table = table.iloc[: len(table) - _blank_at_end(path)]
    return Frame(
        table, path.name, lambda row: f"line {_line(path, dialect, row)}", dialect.is_named, notes=dialect.notes
    )


def _options(path: Path, dialect: Dialect, found: "_Counted") -> dict[str, Any]:
    """How pandas reads the file. What is not needed is left out: it would keep pandas from reading in parallel."""
    missing = sorted({case(cell) for cell in (*MISSING, "NaN") for case in (str, str.upper, str.lower, str.title)})
    return {
        "sep": r"\s+" if dialect.separator == BLANKS else dialect.separator,
        "decimal": dialect.decimal,
        "names": dialect.names,
        "header": 0 if dialect.is_named else None,
        "index_col": False,
        "usecols": None if found.fits else range(len(dialect.names)),  # a separator may end every line
        "na_values": missing,
        "keep_default_na": False,
        "skipinitialspace": found.has_blanks,
        "skip_blank_lines": len(dialect.names) > 1,
        "dtype": None if _keeps_text_short() else dict.fromkeys(_columns_of_words(path, dialect), "category"),
    }


def _keeps_text_short() -> bool:
    """Whether pandas keeps text in Arrow's memory; elsewhere each word is an object, and a category keeps it once."""
    import pandas as pd

    return getattr(pd.Series(["text"]).dtype, "storage", None) == "pyarrow"


def _columns_of_words(path: Path, dialect: Dialect) -> list[str]:
    """The columns that have a word in the first lines."""
    rows = first_rows(path, dialect)[dialect.is_named :]
    cells = {name: [row[place] for row in rows if place < len(row)] for place, name in enumerate(dialect.names)}
    return [name for name, found in cells.items() if not all(is_number(c) or is_missing(c) for c in found)]


def _parsed(path: Path, options: dict[str, Any], encoding: str) -> Any:
    try:
        return _in_parts(path, options, encoding)
    except UnicodeDecodeError:  # the first lines had letters of ASCII alone
        try:
            return _in_parts(path, options, "cp1252")
        except UnicodeDecodeError:
            raise DataError(
                f"expected a table in UTF-8, got bytes that are not text in {path}; save it as UTF-8"
            ) from None


def _in_parts(path: Path, options: dict[str, Any], encoding: str) -> Any:
    """The table, read part by part, or whole where the parts of a column are numbers here and words there."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.DtypeWarning)
            return pd.read_csv(path, encoding=encoding, **options)
    except pd.errors.DtypeWarning:
        return pd.read_csv(path, encoding=encoding, low_memory=False, **options)


def short(error: Exception) -> str:
    """The first line of what pandas says of a file."""
    return str(error).strip().split("\n")[0].removeprefix("Error tokenizing data. C error: ")


def _check_widths(path: Path, dialect: Dialect) -> None:
    """Raise unless every line has as many cells as there are columns; pandas would fill short lines."""
    width = len(dialect.names)
    for line, row in _rows(path, dialect):
        extra = [cell for cell in row[width:] if cell.strip()]
        if row and (len(row) < width or extra) and any(cell.strip() for cell in row):
            by = "blanks" if dialect.separator == BLANKS else repr(dialect.separator)
            raise DataError(
                f"expected {width} cells in every line of {path.name}, got {len(row)} in line {line}; separate them by "
                f"{by}, and put cells with that character in quotes"
            )


class _Counted(NamedTuple):
    """What the bytes of a file say of its lines.

    Attributes:
        fits: whether there are as many cells as lines times columns, as if no cell held a separator; None where that
            cannot be told.
        has_blanks: whether a cell may begin with a blank.
    """

    fits: bool | None
    has_blanks: bool


def _counted(path: Path, dialect: Dialect) -> _Counted:
    """Cells and lines of a file, counted, so that lines are looked at one by one only where the number is wrong."""
    width, separator = len(dialect.names), dialect.separator
    if width == 1 or dialect.encoding == "utf-16":
        return _Counted(fits=None, has_blanks=True)
    cells = lines = 0
    end, has_blanks = b"\n", separator == BLANKS
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            found = np.frombuffer(end + chunk, np.uint8)
            ends = found == ord("\n")
            if separator == BLANKS:
                blank = ends | np.isin(found, np.frombuffer(b" \t\r", np.uint8))
                cells += int(np.count_nonzero(blank[:-1] & ~blank[1:]))
            else:
                separates = found == ord(separator)
                cells += int(np.count_nonzero(separates[1:]))
                begins = separates | ends | (found == ord("\r"))
                has_blanks = has_blanks or bool((begins[:-1] & (found[1:] == ord(" "))).any())
            lines, end = lines + int(np.count_nonzero(ends[1:])), chunk[-1:]
    lines += end != b"\n"
    return _Counted(cells + lines * (separator != BLANKS) == lines * width, has_blanks)


def _rows(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells."""
    with path.open(encoding=dialect.encoding, errors="replace", newline="") as stream:
        reader = csv.reader(prepared(stream, dialect.separator), delimiter=dialect.separator)
        start = 1
        for row in reader:
            yield start, row
            start = reader.line_num + 1


def _line(path: Path, dialect: Dialect, row: int) -> int:
    """The line of a file in which a row of the table begins."""
    skips = len(dialect.names) > 1
    rows = (line for line, cells in _rows(path, dialect) if cells or not skips)
    return next(islice(rows, row + dialect.is_named, None), row + 1)


def _blank_at_end(path: Path) -> int:
    """Number of empty lines at the end of a file."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - CHUNK))
        lines = stream.read().splitlines()
    return next((i for i, line in enumerate(reversed(lines)) if line.strip()), 0)
