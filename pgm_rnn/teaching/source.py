"""The source of an assignment: one file in the py:percent format, whose cells say what they are for.

    # %% [markdown] assignment="kalman" minutes="90"     the title, the goals
    # %% part="filter"                                   a student's cell, the solution between two marks
    # %% check="filter"                                  a check that students see
    # %% test="filter" points="6" says="..."             a hidden test; `says` is what a student reads if it fails
    # %% hidden="reference"                              names for the hidden tests
    # %% [markdown] question="control" points="6"        a written question
    # %% [markdown] rubric="control"                     how its answers are marked

Cells without such a word are given to the students as they are. One of them defines `make_instance(rng)`.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pgm_rnn.teaching.percent import RawCell, read_cells

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
BLANK_ANSWER = "*Write your answer here.*"
SOLUTION = re.compile(rf"^(?P<indent>[ \t]*){BEGIN}\n.*?^[ \t]*{END}(?:\n|\Z)", re.MULTILINE | re.DOTALL)
ROLES = ("assignment", "part", "check", "test", "hidden", "question", "rubric")
"""Words that say what a cell is for; a cell without one is given to the students."""


class Test(NamedTuple):
    """A hidden test.

    Attributes:
        part: the part that it tests.
        code: statements that raise an AssertionError if it fails.
        points: what it is worth.
        says: what a student reads if it fails.
        line: line of the source.
    """

    part: str
    code: str
    points: float
    says: str
    line: int


class Question(NamedTuple):
    """A written question.

    Attributes:
        name: its name.
        text: the question.
        points: the most points.
        rubric: how answers are marked, and a sample answer; no student sees it.
    """

    name: str
    text: str
    points: float
    rubric: str


@dataclass(frozen=True, eq=False)
class Assignment:
    """An assignment.

    Attributes:
        name: its name.
        title: the first heading.
        minutes: time that a student needs.
        cells: all cells in their order.
        tests: the hidden tests in their order.
        questions: the written questions in their order.
        digest: SHA-256 digest of the source.
    """

    name: str
    title: str
    minutes: int
    cells: tuple[RawCell, ...]
    tests: tuple[Test, ...]
    questions: tuple[Question, ...]
    digest: str

    @property
    def parts(self) -> Mapping[str, float]:
        """Points of each coded part, in the order of the parts."""
        names = [cell.options["part"] for cell in self.cells if role_of(cell) == "part"]
        return {name: sum(test.points for test in self.tests if test.part == name) for name in names}

    @property
    def points(self) -> float:
        """The sum of all points."""
        return sum(self.parts.values()) + sum(question.points for question in self.questions)


def role_of(cell: RawCell) -> str:
    """What a cell is for: one of `ROLES`, or "given"."""
    return next((role for role in ROLES if role in cell.options), "given")


def read_assignment(path: Path) -> Assignment:
    """Read and check a source.

    Raises:
        ValueError: a cell lacks what it must have, or names a part that there is not; the line is named.
    """
    text = path.read_text(encoding="utf-8")
    cells = tuple(read_cells(text))
    heads = [cell for cell in cells if role_of(cell) == "assignment"]
    if len(heads) != 1 or not heads[0].options.get("minutes", "").isdecimal():
        raise ValueError(f'expected one cell # %% [markdown] assignment="NAME" minutes="90" in {path}')
    title = re.search(r"^# (.+)$", heads[0].content, re.MULTILINE)
    parts = {cell.options["part"] for cell in cells if role_of(cell) == "part"}
    for cell in cells:
        _check(cell, parts, path)
    rubrics = {cell.options["rubric"]: cell.content for cell in cells if role_of(cell) == "rubric"}
    return Assignment(
        name=heads[0].options["assignment"],
        title=title[1] if title else heads[0].options["assignment"],
        minutes=int(heads[0].options["minutes"]),
        cells=cells,
        tests=tuple(_test(cell) for cell in cells if role_of(cell) == "test"),
        questions=tuple(_question(cell, rubrics) for cell in cells if role_of(cell) == "question"),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )


def _check(cell: RawCell, parts: set[str], path: Path) -> None:
    role = role_of(cell)
    place = f"{path}, line {cell.line}"
    if role in ("check", "test") and cell.options[role] not in parts:
        raise ValueError(f"expected one of the parts {', '.join(sorted(parts))}, got {cell.options[role]!r} in {place}")
    if role == "test" and not ("says" in cell.options and cell.options.get("points", "").isdecimal()):
        raise ValueError(f'expected points="..." and says="..." of a test in {place}')
    if role == "question" and not cell.options.get("points", "").isdecimal():
        raise ValueError(f'expected points="..." of a question in {place}')
    if role == "part" and not SOLUTION.search(cell.content + "\n"):
        raise ValueError(f"expected {BEGIN} and {END} in {place}")


def _test(cell: RawCell) -> Test:
    options = cell.options
    return Test(options["test"], cell.content, float(options["points"]), options["says"], cell.line)


def _question(cell: RawCell, rubrics: Mapping[str, str]) -> Question:
    name = cell.options["question"]
    return Question(name, cell.content, float(cell.options["points"]), rubrics.get(name, ""))


def without_solution(code: str, part: str) -> str:
    """A student's cell: each solution is replaced by a line that raises NotImplementedError."""
    blank = f'raise NotImplementedError("{part}: write your code here")'
    return SOLUTION.sub(lambda found: f"{found['indent']}{blank}  # your code\n", code + "\n").rstrip("\n")


def with_solution(code: str) -> str:
    """A cell with its solution, without the marks."""
    return "\n".join(line for line in code.splitlines() if line.strip() not in (BEGIN, END))
