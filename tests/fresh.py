"""Programs in processes of their own that need not import everything: they are forked from one that has done so.

An interpreter imports torch in seconds, and a fork of one that has it starts in a hundredth. `Fresh` is a process that
has imported some packages, never `pgm_rnn`, and nothing else: no kernel, no thread, no setting. Each program runs in a
fork of it as it would in an interpreter just started. Where there is no fork, or where what is tested is read at the
start of an interpreter, such as OMP_NUM_THREADS, a test starts one.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

LIMIT = 1200
"""Seconds after which a program that hangs is ended by a signal."""
SERVER = """
import atexit, importlib, json, os, runpy, signal, sys, threading, traceback

own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
base = [path for path in sys.path if path not in ("", *own)]

def run(asked):
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    signal.alarm(asked["seconds"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(asked[name], os.O_WRONLY), number)
    sys.path[:] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *base]
    sys.argv = [asked["module"] or "-c", *asked["arguments"]]
    try:
        if asked["module"]:
            runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
        else:
            exec(compile(asked["code"], "<string>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as stopped:
        code = stopped.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.close(0)
            os.open(os.devnull, os.O_RDONLY)
            run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Done(NamedTuple):
    """What a program ended with and wrote."""

    returncode: int
    stdout: str
    stderr: str


class Fresh:
    """A process that has imported packages, and forks a child for each program.

    Args:
        packages: names of the packages.
    """

    def __init__(self, *packages: str) -> None:
        command = [sys.executable, "-W", "ignore", "-c", SERVER, *packages]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(self._process.communicate)

    def code(self, code: str, folder: Path | None = None, environment: Mapping[str, str] = os.environ) -> Done:
        """As `python -c CODE` in a folder."""
        return self._run(folder, environment, code=code)

    def module(
        self, name: str, *arguments: str, folder: Path | None = None, environment: Mapping[str, str] = os.environ
    ) -> Done:
        """As `python -m NAME ARGUMENTS` in a folder."""
        return self._run(folder, environment, name=name, arguments=arguments)

    def _run(
        self,
        folder: Path | None,
        environment: Mapping[str, str],
        *,
        code: str = "",
        name: str = "",
        arguments: tuple[str, ...] = (),
    ) -> Done:
        with tempfile.TemporaryDirectory() as place:
            files = {each: Path(place) / each for each in ("out", "err")}
            for path in files.values():
                path.touch()
            asked = {
                "folder": str(folder or Path.cwd()),
                "environment": dict(environment),
                "code": code,
                "module": name,
                "arguments": arguments,
                "seconds": LIMIT,
                **{each: str(path) for each, path in files.items()},
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            status = int(self._process.stdout.readline())
            return Done(status, *(path.read_text(encoding="utf-8") for path in files.values()))


@cache
def with_torch() -> Fresh:
    """One that has imported torch alone."""
    return Fresh("torch")


@cache
def with_all() -> Fresh:
    """One that has imported the packages on which the command line spends most of the time of its start."""
    return Fresh("torch", "pyro", "numba", "pandas", "scipy.stats", "networkx", "matplotlib", "arviz", "rich", "typer")
