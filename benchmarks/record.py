"""What the tables print, kept for the picture and the first table of docs/benchmarks.md (`tools.benchmark_pictures`).

    python -m benchmarks --record FILE.json [NAMES]

adds to a file; an entry of the same table, quantity and engine is replaced.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One time.

    Attributes:
        table: title of its table.
        quantity: what was timed, such as "gradient".
        engine: whose time it is.
        milliseconds: the median.
        ratio: to the first engine of the table, the median over rounds.
        threads: number of threads.
    """

    table: str
    quantity: str
    engine: str
    milliseconds: float
    ratio: float
    threads: int


class Kept:
    """The entries of this run."""

    entries: list[Entry] = []  # noqa: RUF012  (one list for the process)


def keep(table: str, quantity: str, engine: str, times: tuple[float, float] | None) -> None:
    """Note milliseconds and their ratio; nothing for an engine without them."""
    import torch

    if times is not None and all(map(math.isfinite, times)):
        milliseconds, ratio = (float(f"{number:.4g}") for number in times)
        Kept.entries.append(Entry(table, quantity, engine, milliseconds, ratio, torch.get_num_threads()))


def read(path: Path) -> list[Entry]:
    """The entries of a file, none if it is not there."""
    return [Entry(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def write(path: Path) -> None:
    """Add the entries of this run to a file."""
    found = {entry[:3]: entry for entry in [*read(path), *Kept.entries]}
    path.write_text(json.dumps([entry._asdict() for entry in found.values()], indent=1) + "\n", encoding="utf-8")
