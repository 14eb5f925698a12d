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
from threading import Lock
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor


class _Process:
    """State of this process that a fork changes."""

    forked = False
    held: ClassVar[list[Any]] = []  # numba's lock of its compiler, during a fork


def _before_fork() -> None:
    """Wait until no other thread imports or compiles, because the child would inherit its locks for good.

    numba looks at `numpy.ma` when it meets its first array, which numpy imports then: any module may be under way.
    """
    for name in [name for name, module in list(sys.modules.items()) if _is_being_imported(module)]:
        with suppress(Exception):  # it is the other thread's error
            import_module(name)
    lock = getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    if lock is not None:
        lock.acquire()
    _Process.held.append(lock)


def _is_being_imported(module: Any) -> bool:
    """Whether some thread is still running a module's code."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _release() -> None:
    lock = _Process.held.pop()
    if lock is not None:
        lock.release()


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
    import numba

    torch_threads = torch.get_num_threads()
    numba.set_num_threads(num_threads())
    with _turn():
        (_relinked(function) if _Process.forked else function)(*_arrays(arguments))
    if torch.get_num_threads() != torch_threads:
        torch.set_num_threads(torch_threads)


def run_alone(function: Any, *arguments: Any) -> None:
    """`run_compiled` in the calling thread alone, for work that ends before another thread could wake."""
    _alone(function)(*_arrays(arguments))


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
    import numba

    plain = function.py_func
    twin = FunctionType(plain.__code__, plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__)
    twin.__module__, twin.__qualname__ = plain.__module__, f"{plain.__qualname__}_{name}"
    return numba.jit(cache=True, **(function.targetoptions | options))(twin)
