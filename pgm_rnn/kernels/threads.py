"""Compiled functions on tensors' memory, with as many threads as torch has; one thread in a forked process.

GNU OpenMP, which numba and torch share on Linux, loses its threads in a fork: numba then ends the child process, and
torch waits forever. A forked child therefore runs both in one thread, with the kernels linked without OpenMP. A process
that is spawned (`multiprocessing.get_context("spawn")`) has all its threads.
"""

import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from ctypes import CFUNCTYPE, c_ssize_t, c_void_p, cast
from functools import cache
from importlib import import_module
from threading import Condition, Lock, get_ident
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor

from pgm_rnn.kernels.allocation import keep_freed_memory
from pgm_rnn.kernels.compilation import jitted, watch_compilation


class _Calls:
    """Which threads are in a compiled function, or on the way into one; while a fork is under way, none enters.

    A first call imports, compiles and starts threads under locks that a forked child would inherit for good.
    """

    def __init__(self) -> None:
        self._changed = Condition(Lock())
        self._threads: set[int] = set()

    def __enter__(self) -> None:
        with self._changed:
            self._threads.add(get_ident())

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._threads.discard(get_ident())
            self._changed.notify_all()

    def stop(self) -> None:
        """Wait until no other thread is inside, and let none enter."""
        self._changed.acquire()
        self._changed.wait_for(lambda: self._threads <= {get_ident()})

    def go_on(self) -> None:
        self._changed.release()


class _Process:
    """State of this process that a fork changes."""

    forked = False
    calls: ClassVar[_Calls] = _Calls()
    held: ClassVar[list[Any]] = []  # how to release what a fork holds


def _before_fork() -> None:
    """Wait until no other thread imports or compiles, because the child would inherit its locks for good.

    What another thread imports may need the locks that are taken here, so that no import is waited for with them.
    """
    # torch makes a pool when it is first told a number of threads. The child tells it one, and would make the pool
    # under a lock of the C library (that of `atexit`) which another thread may hold just now: then it waits forever.
    torch.set_num_threads(torch.get_num_threads())
    own: set[str] = set()  # what this thread itself is importing
    while True:
        own |= {name for name in _being_imported() if _still_imported_after_waiting(name)}
        _Process.calls.stop()
        _Process.held.append(_Process.calls.go_on)
        lock = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
        if lock is not None:
            lock.acquire()
            _Process.held.append(lock.release)
        if _being_imported() <= own:
            return
        _release()


def _being_imported() -> set[str]:
    """The modules whose code some thread is still running."""
    modules = list(sys.modules.items())
    return {name for name, module in modules if getattr(getattr(module, "__spec__", None), "_initializing", False)}


def _still_imported_after_waiting(name: str) -> bool:
    with suppress(Exception):  # it is the other thread's error
        import_module(name)
    return name in _being_imported()


def _release() -> None:
    while _Process.held:
        _Process.held.pop()()


def _after_fork() -> None:
    """Keep a forked child from entering any parallel region of OpenMP, numba's or torch's."""
    _release()
    _Process.forked = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_release, after_in_child=_after_fork)


def num_threads() -> int:
    """Number of threads for compiled functions: torch's, at most the number numba started with; 1 after a fork."""
    if _Process.forked:
        return 1
    import numba

    return min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def run_compiled(function: Any, *arguments: Any) -> None:
    """Call a function compiled by numba with tensors as arrays; tensors that it writes to must be contiguous.

    Where numba and torch share one OpenMP library, numba's first parallel function sets the number of threads of both;
    this function restores torch's.
    """
    with _Process.calls:
        import numba

        keep_freed_memory()
        watch_compilation()
        torch_threads = torch.get_num_threads()
        numba.set_num_threads(num_threads())
        with _turn():
            (_relinked(function) if _Process.forked else function)(*_arrays(arguments))
        if torch.get_num_threads() != torch_threads:
            torch.set_num_threads(torch_threads)


def run_alone(function: Any, *arguments: Any) -> None:
    """`run_compiled` in the calling thread alone, for work that ends before another thread could wake."""
    with _Process.calls:
        keep_freed_memory()
        watch_compilation()
        _alone(function)(*_arrays(arguments))


class Repeated:
    """`run_alone` for a function that is called at every step with arrays of the same kinds, not tensors.

    The first call may compile and goes through `run_alone`; later ones cost two microseconds instead of twenty.
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        self._compiled: Any = None

    def __call__(self, *arrays: Any) -> None:
        """Call the function in the calling thread."""
        if self._compiled is None:
            run_alone(self._function, *arrays)
            self._compiled = _alone(self._function)
        else:
            self._compiled(*arrays)


_ONE_AT_A_TIME = Lock()


def _turn() -> AbstractContextManager[Any]:
    """A lock for numba's own thread pool, which ends the process if two Python threads call it at once."""
    import numba

    own_pool = not _Process.forked and numba.threading_layer() == "workqueue"  # type: ignore[attr-defined]
    return _ONE_AT_A_TIME if own_pool else nullcontext()


def _arrays(arguments: tuple[Any, ...]) -> list[Any]:
    return [a.contiguous().numpy() if isinstance(a, Tensor) else a for a in arguments]


@cache
def _alone(function: Any) -> Any:
    """A parallel numba function, compiled for one thread."""
    return _twin(function, "alone", parallel=False)


@cache
def _relinked(function: Any) -> Any:
    """A parallel numba function as a forked child can run it: the same machine code, so the same bits.

    The function that it calls to distribute a loop over threads is replaced by one that runs the whole loop.
    """
    from llvmlite.binding import add_symbol  # type: ignore[import-untyped]

    add_symbol("numba_parallel_for", cast(_whole_loop(), c_void_p).value)
    return _twin(function, "forked")


@cache
def _whole_loop() -> Any:
    """numba's `numba_parallel_for(function, arrays, sizes, strides, data, ...)`, all of it in the calling thread."""
    loop = CFUNCTYPE(None, *[c_void_p] * 4)
    return CFUNCTYPE(None, *[c_void_p] * 5, *[c_ssize_t] * 3)(lambda function, *rest: loop(function)(*rest[:4]))


def _twin(function: Any, name: str, **options: Any) -> Any:
    """The same function compiled once more.

    It has a name of its own, because numba caches compiled code by the function's name and code, not by its options:
    under one name, the first of the two would be loaded in place of the other.
    """
    plain = function.py_func
    twin = FunctionType(plain.__code__, plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__)
    twin.__module__, twin.__qualname__ = plain.__module__, f"{plain.__qualname__}_{name}"
    return jitted(**(function.targetoptions | options))(twin)
