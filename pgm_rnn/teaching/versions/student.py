"""The student's version: texts, given cells, blank cells, visible checks, and a cell for each written answer."""

from collections.abc import Callable, Iterator

from pgm_rnn.teaching.percent import RawCell, write_cells
from pgm_rnn.teaching.source import BLANK_ANSWER, Assignment, role_of, with_solution, without_solution
from pgm_rnn.teaching.versions.notebooks import Page, notebook

SOMEBODY = "Ada Lovelace"
"""The student of the solution."""


def headed(assignment: Assignment, cell: RawCell) -> RawCell:
    """A cell with the comment by which the grader knows it, or a question with its points."""
    role = role_of(cell)
    if role == "part":
        name = cell.options["part"]
        return cell._replace(content=f"# part: {name} ({assignment.parts[name]:g} points)\n{cell.content}")
    if role == "check":
        return cell._replace(content=f"# check: {cell.options['check']}\n{cell.content}")
    if role == "question":
        return cell._replace(content=f"{cell.content} ({float(cell.options['points']):g} points)")
    return cell


def answer_cell(question: str, text: str = BLANK_ANSWER) -> RawCell:
    """The cell of a written answer, which begins with the words by which the grader knows it."""
    return RawCell(True, f"**Answer {question}.**\n\n{text}", {}, 0)


def blank(cell: RawCell) -> RawCell:
    """A student's cell without its solution."""
    if role_of(cell) != "part":
        return cell
    return cell._replace(content=without_solution(cell.content, cell.options["part"]))


def solved(cell: RawCell) -> RawCell:
    """A student's cell with its solution, and a name for the student."""
    if role_of(cell) == "given" and not cell.is_text:
        return cell._replace(content=cell.content.replace('NAME = ""', f'NAME = "{SOMEBODY}"'))
    return cell._replace(content=with_solution(cell.content)) if role_of(cell) == "part" else cell


def shown(assignment: Assignment, change: Callable[[RawCell], RawCell]) -> Iterator[RawCell]:
    """Cells that a student sees, after a change of each."""
    for cell in assignment.cells:
        if role_of(cell) in ("test", "hidden", "rubric"):
            continue
        yield headed(assignment, change(cell))._replace(options={})
        if role_of(cell) == "question":
            yield answer_cell(cell.options["question"])


def student_python(assignment: Assignment) -> str:
    """The student's version as a py:percent file."""
    return write_cells(shown(assignment, blank))


def student_notebook(assignment: Assignment) -> str:
    """The student's version as a notebook."""
    return notebook(map(page_of, shown(assignment, blank)))


def solution_python(assignment: Assignment) -> str:
    """The solved version as a py:percent file, of a student called Ada Lovelace."""
    return write_cells(shown(assignment, solved))


def solution_notebook(assignment: Assignment) -> str:
    """The solved version as a notebook, of a student called Ada Lovelace."""
    return notebook(map(page_of, shown(assignment, solved)))


def page_of(cell: RawCell) -> Page:
    """A cell of a notebook."""
    return Page("markdown" if cell.is_text else "code", cell.content)
