"""A submission's process, from the grader's side: start it, ask it within a time, end it and all that it started.

The process runs as a user without rights where the grader is root, and with whatever else `pgm_rnn.teaching.launcher`
can have of the system. The grader speaks to it by `pgm_rnn.teaching.protocol` and gives it no file of its own.
"""

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pgm_rnn
from pgm_rnn.teaching.catalogue import private_folders
from pgm_rnn.teaching.protocol import ProtocolError, decode, encode, receive, send

PATIENCE = 120.0
"""Seconds for the start of a process."""
BUSY, SLACK = 3.0, 15.0
"""By the clock, a second of processor time may take three, and 15 more: the machine may be busy, or the code asleep."""
KEPT = ("LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "SYSTEMROOT", "TZ")
"""Variables of the environment that a submission sees; all others stay with the grader."""
PROTECTIONS = {
    "user": "a user of its own",
    "files": "a read-only file system without tests and other submissions",
    "processes": "a list of processes of its own",
    "network": "no network",
    "CPU": "a limit of processor time",
    "AS": "of memory",
    "NPROC": "of processes",
    "FSIZE": "of file sizes",
    "NOFILE": "of open files",
}
"""Protections by the names that the launcher reports."""


@dataclass(frozen=True)
class Limits:
    """Limits of a submission.

    Attributes:
        seconds: processor time of one cell or one call; by the clock it may take `BUSY` times as long, and
            `SLACK` seconds more.
        cpu_seconds: processor time of the whole process.
        memory: address space in bytes.
        processes: number of processes and threads.
        file_size: bytes of the largest file.
        open_files: number of open files.
    """

    seconds: float = 20.0
    cpu_seconds: int = 180
    memory: int = 3 << 30
    processes: int = 32
    file_size: int = 16 << 20
    open_files: int = 128

    def by_name(self) -> dict[str, int]:
        """The limits by the names of `resource`."""
        names = {"CPU": self.cpu_seconds, "AS": self.memory, "NPROC": self.processes}
        return names | {"FSIZE": self.file_size, "NOFILE": self.open_files, "CORE": 0}


class LostError(RuntimeError):
    """The process is gone, or was ended: too slow, out of memory, left by `os._exit`, or speaking out of turn."""


class StudentError(RuntimeError):
    """The submission's code raised an error, which is the message."""


class Reply(NamedTuple):
    """What the process answered.

    Attributes:
        value: the value, decoded.
        crowded: whether the system refused the code another process; those that it has may still run.
    """

    value: Any
    crowded: bool


class Sandbox:
    """A process that runs cells and calls functions of a submission. Use it as a context manager.

    Raises:
        OSError: no process could be started.

    >>> with Sandbox(Limits(seconds=20)) as sandbox:
    ...     _ = sandbox.run("def double(x): return 2 * x", "cell 1")
    ...     sandbox.call("double", [21])
    42
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.number = 0
        self.work = Path(tempfile.mkdtemp(prefix="pgm-rnn-"))
        self.user = free_user()
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.messages: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue()
        if self.user:
            os.chown(self.work, self.user, self.user)
        job = self._job()
        starts = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py")), json.dumps(job)]
        self.process = subprocess.Popen(
            starts if os.name == "posix" else job["command"],
            env=None if os.name == "posix" else job["environment"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=self.work,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._receive(PATIENCE)
        except LostError:
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise OSError(f"could not start a process for submissions: {said[-1] if said else 'it ended'}") from None

    def __enter__(self) -> "Sandbox":
        """This sandbox."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def run(self, code: str, label: str) -> bool:
        """Run a cell; whether the system refused it another process.

        Raises:
            StudentError: the cell raised an error.
            LostError: the process was lost.
        """
        return self._ask({"run": code, "label": label}).crowded

    def call(self, name: str, arguments: list[Any]) -> Any:
        """The result of one of the submission's functions.

        Raises:
            StudentError: it raised an error, or is no function.
            LostError: the process was lost.
        """
        return self._ask({"call": name, "arguments": [encode(value) for value in arguments]}).value

    def value(self, name: str) -> Any:
        """The value of a variable.

        Raises:
            StudentError: it has none, or none that can be sent.
            LostError: the process was lost.
        """
        return self._ask({"value": name}).value

    def close(self) -> None:
        """Kill the process, its group, and all processes of its user."""
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()
        if self.user:
            kill_all_of(self.user)
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            with suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]
        shutil.rmtree(self.work, ignore_errors=True)

    def _ask(self, request: dict[str, Any]) -> Reply:
        self.number += 1
        assert self.process.stdin is not None
        try:
            send(self.process.stdin, request | {"number": self.number, "seconds": self.limits.seconds})
        except OSError:
            raise LostError(self._fate()) from None
        answer = self._receive(BUSY * self.limits.seconds + SLACK)
        if answer.get("number") != self.number:
            raise LostError("the code wrote to the grader's channel")
        if "error" in answer:
            crowded = " (too many processes)" if answer.get("crowded") else ""
            error = StudentError(printable(answer["error"]) + crowded)
            if answer.get("crowded"):
                raise LostError(str(error))
            raise error
        try:
            return Reply(decode(answer.get("value")), bool(answer.get("crowded")))
        except (ProtocolError, RecursionError):
            raise LostError("the code answered with no value") from None

    def _receive(self, seconds: float) -> dict[str, Any]:
        try:
            message = self.messages.get(timeout=seconds)
        except queue.Empty:
            raise LostError(f"stopped after {seconds:g} seconds by the clock") from None
        if isinstance(message, Exception):
            raise LostError("the code wrote to the grader's channel")
        if message is None:
            raise LostError(self._fate())
        return message

    def _listen(self) -> None:
        """Put what the process says into the queue, and None at the end."""
        stream = self.process.stdout
        assert stream is not None
        try:
            while (message := receive(stream)) is not None:
                self.messages.put(message)
            self.messages.put(None)
        except Exception as error:  # a stream that was closed, or no message
            self.messages.put(error)

    def _fate(self) -> str:
        """Why the process is gone, in words."""
        try:
            status = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "the code closed its connection"
        name = signal_of(status)
        if name == "SIGXCPU":
            return f"stopped after {self.limits.seconds:g} seconds of computing: look for a loop that does not end"
        if name == "SIGKILL":
            return "killed by the system: too much time or memory"
        return f"the code ended its process by {name}" if name else "the code ended its process"

    def _job(self) -> dict[str, Any]:
        package = Path(pgm_rnn.__file__).parent
        libraries = {str(Path(np.__file__).parents[1]), *(path for path in sys.path if path.endswith("-packages"))}
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {"PATH": os.defpath, "LANG": "C.UTF-8", "MPLBACKEND": "Agg"}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"), "1")
        if not any(package.is_relative_to(folder) for folder in libraries):
            environment["PYTHONPATH"] = os.pathsep.join([str(package.parent), *sorted(libraries)])
        return {
            "command": [sys.executable, "-P", "-m", "pgm_rnn.teaching.child"],
            "environment": environment,
            "visible": sorted({sys.prefix, sys.base_prefix, sys.exec_prefix, str(package), *libraries}),
            "hidden": [str(folder) for folder in private_folders()],
            "limits": self.limits.by_name(),
            "user": self.user,
            "work": str(self.work),
        }


