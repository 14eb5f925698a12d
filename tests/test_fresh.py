"""Programs in forks of a process that has torch behave as in an interpreter just started."""

import os
import sys
from pathlib import Path

import pytest

from tests.fresh import with_torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


def test_a_program_has_its_folder_its_environment_and_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os, sys\nprint(os.getcwd(), dict(os.environ), sys.argv[1:])\n")
    environment = {"A": "1", "PYTHONPATH": str(tmp_path)}
    done = with_torch().module("mine", "x", "y z", folder=tmp_path.parent, environment=environment)
    assert done == (0, f"{tmp_path.parent} {environment} ['x', 'y z']\n", "")


def test_it_has_torch_and_nothing_of_the_package_or_of_the_program_before() -> None:
    code = "import sys; print('torch' in sys.modules, any(name.startswith('pgm_rnn') for name in sys.modules)); "
    for _ in range(2):
        assert with_torch().code(code + "import pgm_rnn").stdout == "True False\n"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import sys; sys.stdin.read()", 0, ""),
    ],
)
def test_it_ends_as_a_program_does(code: str, status: int, said: str) -> None:
    done = with_torch().code(code)
    assert done.returncode == status
    assert done.stderr.endswith(said)
    assert bool(done.stderr) == bool(said)


def test_what_threads_print_after_the_last_line_is_there() -> None:
    code = "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()"
    assert with_torch().code(code).stdout == "late\n"


def test_the_package_comes_from_the_path_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "pgm_rnn.py").write_text("place = __file__")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = with_torch().code("import pgm_rnn; print(pgm_rnn.place)", tmp_path, environment)
    assert done.stdout.strip() == str(tmp_path / "pgm_rnn.py"), done.stderr
    assert sys.path[0] != str(tmp_path)
