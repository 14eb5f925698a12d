"""Grades of a folder of submissions. A run that is interrupted goes on where it was."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pgm_rnn.teaching.grades import Row, column_of, harmless, read_rows, row_of, summed, write_rows
from pgm_rnn.teaching.marking import Marks, mark
from pgm_rnn.teaching.sandbox import Limits
from pgm_rnn.teaching.source import Assignment
from pgm_rnn.teaching.submission import Found, Submission, content_of, submission_of
from pgm_rnn.teaching.written import write_answers


class Graded(NamedTuple):
    """One submission, graded.

    Attributes:
        row: its row of the table.
        is_new: whether it was graded now; otherwise its row was kept.
    """

    row: Row
    is_new: bool


def grade(
    assignment: Assignment, found: list[Found], out: Path, limits: Limits | None = None, *, again: bool = False
) -> Iterator[Graded]:
    """Grade submissions one after another; the table is written after each.

    A row is kept if its submission and the assignment are unchanged, or if `again` is True its written points alone.
    Rows of students whose submission is gone are kept.

    Args:
        assignment: what was set.
        found: the submissions.
        out: the table of grades; the written answers are beside it.
        limits: what each submission may use.
        again: grade submissions again that have a row.

    Raises:
        ValueError: the table is that of another assignment, or has points that are none.
        OSError: the table cannot be written, or no process be started.
    """
    rows = {name: summed(assignment, row) for name, row in read_rows(out, assignment).items()}
    answers: dict[str, dict[str, str]] = {}
    for one in found:
        submission, digest, fault = _read(one.path)
        answers[one.name] = submission.answers
        old = rows.get(harmless(one.name))
        same = old is not None and old["submission"] == digest
        keep = old is not None and same and old["assignment"] == assignment.digest and not again
        if not keep:
            row = row_of(
                assignment, one.name, one.path.name, digest, _marks(assignment, submission, one, fault, limits)
            )
            written = [column_of(question) for question in assignment.questions]
            row |= {column: old[column] for column in written} if old is not None and same else {}
            rows[row["name"]] = summed(assignment, row)
        write_rows(out, assignment, rows.values())
        yield Graded(rows[harmless(one.name)], not keep)
    write_answers(out, assignment, answers)


def _read(path: Path) -> tuple[Submission, str, str]:
    """The submission, the digest of its file, and why it is none."""
    try:
        content = content_of(path)
    except (ValueError, OSError) as error:
        return Submission([], {}), "", str(error)
    digest = hashlib.sha256(content).hexdigest()
    try:
        return submission_of(content, path.suffix), digest, ""
    except ValueError as error:
        return Submission([], {}), digest, str(error)


def _marks(assignment: Assignment, submission: Submission, one: Found, fault: str, limits: Limits | None) -> Marks:
    if fault:
        return Marks(dict.fromkeys(assignment.parts, 0.0), [fault])
    return mark(assignment, submission, one.name, limits)