def protections(limits: Limits) -> list[str]:
    """Names of the protections that this system allows: a process is started and asked.

    Raises:
        OSError: it cannot be started.
    """
    with Sandbox(limits) as sandbox:
        sandbox.run("import os; enforced = os.environ.get('PGM_RNN_ENFORCED', '')", "protections")
        return str(sandbox.value("enforced")).split()


def signal_of(status: int) -> str:
    """The name of the signal that ended a process with this exit status, or with 256 less its number; "" if none."""
    number = -status if status < 0 else 256 - status
    return signal.Signals(number).name if number in {int(each) for each in signal.Signals} else ""


def printable(text: object) -> str:
    """A text of a submission in one line of printable letters, so that no terminal and no table obeys it."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))[:400]


def free_user() -> int:
    """A user id that nobody has, where the grader is root; 0 elsewhere."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return 0
    import pwd

    taken = {entry.pw_uid for entry in pwd.getpwall()}
    candidates = (60_600 + (os.getpid() + offset) % 400 for offset in range(400))
    return next(candidate for candidate in candidates if candidate not in taken)


def kill_all_of(user: int) -> None:
    """Kill all processes of a user that only submissions have, at once: none can fork past it."""
    child = os.fork()
    if not child:
        try:
            os.setgid(user)
            os.setuid(user)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
