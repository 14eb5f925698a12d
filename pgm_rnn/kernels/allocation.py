"""Freed memory stays with the process, because every step of a fit asks for the same arrays as the last one.

The C library of Linux (glibc) gives large freed blocks back to the system at once. The next step's arrays are then
mapped anew, and the system zeroes them page by page, which takes up to a third of an exact gradient's time. Here up to
KEPT bytes of freed memory stay. Who has told glibc otherwise, by MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_,
MALLOC_TOP_PAD_ or GLIBC_TUNABLES, is obeyed; other C libraries are left alone.
"""

import ctypes
import os
import sys
from functools import cache

KEPT = 256 << 20
"""Bytes of freed memory at the top of the heap that stay with the process."""
LARGEST = 32 << 20
"""Bytes from which a block is given back by itself when it is freed: the most that glibc takes."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's numbers for its options
_TOLD = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


@cache
def keep_freed_memory() -> bool:
    """Ask the C library, once, to keep freed memory; False where it is another library or was told otherwise."""
    told = any(name in os.environ for name in _TOLD) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if told or not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, LARGEST) and library.mallopt(_TRIM_THRESHOLD, KEPT))
