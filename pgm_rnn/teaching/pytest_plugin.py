"""pytest's side of a plain folder: a submission runs in a sandbox, and the points are summed at the end.

pytest test_kalman.py --submission ada.py --student ada
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgm_rnn.teaching.marking import Runs
from pgm_rnn.teaching.sandbox import Limits, LostError
from pgm_rnn.teaching.submission import read_submission

EARNED = pytest.StashKey[dict[str, list[tuple[float, bool]]]]()
LOST = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for the submission and the student."""
    parser.addoption("--submission", help="the student's notebook or Python file")
    parser.addoption("--student", help="the student's name, by default that of the file")


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, and begin to count."""
    config.addinivalue_line("markers", "points(part, number): what a hidden test is worth")
    config.stash[EARNED] = dict[str, list[tuple[float, bool]]]()
    config.stash[LOST] = set()


@pytest.fixture(scope="session")
def submission(request: pytest.FixtureRequest) -> Path:
    """The file that `--submission` names."""
    name = request.config.getoption("--submission")
    if name is None or not Path(name).is_file():
        pytest.exit(f"expected --submission FILE, got {name}; name the student's notebook or Python file", returncode=2)
    return Path(name)


@pytest.fixture(scope="session")
def student(request: pytest.FixtureRequest, submission: Path) -> str:
    """The student's name."""
    return str(request.config.getoption("--student") or submission.stem)


@pytest.fixture(scope="session")
def runs(submission: Path) -> Iterator[Runs]:
    """The submission's cells, run in a sandbox when a test first asks for a value."""
    with Runs(read_submission(submission).cells, Limits()) as started:
        yield started


def _guarded(request: pytest.FixtureRequest, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which from the loss of the process on fails for the rest of its part."""
    mark = request.node.get_closest_marker("points")
    part, lost = mark.args[0] if mark else "", request.config.stash[LOST]

    def guarded(*arguments: Any, **options: Any) -> Any:
        if part in lost:
            raise LostError(f"the part {part} took its process along")
        try:
            return function(*arguments, **options)
        except LostError:
            lost.add(part)
            raise

    return guarded


@pytest.fixture
def call(request: pytest.FixtureRequest, runs: Runs) -> Callable[..., Any]:
    """`call(name, *arguments, returns=1)`: the results of a student's function."""
    return _guarded(request, runs.call)


@pytest.fixture
def value(request: pytest.FixtureRequest, runs: Runs) -> Callable[..., Any]:
    """`value(name)`: the value of a student's variable."""
    return _guarded(request, runs.value)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Count a test's points."""
    report: Any = yield
    mark = item.get_closest_marker("points")
    if mark is not None and report.when == "call":
        part, points = mark.args
        item.config.stash[EARNED].setdefault(part, []).append((points, report.passed))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the points of each part and their sum."""
    total = most = 0.0
    for part, tests in config.stash[EARNED].items():
        whole = sum(points for points, _ in tests)
        earned = 0.0 if part in config.stash[LOST] else sum(points for points, passed in tests if passed)
        total, most = total + earned, most + whole
        terminalreporter.write_line(f"{part}: {earned:g} of {whole:g} points")
    terminalreporter.write_line(f"coded parts: {total:g} of {most:g} points")
