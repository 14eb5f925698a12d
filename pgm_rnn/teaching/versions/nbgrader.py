"""The source notebook of nbgrader: solutions and hidden tests between its marks, and its metadata (schema 3)."""

import io
import tokenize
from collections.abc import Iterator
from typing import Any

from pgm_rnn.teaching.bench import MAKER
from pgm_rnn.teaching.percent import RawCell
from pgm_rnn.teaching.source import BEGIN, END, Assignment, role_of
from pgm_rnn.teaching.versions.notebooks import Page, notebook
from pgm_rnn.teaching.versions.student import headed, page_of

CONFIG = '''"""Configuration of nbgrader for this course."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "pgm-rnn"
c.ExecutePreprocessor.timeout = 300
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # write your code here"}
c.ClearSolutions.text_stub = "*Write your answer here.*"
c.ClearHiddenTests.enforce_metadata = False
'''
PRELUDE = """from pgm_rnn.teaching import check_close
from pgm_rnn.teaching.checks import local, numbers
call, value = local(globals()), globals().__getitem__"""
"""Names of the hidden tests, in a notebook where they run beside the student's code."""


def nbgrader_notebook(assignment: Assignment) -> str:
    """The notebook of `source/NAME/`, from which `nbgrader generate_assignment` makes the students' version."""
    return notebook(_pages(assignment))


def prelude(assignment: Assignment) -> str:
    """What stands above the hidden tests of a notebook: their names, and the hidden cells."""
    hidden = [cell.content for cell in assignment.cells if role_of(cell) == "hidden"]
    return "\n".join([PRELUDE, *hidden])


def indented(source: str) -> str:
    """Python code as the body of a function; the later lines of a string stay as they are."""
    tokens = tokenize.generate_tokens(io.StringIO(source + "\n").readline)
    inside = {
        n for token in tokens for n in range(token.start[0] + 1, token.end[0] + 1) if token.type == tokenize.STRING
    }
    lines = source.splitlines()
    return "\n".join(line if n in inside or not line else f"    {line}" for n, line in enumerate(lines, start=1))


def _metadata(name: str, *, grade: bool, solution: bool, points: float | None = None) -> dict[str, Any]:
    told = {"grade": grade, "grade_id": name, "locked": not solution, "schema_version": 3, "solution": solution}
    told |= {"task": False} | ({} if points is None else {"points": points})
    return {"nbgrader": told}


def _pages(assignment: Assignment) -> Iterator[Page]:
    rubrics = {question.name: question.rubric for question in assignment.questions}
    numbers = dict.fromkeys(assignment.parts, 0)
    for place, cell in enumerate(assignment.cells, start=1):
        role, page = role_of(cell), page_of(headed(assignment, cell))
        if role == "part":
            yield page._replace(metadata=_metadata(cell.options["part"], grade=False, solution=True))
        elif role == "test":
            numbers[cell.options["test"]] += 1
            yield _test(assignment, cell, numbers[cell.options["test"]])
        elif role == "question":
            name = cell.options["question"]
            yield page._replace(metadata=_metadata(f"question-{name}", grade=False, solution=False))
            text = f"**Answer {name}.**\n\n{BEGIN}\n{rubrics[name]}\n{END}"
            told = _metadata(f"answer-{name}", grade=True, solution=True, points=float(cell.options["points"]))
            yield Page("markdown", text, told)
        elif role not in ("hidden", "rubric"):
            free = role == "given" and "NAME = " in cell.content and f"def {MAKER}(" not in cell.content
            told = {} if free or cell.is_text else _metadata(f"given-{place}", grade=False, solution=False)
            yield page._replace(metadata=told)


def _test(assignment: Assignment, cell: RawCell, number: int) -> Page:
    part = cell.options["test"]
    lines = [f"# check: {part}, hidden test {number}: {cell.options['says']}", "### BEGIN HIDDEN TESTS"]
    lines += ["def hidden_test():", indented(f"{prelude(assignment)}\n{cell.content}")]  # whose names stay in it
    lines += ["hidden_test()", "### END HIDDEN TESTS"]
    told = _metadata(f"test-{part}-{number}", grade=True, solution=False, points=float(cell.options["points"]))
    return Page("code", "\n".join(lines), told)
