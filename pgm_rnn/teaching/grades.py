"""grades.csv: a row for each submission, with empty columns for the written questions, which a person fills in.

Rows are kept when the same submission is graded again, the points that a person wrote among them.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from pgm_rnn.files import write_whole
from pgm_rnn.teaching.marking import Marks
from pgm_rnn.teaching.source import Assignment, Question

FIRST, LAST = ("name", "file", "coded", "written", "total", "out_of"), ("messages", "submission", "assignment")
Row = dict[str, str]


def column_of(question: Question) -> str:
    """The column of a written question: "control (of 6)"."""
    return f"{question.name} (of {question.points:g})"


def columns(assignment: Assignment) -> list[str]:
    """All columns, in their order."""
    return [*FIRST, *assignment.parts, *map(column_of, assignment.questions), *LAST]


def row_of(assignment: Assignment, name: str, file: str, digest: str, marks: Marks) -> Row:
    """The row of a submission whose written answers nobody has marked."""
    row = dict.fromkeys(columns(assignment), "")
    row |= {"name": harmless(name), "file": harmless(file), "out_of": f"{assignment.points:g}"}
    row |= {"coded": f"{marks.coded:g}", "messages": harmless("; ".join(marks.messages))}
    row |= {part: f"{points:g}" for part, points in marks.points.items()}
    return row | {"submission": digest, "assignment": assignment.digest}


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") and text else text


def summed(assignment: Assignment, row: Row) -> Row:
    """A row with the sums of its points: the total stays empty until each written answer has points.

    Raises:
        ValueError: points that are no number between 0 and the most.
    """
    given = {question: row.get(column_of(question), "").strip() for question in assignment.questions}
    marked = [_points(row["name"], question, text) for question, text in given.items() if text]
    written = f"{sum(marked):g}" if marked else ""
    done = len(marked) == len(given)
    return row | {"written": written, "total": f"{float(row['coded']) + sum(marked):g}" if done else ""}


def _points(name: str, question: Question, text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= question.points:
        raise ValueError(
            f"expected a number from 0 to {question.points:g} in the column {column_of(question)!r} of {name}, got "
            f"{text!r}; correct it or leave it empty"
        )
    return points


def read_rows(path: Path, assignment: Assignment) -> dict[str, Row]:
    """Rows of an earlier run by the students' names; none if there is no file.

    Raises:
        ValueError: the file is a table of something else.
    """
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if table.fieldnames is None or list(table.fieldnames) != columns(assignment):
            raise ValueError(
                f"expected the columns of the assignment {assignment.name} in {path}, got others; write to another file"
            )
        return {row["name"]: dict(row) for row in table}


def write_rows(path: Path, assignment: Assignment, rows: Iterable[Mapping[str, str]]) -> None:
    """Write all rows, completely or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(assignment), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode("utf-8"))
