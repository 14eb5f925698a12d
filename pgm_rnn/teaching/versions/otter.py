"""The notebook of Otter Assign: raw cells around questions, solutions and tests; `otter assign` makes the bundle."""

import json
from collections.abc import Iterator
from textwrap import indent

from pgm_rnn.teaching.percent import RawCell
from pgm_rnn.teaching.source import BEGIN, END, Assignment, role_of
from pgm_rnn.teaching.versions.nbgrader import prelude
from pgm_rnn.teaching.versions.notebooks import Page, notebook
from pgm_rnn.teaching.versions.student import SOMEBODY, answer_cell, headed, page_of

CONFIG = """# ASSIGNMENT CONFIG
requirements:
  - pgm-rnn
solutions_pdf: false
export_cell: false
tests:
  ok_format: false
"""


def otter_notebook(assignment: Assignment) -> str:
    """The master notebook for `otter assign`, with its tests in the format that raises exceptions."""
    return notebook([Page("raw", CONFIG), *_pages(assignment)])


def _raw(*lines: str) -> Page:
    return Page("raw", "\n".join(lines))


def _pages(assignment: Assignment) -> Iterator[Page]:
    tests: dict[str, list[RawCell]] = {part: [] for part in assignment.parts}
    rubrics = {question.name: question.rubric for question in assignment.questions}
    for cell in assignment.cells:
        if role_of(cell) == "test":
            tests[cell.options["test"]].append(cell)
    for cell in assignment.cells:
        role, page = role_of(cell), page_of(headed(assignment, cell))
        if role == "part":
            yield from _question(assignment, cell, tests[cell.options["part"]])
        elif role == "question":
            name = cell.options["question"]
            yield _raw("# BEGIN QUESTION", f"name: {name}", "manual: true", f"points: {cell.options['points']}")
            yield page
            yield _raw("# BEGIN SOLUTION")
            yield page_of(answer_cell(name, rubrics[name]))
            yield _raw("# END SOLUTION")
            yield _raw("# END QUESTION")
        elif role not in ("hidden", "rubric", "test"):
            yield from _named(page)


def _named(page: Page) -> Iterator[Page]:
    """A given cell; the line of the student's name is a question of its own, for Otter blanks nothing elsewhere."""
    if page.kind == "markdown" or 'NAME = ""' not in page.content:
        yield page
        return
    yield _raw("# BEGIN QUESTION", "name: your-name", "points: 0")
    yield _raw("# BEGIN SOLUTION")
    yield Page("code", f'NAME = "{SOMEBODY}"  # SOLUTION')
    yield _raw("# END SOLUTION")
    yield _raw("# END QUESTION")
    yield page._replace(content=page.content.replace('NAME = ""\n', ""))


def _question(assignment: Assignment, cell: RawCell, tests: list[RawCell]) -> Iterator[Page]:
    """A part with its tests; the text of the part is the cell before it."""
    code = headed(assignment, cell).content
    for ours, theirs in ((BEGIN, "# BEGIN SOLUTION"), (END, "# END SOLUTION")):
        code = code.replace(ours, theirs)
    yield _raw(
        "# BEGIN QUESTION", f"name: {cell.options['part']}", f"points: {assignment.parts[cell.options['part']]:g}"
    )
    yield _raw("# BEGIN SOLUTION")
    yield Page("code", code)
    yield _raw("# END SOLUTION")
    yield _raw("# BEGIN TESTS")
    for number, test in enumerate(tests, start=1):
        yield Page("code", _test(assignment, test, number))
    yield _raw("# END TESTS")
    yield _raw("# END QUESTION")


def _test(assignment: Assignment, cell: RawCell, number: int) -> str:
    options = cell.options
    names = prelude(assignment).replace("globals()", "env") + '\ninstance = env["instance"]\nimport numpy as np'
    head = ['""" # BEGIN TEST CONFIG', "hidden: true", f"points: {options['points']}"]
    head += [f"failure_message: {json.dumps(options['says'])}", '""" # END TEST CONFIG']
    name = f"test_{options['test']}_{number}".replace("-", "_")
    return "\n".join([*head, f"def {name}(env):", indent(names, "    "), indent(cell.content, "    ")])
