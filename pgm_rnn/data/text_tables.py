"""Tables of text, .csv, .tsv and .txt, by pandas; every line has as many cells as there are columns.

How a file is written, `pgm_rnn.data.dialect` finds out.
"""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

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

    missing = sorted({case(cell) for cell in (*MISSING, "NaN") for case in (str, str.upper, str.lower, str.title)})
    options: dict[str, Any] = {
        "sep": r"\s+" if dialect.separator == BLANKS else dialect.separator,
        "decimal": dialect.decimal,
        "names": dialect.names,
        "header": 0 if dialect.is_named else None,
        "index_col": False,
        "usecols": range(len(dialect.names)),
        "na_values": missing,
        "keep_default_na": False,
        "skipinitialspace": True,
        "skip_blank_lines": len(dialect.names) > 1,
        "low_memory": False,
        "dtype": dict.fromkeys(_columns_of_words(path, dialect), "category"),  # each word is kept once
    }
    _check_widths(path, dialect)
    try:
        table = _parsed(path, options, dialect.encoding)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"expected a table in {path}, got a line that does not fit: {short(error)}") from None
    if len(dialect.names) == 1:
        table = table.iloc[: len(table) - _blank_at_end(path)]
    return Frame(
        table, path.name, lambda row: f"line {_line(path, dialect, row)}", dialect.is_named, notes=dialect.notes
    )


def _columns_of_words(path: Path, dialect: Dialect) -> list[str]:
    """The columns that have a word in the first lines."""
    rows = first_rows(path, dialect)[dialect.is_named :]
    cells = {name: [row[place] for row in rows if place < len(row)] for place, name in enumerate(dialect.names)}
    return [name for name, found in cells.items() if not all(is_number(c) or is_missing(c) for c in found)]


def _parsed(path: Path, options: dict[str, Any], encoding: str) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path, encoding=encoding, **options)
    except UnicodeDecodeError:  # the first lines had letters of ASCII alone
        try:
            return pd.read_csv(path, encoding="cp1252", **options)
        except UnicodeDecodeError:
            raise DataError(f"expected a table in UTF-8, got bytes that are no text in {path}") from None


def short(error: Exception) -> str:
    """The first line of what pandas says of a file."""
    return str(error).strip().split("\n")[0].removeprefix("Error tokenizing data. C error: ")


def _check_widths(path: Path, dialect: Dialect) -> None:
    """Raise unless every line has as many cells as there are columns; pandas would fill short lines.

    The bytes are counted first, and lines are looked at only where the number of cells is wrong.
    """
    width = len(dialect.names)
    if width == 1 or dialect.encoding == "utf-16":
        return
    cells, lines = _counted(path, dialect.separator)
    if cells == lines * width:
        return
    for line, row in _rows(path, dialect):
        extra = [cell for cell in row[width:] if cell.strip()]
        if row and (len(row) < width or extra) and any(cell.strip() for cell in row):
            by = "blanks" if dialect.separator == BLANKS else repr(dialect.separator)
            raise DataError(
                f"expected {width} cells in every line of {path.name}, got {len(row)} in line {line}; separate them by "
                f"{by}, and put cells with that character in quotes"
            )


def _counted(path: Path, separator: str) -> tuple[int, int]:
    """Numbers of cells and lines of a file, as if none of its cells held a separator."""
    starts = lines = 0
    end = b"\n"
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            found = np.frombuffer(end + chunk, np.uint8)
            if separator == BLANKS:
                blank = np.isin(found, np.frombuffer(b" \t\r\n", np.uint8))
                starts += int(np.count_nonzero(blank[:-1] & ~blank[1:]))
            else:
                starts += int(np.count_nonzero(found[1:] == ord(separator)))
            lines, end = lines + int(np.count_nonzero(found[1:] == ord("\n"))), chunk[-1:]
    lines += end != b"\n"
    return starts + lines * (separator != BLANKS), lines


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
