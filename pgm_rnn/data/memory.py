"""Whether a file fits in memory, asked before it is read."""

import math
import os
from pathlib import Path

from pgm_rnn.data.source import DataError

MEMORY = Path("/proc/meminfo")
NEEDED = 4
"""Memory that reading takes at least, in sizes of the file: a long table of numbers took five, measured at 1e6 rows."""


def memory() -> float:
    """Bytes of memory that are free or can be freed; all of it where only that is said, infinity where nothing is."""
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):  # no Linux
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def check_memory(path: Path) -> None:
    """Raise where a file is so large that the system would end the process while it is read."""
    size, free = path.stat().st_size, memory()
    if size * NEEDED > free:
        raise DataError(
            f"expected a table that fits in memory, got {path} with {size / 1e9:.3g} GB, which takes about {NEEDED} "
            f"times as much while it is read, and {free / 1e9:.3g} GB are free; split the file by sequences, or leave "
            "out columns"
        )
