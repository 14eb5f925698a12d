"""Each assignment: full marks for its solution, none for a blank one, the stated marks for five wrong answers."""

import json
from collections import Counter
from pathlib import Path

import pytest

from pgm_rnn.teaching.marking import mark
from pgm_rnn.teaching.source import role_of
from pgm_rnn.teaching.submission import submission_of
from pgm_rnn.teaching.versions.student import SOMEBODY, student_notebook
from tests.teaching.submissions import NAMES, WRONG, assignment_of, read_wrong, solved, submitted

pytestmark = pytest.mark.slow

DAILY = [pytest.param(path, marks=() if number % 5 < 2 else pytest.mark.nightly) for number, path in enumerate(WRONG)]
"""Two wrong answers of each assignment by day, all five at night."""


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_has_full_marks(name: str) -> None:
    assignment = assignment_of(name)
    marks = mark(assignment, submitted(assignment), SOMEBODY)
    assert (marks.messages, marks.points) == ([], assignment.parts)


@pytest.mark.parametrize("name", NAMES)
def test_a_blank_submission_has_zero_and_is_told_what_is_not_done(name: str) -> None:
    assignment = assignment_of(name)
    blank = submission_of(student_notebook(assignment).encode(), ".ipynb")
    marks = mark(assignment, blank, "Ada")
    assert set(marks.points.values()) == {0.0}
    assert [f"{part}: not done" for part in assignment.parts] == marks.messages[: len(assignment.parts)]
    assert list(marks.answers) == [question.name for question in assignment.questions]


def test_an_error_in_a_cell_names_the_heading_that_the_student_sees() -> None:
    assignment = assignment_of("kalman")
    notebook = json.loads(student_notebook(assignment))
    own = next(cell for cell in notebook["cells"] if "".join(cell["source"]).startswith("# part: smoother"))
    own["source"] = "# part: smoother\ndef smooth(:\n"
    marks = mark(assignment, submission_of(json.dumps(notebook).encode(), ".ipynb"), SOMEBODY)
    (message,) = [message for message in marks.messages if message.startswith("smoother: ")]
    assert message.startswith('smoother: cell 1 under "3. The smoother": SyntaxError: ')


@pytest.mark.parametrize("path", DAILY, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_a_wrong_answer_has_the_marks_that_it_states(path: Path) -> None:
    wrong = read_wrong(path)
    assignment = assignment_of(wrong.assignment)
    marks = mark(assignment, submitted(assignment, wrong.cells), SOMEBODY)
    assert marks.points == {**assignment.parts, **wrong.points}
    assert {message.split(":")[0] for message in marks.messages} == set(wrong.points)


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_the_solution_has_full_marks_for_every_student(name: str) -> None:
    assignment = assignment_of(name)
    for student in (f"student {number}" for number in range(25)):
        submission = submission_of(solved(assignment, name=student).encode(), ".py")
        assert mark(assignment, submission, student).messages == []


@pytest.mark.parametrize("name", NAMES)
def test_another_students_numbers_have_no_points(name: str) -> None:
    assignment = assignment_of(name)
    marks = mark(assignment, submitted(assignment), "Emmy Noether")
    assert {part: points for part, points in marks.points.items() if points < assignment.parts[part]}.keys() == {
        "numbers"
    }
    assert (
        f"NAME is '{SOMEBODY}', the submission is that of 'Emmy Noether': its instance is another one" in marks.messages
    )


def test_every_assignment_has_five_wrong_answers_that_lose_points() -> None:
    assert Counter(path.parents[1].name for path in WRONG) == dict.fromkeys(NAMES, 5)
    for wrong in map(read_wrong, WRONG):
        parts = assignment_of(wrong.assignment).parts
        assert all(points < parts[part] for part, points in wrong.points.items())


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_has_the_size_that_was_planned(name: str) -> None:
    assignment = assignment_of(name)
    assert len(NAMES) == 6
    assert assignment.name == name
    assert 60 <= assignment.points <= 100
    assert 4 <= len(assignment.parts) <= 7  # three to five ideas, the student's numbers, and a helper
    assert 1 <= len(assignment.questions) <= 2
    assert all(
        question.rubric and "hypothesis" in question.text + question.rubric for question in assignment.questions[:1]
    )
    assert str(assignment.minutes) in assignment.cells[0].content
    assert "**Goals.**" in assignment.cells[0].content


@pytest.mark.parametrize("name", NAMES)
def test_no_version_for_students_shows_a_solution_a_test_or_a_rubric(name: str) -> None:
    assignment = assignment_of(name)
    shown = "".join(json.loads(student_notebook(assignment))["cells"][n]["source"][0] for n in range(3))
    text = student_notebook(assignment)
    secret = ("test", "hidden", "rubric")
    hidden = [cell.content for cell in assignment.cells if role_of(cell) in secret]
    given = {line for cell in assignment.cells if role_of(cell) == "given" for line in cell.content.splitlines()}
    assert assignment.title in shown
    for line in {line for cell in hidden for line in cell.splitlines() if len(line) > 50} - given:
        assert json.dumps(line, ensure_ascii=False)[1:-1] not in text
    assert "SOLUTION" not in text
    assert text.count("write your code here") == len(assignment.parts)
