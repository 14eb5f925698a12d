"""The process of a submission: runs its cells and calls its functions, as the grader asks.

Each request says how many seconds of processor time it may take.

    {"run": code, "label": label}                    ->  {} or {"error": text}
    {"call": name, "arguments": [...]}               ->  {"value": ...} or {"error": text}
    {"value": name}                                  ->  {"value": ...} or {"error": text}

It is started by `pgm_rnn.teaching.launcher` and holds no test and no solution. Graded code may not import the engines
of `pgm_rnn`: that import is refused with a sentence. This is a reminder, and no wall.
"""

import errno
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from typing import IO, Any

from pgm_rnn.teaching.protocol import ProtocolError, decode, encode, receive, send

LONGEST = 300
"""Letters of an error's text."""
GIVEN = ("pgm_rnn", "pgm_rnn.teaching", "pgm_rnn.moved", "pgm_rnn.version")
"""Modules of the package that graded code may import."""


class _Refusing(MetaPathFinder):
    """Refuses to import the package's engines and models."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Nothing, so that the next finder is asked, or an error."""
        if fullname.startswith("pgm_rnn.") and not fullname.startswith(GIVEN[1:]):
            raise ImportError(f"{fullname} may not be used in graded code: write the function yourself")


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more. A copy of the process that a submission forked ends instead."""
    own, namespace = os.getpid(), dict[str, Any]({"__name__": "__main__"})
    while (request := receive(requests)) is not None:
        _allow(request["seconds"])
        try:
            answer = _answer(request, namespace)
        except KeyboardInterrupt:
            answer = {"error": "KeyboardInterrupt"}
        except BaseException as error:  # a submission may raise anything, SystemExit too
            answer = {"error": _said(error), "crowded": isinstance(error, OSError) and error.errno == errno.EAGAIN}
        if os.getpid() != own:
            os._exit(0)
        number = {"number": request["number"]}
        try:
            send(answers, answer | number)
        except (ProtocolError, MemoryError) as error:  # an answer too long
            send(answers, {"error": _said(error)} | number)


def _allow(seconds: float) -> None:
    """End the process by a signal when it has used so much more processor time, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    wanted = math.ceil(time.process_time() + seconds)
    wanted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_CPU, (wanted, most))


def _answer(request: Mapping[str, Any], namespace: dict[str, Any]) -> dict[str, Any]:
    if "run" in request:
        exec(compile(request["run"], request["label"], "exec"), namespace)
        return {}
    name = request["call"] if "call" in request else request["value"]
    if name not in namespace:
        return {"error": f"expected {name} to be defined, got none", "missing": True}
    if "value" in request:
        return {"value": encode(namespace[name])}
    if not callable(namespace[name]):
        return {"error": f"expected {name} to be a function, got {type(namespace[name]).__name__}"}
    return {"value": encode(namespace[name](*map(decode, request["arguments"])))}


def _said(error: BaseException) -> str:
    """The class and the message of an error, at most a few words: whoever wrote `__str__` may have had ideas."""
    if isinstance(error, SystemExit):
        return "the code ended the program (exit)"
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}"[:LONGEST] if text else type(error).__name__


def main() -> None:
    """Serve on the standard streams, which the submission then no longer has."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    send(answers, {"ready": True})
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    sys.meta_path.insert(0, _Refusing())
    serve(requests, answers)
    os._exit(0)


if __name__ == "__main__":
    main()
