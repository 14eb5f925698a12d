"""Written answers for a person: each question with its rubric, and below it what each student wrote."""

from collections.abc import Mapping
from pathlib import Path

from pgm_rnn.files import write_whole
from pgm_rnn.teaching.grades import column_of
from pgm_rnn.teaching.source import BLANK_ANSWER, Assignment


def place_of(grades: Path) -> Path:
    """The file of the written answers beside a table of grades: grades.csv has grades-written.md."""
    return grades.with_name(f"{grades.stem}-written.md")


def text_of(assignment: Assignment, answers: Mapping[str, Mapping[str, str]]) -> str:
    """All answers in Markdown, by question and student. Answers stand in quotes, line by line."""
    lines = [f"# {assignment.title}: written answers", ""]
    lines += ["Write the points of each answer into the column of its question in the table of grades.", ""]
    for question in assignment.questions:
        lines += [f"## {column_of(question)}", "", question.text, "", "### Rubric", "", question.rubric, ""]
        for name, of_student in answers.items():
            given = of_student.get(question.name, "")
            answer = "(no answer)" if given in ("", BLANK_ANSWER) else given
            lines += [f"### {name}", "", *(f"> {line}" for line in answer.splitlines()), ""]
    return "\n".join(lines)


def write_answers(grades: Path, assignment: Assignment, answers: Mapping[str, Mapping[str, str]]) -> None:
    """Write the file of the written answers beside the table of grades.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(place_of(grades), text_of(assignment, answers).encode("utf-8"))
