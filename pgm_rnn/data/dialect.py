"""How a file of text holds a table: encoding, separator, decimal comma, and whether the first line has names.

The separator is the one of , ; tab | that splits the first lines into the same number of cells, at least two. Blanks
separate, any number of them, where none of these does and each line below the first ends with a number; a file without
a separator has a single column. A comma is a decimal comma where it does not separate and stands between digits.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pgm_rnn.data.header import number_in, read_header
from pgm_rnn.data.source import DataError

SEPARATORS = (",", ";", "\t", "|")
BLANKS = " "
"""The separator that stands for any number of blanks and tabs."""
ENCODINGS = ("utf-8-sig", "utf-16", "cp1252")
"""Encodings, tried in this order; the second only where the file begins with its mark."""
MISSING = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "NULL", "?", "-")
"""Contents of a cell that holds nothing, in upper or lower case too."""
SAMPLE = 1 << 16
"""Number of bytes by which a file is judged."""
FIRST = 50
"""Number of lines that are compared."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")


class Dialect(NamedTuple):
    """How to read a table.

    Attributes:
        encoding: name of the encoding.
        separator: the character between cells, or `BLANKS`.
        decimal: "." or ",".
        names: names of the columns; "1", "2", ... if the file has none.
        is_named: whether the first line has the names.
        notes: a sentence where that was not obvious.
    """

    encoding: str
    separator: str
    decimal: str
    names: list[str]
    is_named: bool
    notes: tuple[str, ...] = ()


def dialect_of(path: Path) -> Dialect:
    """The dialect of a file, from its first lines.

    Raises:
        DataError: an empty file, or a first line that may be names or numbers.
        OSError: it cannot be read.
    """
    encoding, lines = _head(path)
    if not any(line.strip() for line in lines):
        raise DataError(f"expected a table in {path}, got an empty file")
    lines = lines[next(i for i, line in enumerate(lines) if line.strip()) :]
    separator = _separator(lines)
    rows = [
        [cell.strip() for cell in row] or [""] for row in csv.reader(prepared(lines, separator), delimiter=separator)
    ]
    decimal = "," if separator != "," and any(_DECIMAL_COMMA.fullmatch(c) for row in rows for c in row) else "."
    rows = [[cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell for cell in row] for row in rows]
    width = len(rows[0])
    while width > 1 and all(len(row) < width or row[width - 1] == "" for row in rows):
        width -= 1  # a separator ends every line
    numbered = [(line, row[:width] + [""] * (width - len(row))) for line, row in enumerate(rows, 1)]
    if any(re.fullmatch(r"[+-]?\d*\.\d+", cell) for cell in rows[0]):
        return Dialect(encoding, separator, decimal, [str(i + 1) for i in range(width)], False)
    header = read_header(numbered, path)
    return Dialect(encoding, separator, decimal, _unlike(header.names, path), header.is_named, header.notes)


def _head(path: Path) -> tuple[str, list[str]]:
    """The encoding of a file and its first whole lines."""
    with path.open("rb") as stream:
        sample = stream.read(SAMPLE)
        is_whole = not stream.read(1)
    for encoding in ENCODINGS:
        if encoding == "utf-16" and not sample.startswith((b"\xff\xfe", b"\xfe\xff")):
            continue
        part = sample if is_whole else sample[: sample.rfind(b"\n") + 1 or len(sample)]
        text = part.decode(encoding, errors="replace")
        if "\ufffd" not in text or encoding == ENCODINGS[-1]:
            return encoding, text.splitlines()[:FIRST]
    raise AssertionError("the last encoding decodes everything")


def _separator(lines: Sequence[str]) -> str:
    """The separator that splits all lines alike, into as many cells as possible."""
    alike: dict[str, int] = {}
    for separator in (*SEPARATORS, BLANKS):
        rows = [row for row in csv.reader(prepared(lines, separator), delimiter=separator) if row]
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            if separator != "," and all(_is_number(cell) for row in rows for cell in row):
                return separator  # no names: commas would split the numbers
            if separator != BLANKS or (not alike and all(_is_number(row[-1]) for row in rows[1:])):
                alike[separator] = len(rows[0])
    candidates = alike or {separator: lines[0].count(separator) for separator in SEPARATORS}  # an error names the line
    return max(candidates, key=lambda separator: candidates[separator])


def _is_number(cell: str) -> bool:
    """Whether a cell holds a number, perhaps with a decimal comma, or nothing."""
    cell = cell.strip()
    return is_missing(cell) or is_number(cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell)


def prepared(lines: Iterable[str], separator: str) -> Iterable[str]:
    """Lines in which one character separates two cells, for `csv.reader`."""
    return (" ".join(line.split()) for line in lines) if separator == BLANKS else lines


def _unlike(names: Sequence[str], path: Path) -> list[str]:
    """Names that differ; a column without one keeps the empty name if it is the only one."""
    named = [name or (f"column {place + 1}" if place else "") for place, name in enumerate(names)]
    double = [name for name in named if named.count(name) > 1]
    if double:
        raise DataError(f"expected columns with different names in {path}, got {double[0]!r} twice; rename one of them")
    return named


def first_rows(path: Path, dialect: Dialect) -> list[list[str]]:
    """The cells of the first lines, with points for decimal commas."""
    lines = [line for line in _head(path)[1] if line.strip()]
    rows = csv.reader(prepared(lines, dialect.separator), delimiter=dialect.separator)
    return [[c.strip().replace(",", ".") if dialect.decimal == "," else c.strip() for c in row] for row in rows]


def is_missing(cell: str) -> bool:
    """Whether a cell holds nothing."""
    return cell.strip().upper() in _UPPER


_UPPER = {cell.upper() for cell in MISSING}


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    return number_in(cell) is not None
