"""Submissions that do harm: each costs its own part, with a message, and the other parts are graded."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgm_rnn.teaching import catalogue
from pgm_rnn.teaching.marking import Marks, mark
from pgm_rnn.teaching.sandbox import Limits, LostError, Sandbox, StudentError, free_user, protections
from pgm_rnn.teaching.source import Assignment, read_assignment
from tests.teaching.submissions import submitted

pytestmark = pytest.mark.slow

LIMITS = Limits(seconds=1.0)
SMALL = """
# %% [markdown] assignment="small" minutes="5"
# # Small

# %%
def make_instance(rng):
    return {"x": rng.normal()}

# %%
NAME = ""

# %% part="one"
def one(x):
    ### BEGIN SOLUTION
    return x + 1
    ### END SOLUTION

# %% test="one" points="2" says="x + 1"
check_close(call("one", 1.0), 2.0)

# %% test="one" points="3" says="x + 1 on your number"
check_close(call("one", instance["x"]), instance["x"] + 1)

# %% part="two"
def two(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %% test="two" points="4" says="2 x"
check_close(call("two", 2.0), 4.0)
"""
DEFINES = "def one(x): return x + 1\n"
HARM = {
    "an endless loop in a call": (
        "def one(x):\n    while True: pass",
        "stopped after 1 seconds of computing: look for a loop that does not end",
    ),
    "an endless loop in a cell": (
        DEFINES + "while True: pass",
        "stopped after 1 seconds of computing: look for a loop that does not end",
    ),
    "sleep": ("import time\ndef one(x): time.sleep(1000)", "stopped after 18 seconds by the clock"),
    "exit": ("def one(x): exit()", "the code ended the program (exit)"),
    "a hard exit": ("import os\ndef one(x): os._exit(0)", "the code ended its process"),
    "a hard exit of a cell": ("import os\n" + DEFINES + "os._exit(3)", "the code ended its process"),
    "a signal": ("import os\ndef one(x): os.kill(os.getpid(), 11)", "SIGSEGV"),
    "memory": ("def one(x): return bytearray(1 << 40)", "MemoryError"),
    "200 forks": (
        "import os, time\nfor _ in range(200):\n    if os.fork() == 0: time.sleep(100)\n" + DEFINES,
        "too many processes",
    ),
    "a fork in a call": ("import os\ndef one(x):\n    os.fork()\n    raise OSError('no')", "OSError: no"),
    "an object": ("def one(x): return object()", "expected a number, an array"),
    "a text": ("def one(x): return 'two'", "expected a number or an array of numbers, got str"),
    "a long text": ("def one(x): return 'two' * 12_000_000", "expected at most"),
    "deep lists": ("def one(x):\n    y = []\n    for _ in range(500): y = [y]\n    return y", "levels of lists"),
    "an error that hides": (
        "class E(BaseException):\n    def __str__(self): raise SystemExit\ndef one(x): raise E",
        "one: x + 1 (E)",
    ),
    "another answer": (
        "import os\nfor n in range(3, 30):\n    try: os.write(n, b'\\x00' * 7 + b'\\x02{}')\n    except OSError: pass\n"
        + DEFINES,
        "the code wrote to the grader's channel",
    ),
}


@pytest.fixture(scope="module")
def assignment(tmp_path_factory: pytest.TempPathFactory) -> Assignment:
    path = tmp_path_factory.mktemp("small") / "small.py"
    path.write_text(SMALL)
    return read_assignment(path)


@pytest.fixture(scope="module")
def enforced() -> list[str]:
    return protections(LIMITS)


def marks_of(assignment: Assignment, cell: str) -> Marks:
    return mark(assignment, submitted(assignment, {"one": cell}), "Ada Lovelace", LIMITS)


def test_without_harm_all_parts_have_their_points(assignment: Assignment) -> None:
    marks = marks_of(assignment, DEFINES)
    assert (marks.points, marks.messages) == ({"one": 5.0, "two": 4.0}, [])


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize(
    "harm", [pytest.param(harm, marks=pytest.mark.nightly) if harm == "sleep" else harm for harm in HARM]
)
def test_harm_costs_its_own_part(harm: str, assignment: Assignment) -> None:
    cell, says = HARM[harm]
    marks = marks_of(assignment, cell)
    assert marks.points == {"one": 0.0, "two": 4.0}
    assert any(says in message for message in marks.messages), marks.messages
    assert all(message.isprintable() for message in marks.messages)


def test_no_process_is_left_behind(assignment: Assignment, enforced: list[str]) -> None:
    if "processes" not in enforced and "user" not in enforced:
        pytest.skip("this system cannot find processes that left their group")
    token = f"left-{os.getpid()}"
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)', '{token}'],"
    marks_of(assignment, DEFINES + code + " start_new_session=True)")
    until = time.monotonic() + 20
    while (running := commands_with(token)) and time.monotonic() < until:
        time.sleep(0.1)
    assert running == []


def commands_with(text: str) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in listed if text in line and " time.sleep(99)" in line]


def outcome(code: str) -> str:
    """What a submission finds in its variable `found`, or the error."""
    with Sandbox(LIMITS) as sandbox:
        try:
            sandbox.run(code, "cell 1")
            return str(sandbox.value("found"))
        except (StudentError, LostError) as error:
            return str(error)


def test_tests_and_solutions_cannot_be_read(enforced: list[str]) -> None:
    if "files" not in enforced:
        pytest.skip("this system cannot hide files from an ordinary user")
    source = str(catalogue.source_of("forward-backward"))
    assert "BEGIN SOLUTION" in Path(source).read_text()
    said = outcome(f"found = open({source!r}).read()")
    assert "No such file" in said or "Permission denied" in said
    assert "Permission denied" in outcome("found = open('/proc/1/mem', 'rb').read(1)") or "processes" not in enforced


def test_other_submissions_cannot_be_read(tmp_path: Path, enforced: list[str]) -> None:
    if "files" not in enforced:
        pytest.skip("this system cannot hide files from an ordinary user")
    other = tmp_path / "other.py"
    other.write_text("answers = 42")
    other.chmod(0o644)
    assert "FileNotFoundError" in outcome(f"found = open({str(other)!r}).read()")


def test_nothing_outside_can_be_written(enforced: list[str]) -> None:
    if "files" not in enforced:
        pytest.skip("this system cannot hide files from an ordinary user")
    tried = "import os\nfound = []\nfor place in ('/', '/usr', '/var/tmp', '/dev/shm', os.path.dirname(os.__file__)):\n"
    tried += "    try: open(place + '/mark', 'w'); found.append(place)\n    except OSError: pass\n"
    assert outcome(tried) == "[]"
    assert outcome("open('mine', 'w').write('ok')\nfound = open('mine').read()") == "ok"  # its own folder is there


def test_there_is_no_network(enforced: list[str]) -> None:
    if "network" not in enforced:
        pytest.skip("this system cannot take the network away")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket\nwith socket.create_connection(('127.0.0.1', {port}), 5): found = 'connected'"
        assert "unreachable" in outcome(connect)
        exec(connect, namespace := dict[str, object]())  # the same line reaches the server from here
        assert namespace["found"] == "connected"


def test_the_environment_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    found = outcome("import os\nfound = list(os.environ) + list(os.environ.values())")
    assert "PATH" in found
    assert "SECRET_TOKEN" not in found
    assert "hush" not in found


def test_rights_do_not_come_back(enforced: list[str]) -> None:
    found = outcome("import os\nfound = os.getuid()\ntry: os.setuid(0); found = 'root'\nexcept OSError: pass")
    assert found == str(free_user() or os.getuid())
    if "user" in enforced:
        assert found != "0"


def test_large_files_and_many_files_are_refused() -> None:
    assert "File too large" in outcome("open('big', 'wb').write(bytes(20 << 20))\nfound = 'written'")
    assert "Too many open files" in outcome("found = [open('/dev/null') for _ in range(500)]")


def test_engines_of_the_package_are_refused_with_a_sentence() -> None:
    said = "pgm_rnn.inference may not be used in graded code: write the function yourself"
    assert said in outcome("from pgm_rnn.inference import forward_backward")
    assert outcome("from pgm_rnn.teaching import student_rng\nfound = 'imported'") == "imported"
