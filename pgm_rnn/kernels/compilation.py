"""Compilation of the kernels: once per machine, said when it begins, and no part of the time of a fit.

Compiled code is kept on disk: beside the package, or in the user's cache folder where the package cannot be written to.
numba says when it compiles a function that is not there. The message goes to the logger `pgm_rnn.kernels`, which the
command line shows.
"""

import logging
import time
from collections.abc import Callable
from functools import cache
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
            return numba.jit(cache=True, **options)(function)
        except RuntimeError:  # numba's "no locator available"
            return numba.jit(**options)(function)

    return compiled


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
