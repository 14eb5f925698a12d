"""Submissions for tests: solutions with some cells replaced, and the marks that a wrong answer states."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pgm_rnn.teaching.catalogue import folder, names, source_of
from pgm_rnn.teaching.percent import read_cells
from pgm_rnn.teaching.source import Assignment, read_assignment
from pgm_rnn.teaching.submission import Submission, submission_of
from pgm_rnn.teaching.versions.student import SOMEBODY, solution_python

NAMES = names()
WRONG = sorted(folder().glob("*/wrong/*.py"))


class Wrong(NamedTuple):
    """A wrong answer: cells by part, and the points of the parts that lose some."""

    assignment: str
    cells: Mapping[str, str]
    points: Mapping[str, float]
    says: str


def assignment_of(name: str) -> Assignment:
    return read_assignment(source_of(name))


def read_wrong(path: Path) -> Wrong:
    text = path.read_text(encoding="utf-8")
    cells = {cell.options["part"]: cell.content for cell in read_cells(text) if "part" in cell.options}
    stated = re.search(r"^marks: (.*)$", text, re.MULTILINE)
    assert stated is not None, path
    points = {part: float(number) for part, number in re.findall(r"([\w-]+) ([\d.]+)", stated[1])}
    return Wrong(path.parents[1].name, cells, points, text.split('"""')[1])


def solved(assignment: Assignment, cells: Mapping[str, str] | None = None, name: str = SOMEBODY) -> str:
    """The solution as a Python file, some cells of parts replaced."""
    cells = cells or {}
    changed = tuple(
        cell._replace(content=cells.get(cell.options.get("part", ""), cell.content)) for cell in assignment.cells
    )
    return solution_python(replace(assignment, cells=changed)).replace(SOMEBODY, name)


def submitted(assignment: Assignment, cells: Mapping[str, str] | None = None) -> Submission:
    return submission_of(solved(assignment, cells).encode(), ".py")
