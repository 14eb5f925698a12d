"""Points of one submission: its cells are run apart, then each hidden test asks for values and looks at them.

A cell or a call that takes its process along costs its own part. The process is then started anew without that cell,
and the other parts are marked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pgm_rnn.teaching.bench import namespace_of
from pgm_rnn.teaching.checks import counted
from pgm_rnn.teaching.instances import normalized
from pgm_rnn.teaching.sandbox import Limits, LostError, Sandbox, StudentError, printable
from pgm_rnn.teaching.source import Assignment
from pgm_rnn.teaching.submission import Code, Submission

BLANK = "write your code here"
"""Words of the error that a cell raises in which nothing was written."""
MOST_STARTS = 8
"""Processes of one submission; after that what is left has no points."""


@dataclass
class Marks:
    """Points of a submission.

    Attributes:
        points: points by part.
        messages: what a student should read, one sentence each.
        answers: written answers, which a person marks.
    """

    points: dict[str, float]
    messages: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def coded(self) -> float:
        """The sum over the coded parts."""
        return sum(self.points.values())


class Runs:
    """The cells of a submission in a process, and in a new one when that is lost. Use it as a context manager."""

    def __init__(self, cells: list[Code], limits: Limits) -> None:
        self.cells = cells
        self.limits = limits
        self.left_out: dict[str, str] = {}
        """Why a cell, by its label, is left out."""
        self.faults: dict[str, str] = {}
        """Errors of cells, by their labels."""
        self.starts = 0
        self.sandbox: Sandbox | None = None

    def __enter__(self) -> "Runs":
        """These runs."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.stop()

    def stop(self) -> None:
        """End the process, if there is one."""
        if self.sandbox is not None:
            self.sandbox.close()
            self.sandbox = None

    def ready(self) -> Sandbox:
        """A process in which all cells were run that do not take it along.

        Raises:
            LostError: too many processes were lost.
        """
        while self.sandbox is None:
            self.starts += 1
            if self.starts > MOST_STARTS:
                raise LostError(f"given up after {MOST_STARTS} lost processes")
            self.sandbox = Sandbox(self.limits)
            try:
                self._run_cells(self.sandbox)
            except LostError:
                self.stop()
        return self.sandbox

    def _run_cells(self, sandbox: Sandbox) -> None:
        for cell in self.cells:
            if cell.label in self.left_out:
                continue
            try:
                sandbox.run(cell.code, cell.label)
            except StudentError as error:
                self.faults[cell.label] = str(error)
            except LostError as error:
                self.left_out[cell.label] = str(error)
                raise

    def faults_of(self, part: str) -> list[str]:
        """What went wrong in the cells of a part ("" for cells of none)."""
        both = self.faults | self.left_out
        return [f"{cell.label}: {both[cell.label]}" for cell in self.cells if cell.part == part and cell.label in both]

    def call(self, name: str, *arguments: Any, returns: int = 1) -> Any:
        """The results of a student's function, for the hidden tests.

        Raises:
            AssertionError: there are not as many as expected.
            StudentError: the function raised an error.
            LostError: the process was lost.
        """
        return counted(self._guarded("call", name, list(arguments)), name, returns)

    def value(self, name: str) -> Any:
        """The value of a student's variable, for the hidden tests.

        Raises:
            StudentError: it has none.
            LostError: the process was lost.
        """
        return self._guarded("value", name)

    def _guarded(self, what: str, *arguments: Any) -> Any:
        sandbox = self.ready()
        try:
            return getattr(sandbox, what)(*arguments)
        except LostError:
            self.stop()
            raise


def mark(assignment: Assignment, submission: Submission, name: str, limits: Limits | None = None) -> Marks:
    """Mark the coded parts of a submission.

    Args:
        assignment: what was set.
        submission: what was handed in.
        name: the student's name, from which the instance is drawn.
        limits: what the submission may use.

    Raises:
        OSError: no process could be started.
    """
    marks = Marks(dict.fromkeys(assignment.parts, 0.0), answers=submission.answers)
    names = namespace_of(assignment, name)
    with Runs(submission.cells, limits or Limits()) as runs:
        names |= {"call": runs.call, "value": runs.value}
        for part in assignment.parts:
            marks.points[part] = _mark_part(assignment, part, runs, names, marks.messages)
        marks.messages += [f"{fault}" for fault in runs.faults_of("")]
        marks.messages += _wrong_name(runs, name)
    return marks


def _mark_part(assignment: Assignment, part: str, runs: Runs, names: Mapping[str, Any], messages: list[str]) -> float:
    """Points of a part; a process lost in one of its tests leaves none."""
    earned, said = 0.0, list[str]()
    try:
        runs.ready()
        for test in assignment.tests:
            if test.part == part:
                failure = _failure(test.code, f"{assignment.name}, line {test.line}", names)
                earned += 0.0 if failure else test.points
                said += [f"{part}: {test.says} ({failure})"] if failure else []
    except LostError as error:
        earned, said = 0.0, [f"{part}: {error}"]
    faults = [f"{part}: {fault}" for fault in runs.faults_of(part) if said]
    blank = [text for text in said + faults if BLANK in text]
    messages += [f"{part}: not done"] if blank else faults or said
    return earned


def _failure(code: str, label: str, names: Mapping[str, Any]) -> str:
    """Why a test fails, "" if it does not.

    Raises:
        LostError: the process was lost.
    """
    try:
        exec(compile(code, label, "exec"), dict(names))
    except LostError:
        raise
    except (AssertionError, StudentError) as error:
        return printable(error) or "a condition does not hold"
    except Exception as error:  # a value that no test foresaw
        return printable(f"the result could not be read: {type(error).__name__}: {error}")
    return ""


def _wrong_name(runs: Runs, name: str) -> list[str]:
    """A word on a submission whose NAME is another student's, whose numbers are then wrong."""
    try:
        given = runs.value("NAME")
    except (StudentError, LostError):
        return []
    if isinstance(given, str) and normalized(given) == normalized(name):
        return []
    return [f"NAME is {printable(given)!r}, the submission is that of {name!r}: its instance is another one"]
