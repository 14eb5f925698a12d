"""The folder of a course, with all versions of its assignments."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pgm_rnn.files import write_whole
from pgm_rnn.teaching.grades import column_of
from pgm_rnn.teaching.source import Assignment
from pgm_rnn.teaching.versions import nbgrader, plain, student
from pgm_rnn.teaching.versions.otter import otter_notebook

README = """# The course

| folder | what it is | for whom |
|---|---|---|
| `student/NAME/` | the assignment as a notebook and as a Python file (py:percent) | students |
| `instructor/NAME/` | the solved assignment and the rubric of its written questions | you |
| `plain/NAME/` | hidden tests for pytest | you |
| `nbgrader/` | a course of nbgrader: `cd nbgrader; nbgrader generate_assignment NAME` | you |
| `otter/NAME/` | a notebook for Otter: `otter assign otter/NAME/NAME.ipynb OUT` | you |

Hand out `student/NAME/` alone: all other folders hold solutions and hidden tests. Grade with

    pgm-rnn grade NAME SUBMISSIONS --out grades.csv

where SUBMISSIONS is a folder with a file `STUDENT.ipynb` or `STUDENT.py` for each student, or a folder `STUDENT` with
one such file. Written answers are gathered in `grades-written.md`; write their points into the empty columns of
`grades.csv` and run the command again for the totals.

| assignment | minutes | points | coded | written |
|---|---|---|---|---|
"""


def write_course(folder: Path, assignments: Iterable[Assignment]) -> list[Path]:
    """Write all versions of these assignments; the paths of the files.

    Raises:
        OSError: a file cannot be written.
    """
    listed = list(assignments)
    contents = {"README.md": README + "".join(map(_line, listed)), "nbgrader/nbgrader_config.py": nbgrader.CONFIG}
    for assignment in listed:
        contents |= files_of(assignment)
    return list(_written(folder, contents))


def files_of(assignment: Assignment) -> dict[str, str]:
    """Contents of the files of one assignment by their paths in the course."""
    name = assignment.name
    return {
        f"student/{name}/{name}.ipynb": student.student_notebook(assignment),
        f"student/{name}/{name}.py": student.student_python(assignment),
        f"instructor/{name}/solution.ipynb": student.solution_notebook(assignment),
        f"instructor/{name}/solution.py": student.solution_python(assignment),
        f"instructor/{name}/rubric.md": _rubric(assignment),
        f"plain/{name}/{name}.py": student.student_python(assignment),
        f"plain/{name}/conftest.py": plain.CONFTEST,
        f"plain/{name}/test_{name.replace('-', '_')}.py": plain.pytest_file(assignment),
        f"nbgrader/source/{name}/{name}.ipynb": nbgrader.nbgrader_notebook(assignment),
        f"otter/{name}/{name}.ipynb": otter_notebook(assignment),
    }


def _line(assignment: Assignment) -> str:
    coded = sum(assignment.parts.values())
    written = assignment.points - coded
    return (
        f"| {assignment.name}: {assignment.title} | {assignment.minutes} | {assignment.points:g} | {coded:g} "
        f"| {written:g} |\n"
    )


def _rubric(assignment: Assignment) -> str:
    lines = [
        f"# {assignment.title}: points",
        "",
        "| test of | points | what a student reads if it fails |",
        "|---|---|---|",
    ]
    lines += [f"| {test.part} | {test.points:g} | {test.says} |" for test in assignment.tests]
    for question in assignment.questions:
        lines += ["", f"## {column_of(question)}", "", question.text, "", question.rubric]
    return "\n".join(lines) + "\n"


def _written(folder: Path, contents: Mapping[str, str]) -> Iterator[Path]:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.encode("utf-8"))
        yield path
