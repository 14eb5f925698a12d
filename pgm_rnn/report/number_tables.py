"""Tables of numbers with standard errors, shown in at most 80 columns."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import RenderableType
from rich.table import Table as RichTable

WIDTH = 80
MAX_SHOWN = 400
"""Largest number of entries of a table that is printed."""
_GAP = 3
"""Blanks between two columns."""
_SMALL, _LARGE = 1e-4, 1e7
"""Numbers outside of this range are written with a power of ten."""


@dataclass(frozen=True)
class Table:
    """Numbers of a model with names for the rows and columns.

    Attributes:
        name: the parameter's name, such as "transition_probs".
        title: the same in words.
        corner: what the rows are, such as "state".
        rows: names of the rows.
        columns: names of the columns.
        values: one tuple per row.
        errors: standard errors in the same form, NaN where there are none; None where they were not computed.
    """

    name: str
    title: str
    corner: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    errors: tuple[tuple[float, ...], ...] | None = None

    def entries(self) -> Iterator[tuple[str, str, str, float, float]]:
        """Table, row, column, value and standard error of each entry."""
        errors = self.errors or ((float("nan"),) * len(self.columns),) * len(self.rows)
        for row, values, of_row in zip(self.rows, self.values, errors, strict=True):
            for column, value, error in zip(self.columns, values, of_row, strict=True):
                yield self.name, row, column, value, error


def wrapped(text: str) -> str:
    """A sentence in lines of at most 80 columns."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def blocks(table: Table) -> Iterator[RenderableType]:
    """A table, in blocks of as many columns as fit side by side; it is transposed if that makes it narrower."""
    if len(table.rows) * len(table.columns) > MAX_SHOWN:
        yield f"{len(table.rows)} x {len(table.columns)} numbers; --out FILE.csv writes them"
        return
    rows, cells, corner, columns = table.rows, _cells(table), table.corner, table.columns
    if len(rows) < len(columns) and len(list(_ranges(rows, columns, cells))) > 1:
        columns, rows = tuple(f"{corner} {row}".strip() for row in rows), columns
        cells, corner = [list(row) for row in zip(*cells, strict=True)], ""
    for start, stop in _ranges((corner, *rows), columns, cells):
        block = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        block.add_column(corner, no_wrap=True)
        for name in columns[start:stop]:
            block.add_column(name, justify="right", no_wrap=True)
        for row, of_row in zip(rows, cells, strict=True):
            block.add_row(row, *of_row[start:stop])
        yield block


def _ranges(rows: Sequence[str], columns: Sequence[str], cells: list[list[str]]) -> Iterator[tuple[int, int]]:
    """First and last + 1 column of each block that fits."""
    room = WIDTH - max(map(len, rows), default=0)
    widths = [_GAP + max(len(name), *(len(row[j]) for row in cells)) for j, name in enumerate(columns)]
    start = 0
    while start < len(widths):
        stop = start + 1
        while stop < len(widths) and sum(widths[start : stop + 1]) <= room:
            stop += 1
        yield start, stop
        start = stop


def _cells(table: Table) -> list[list[str]]:
    """Numbers with their standard errors; a column without any shows none."""
    errors = table.errors or ((math.nan,) * len(table.columns),) * len(table.rows)
    without = [not any(error > 0 for error in column) for column in zip(*errors, strict=True)]
    return [
        [
            number(value) if none else f"{number(value)} ± {number(error, 2)}"
            for value, error, none in zip(row, of_row, without, strict=True)
        ]
        for row, of_row in zip(table.values, errors, strict=True)
    ]


def number(value: float, digits: int = 4) -> str:
    """A number with so many significant digits, whole if it is whole or large, "-" for NaN."""
    if math.isnan(value):
        return "-"
    if not math.isfinite(value) or (value == int(value) and abs(value) < _LARGE):
        return f"{value:.0f}"
    size = math.floor(math.log10(abs(value)))
    if not _SMALL <= abs(value) < _LARGE:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - size)}f}"
