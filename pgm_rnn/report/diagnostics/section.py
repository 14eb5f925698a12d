"""A section of a diagnosis: a table of numbers, how they were computed, and what they mean, in words."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.console import RenderableType

from pgm_rnn.report.number_tables import Table, blocks, wrapped

MAX_ROWS = 12
"""Largest number of rows of a table that are printed; of larger ones the worst are."""


@dataclass(frozen=True)
class Section:
    """One kind of check.

    Attributes:
        table: its numbers.
        note: how they were computed, and what a sound model shows.
        looked_at: the subject in a few words, such as "coverage of forecasts".
        findings: a sentence on each fault, with what to do; none if none was found.
        worst: the rows from the most to the least conspicuous, by number; the order of the table if empty.
    """

    table: Table
    note: str
    looked_at: str
    findings: tuple[str, ...] = ()
    worst: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name of the section, that of its table."""
        return self.table.name

    def parts(self) -> Iterator[RenderableType]:
        """The parts of the section for a terminal."""
        yield f"{self.table.title} ({self.name})"
        num = len(self.table.rows)
        yield from blocks(self.table if num <= MAX_ROWS else self._worst_rows())
        if num > MAX_ROWS:
            yield f"the {MAX_ROWS} most conspicuous of {num:,} rows; a .csv has all of them"
        yield wrapped(self.note)

    def _worst_rows(self) -> Table:
        kept = (self.worst or tuple(range(len(self.table.rows))))[:MAX_ROWS]
        rows, values = (tuple(part[row] for row in kept) for part in (self.table.rows, self.table.values))
        errors = None if self.table.errors is None else tuple(self.table.errors[row] for row in kept)
        return replace(self.table, rows=rows, values=values, errors=errors)  # type: ignore[arg-type]
