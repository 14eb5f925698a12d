"""Compilation of the kernels: once per machine, said when it begins, and no part of the time of a fit.

Compiled code is kept on disk: beside the package, or in the user's cache folder where the package cannot be written to.
It is compiled again when its source changes, or that of a module whose functions were compiled into it: numba itself
looks at a function's own file alone. numba says when it compiles a function that is not there. The message goes to the
logger `pgm_rnn.kernels`, which the command line shows.
"""

import logging
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

MESSAGE = "compiling kernels, once: later runs find them on disk"
_LOG = logging.getLogger("pgm_rnn.kernels")


class _State:
    """Compilation in this process: how deep in nested functions it is, since when, and the seconds so far."""

    depth = 0
    since = 0.0
    seconds = 0.0
    said = False


def working_seconds() -> float:
    """A clock in seconds that stands still while kernels are compiled; only differences have a meaning."""
    return time.perf_counter() - _State.seconds


def jitted(**options: Any) -> Callable[[Any], Any]:
    """`numba.jit(cache=True, ...)`, whose code is kept in memory alone where no folder can be written to."""
    import numba

    def compiled(function: Any) -> Any:
        try:
            kept = numba.jit(cache=True, **options)(function)
        except RuntimeError:  # numba's "no locator available"
            return numba.jit(**options)(function)
        with suppress(AttributeError):  # a numba that keeps its stamp elsewhere: then it is its own
            kept._cache._cache_file._source_stamp = stamps(function.__module__)
        return kept

    return compiled


@cache
def stamps(name: str) -> list[tuple[str, int, int]]:
    """What tells versions of a module apart: names, times of change and sizes of its file and of those it imports from.

    They are the files of its own package, all the way down, of modules that are loaded by now.
    """
    found: dict[str, tuple[str, int, int]] = {}
    waiting, package = [name], name.partition(".")[0]
    while waiting:
        part = waiting.pop()
        place = getattr(sys.modules.get(part), "__file__", None)
        if part in found or place is None or not (file := Path(place)).is_file():
            continue
        status = file.stat()
        found[part] = (part, status.st_mtime_ns, status.st_size)
        waiting += _imported(place, status.st_mtime_ns, package)
    return [found[part] for part in sorted(found)]


@cache
def _imported(place: str, changed: int, package: str) -> list[str]:
    """The modules of a package from which a file imports, by its lines `from ... import`."""
    text = Path(place).read_text(encoding="utf-8")
    return re.findall(rf"^from ({re.escape(package)}\.[\w.]+) import", text, flags=re.MULTILINE)


@cache
def watch_compilation() -> None:
    """Let numba tell `working_seconds` and the logger when it compiles one of our functions. Idempotent."""
    from numba.core import event

    class Watch(event.Listener):
        def on_start(self, event: Any) -> None:
            _started(event.data["dispatcher"].py_func.__module__)

        def on_end(self, event: Any) -> None:
            _ended()

    event.register("numba:compile", Watch())


def _started(module: str) -> None:
    """Note the start; numba holds its compiler lock, so that one thread at a time is here."""
    if _State.depth or module.startswith("pgm_rnn."):
        _State.depth += 1
    if _State.depth == 1:
        _State.since = time.perf_counter()
        if not _State.said:
            _State.said = True
            _LOG.info(MESSAGE)


def _ended() -> None:
    if _State.depth:
        _State.depth -= 1
        if not _State.depth:
            _State.seconds += time.perf_counter() - _State.since
