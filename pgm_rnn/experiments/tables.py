"""An experiment's rows as CSV, and back.

Numbers have six significant digits, whole ones all of theirs; a column that does not apply is empty.
"""

import csv
import io
from collections.abc import Iterable

from pgm_rnn.experiments.experiment import Row


def as_csv(rows: Iterable[Row]) -> str:
    """A header and one line per row; the columns are those of the rows, in order of appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _written(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def from_csv(text: str) -> list[Row]:
    """The rows again, numbers as numbers.

    Raises:
        ValueError: no header or no rows.
    """
    rows = [
        {name: _read(value) for name, value in line.items() if value != ""}
        for line in csv.DictReader(io.StringIO(text))
    ]
    if not rows:
        raise ValueError("expected a CSV file with a header and rows, got none; run `pgm-rnn reproduce` again")
    return rows


def _written(value: int | float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _read(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
