"""The py:percent format, sources of assignments, and names of students."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgm_rnn.teaching import student_rng
from pgm_rnn.teaching.catalogue import names, source_of
from pgm_rnn.teaching.instances import normalized
from pgm_rnn.teaching.percent import RawCell, read_cells, write_cells
from pgm_rnn.teaching.source import read_assignment, with_solution, without_solution

HEAD = '# %% [markdown] assignment="a" minutes="5"\n# # A\n\n# %% part="f"\ndef f():\n'
BODY = "    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n\n"
LINES = st.lists(st.sampled_from(["x = 1", "", "    return y", "# a comment", "Text: $z_t$"]), min_size=1, max_size=5)


@given(st.lists(st.tuples(st.booleans(), LINES), min_size=1, max_size=6))
def test_cells_are_read_as_they_were_written(pairs: list[tuple[bool, list[str]]]) -> None:
    cells = [RawCell(is_text, "\n".join(lines).strip("\n"), {"part": "f"}, 0) for is_text, lines in pairs]
    assert [cell._replace(line=0) for cell in read_cells(write_cells(cells))] == cells


def test_jupytext_reads_the_same_cells() -> None:
    jupytext = pytest.importorskip("jupytext")
    for name in names():
        text = source_of(name).read_text(encoding="utf-8")
        theirs = jupytext.reads(text, fmt="py:percent").cells
        ours = read_cells(text)
        assert [cell.source for cell in theirs] == [cell.content for cell in ours]
        assert [cell.cell_type == "markdown" for cell in theirs] == [cell.is_text for cell in ours]


def test_a_solution_is_replaced_by_an_error_at_its_indentation() -> None:
    cell = "def f():\n    a = 1\n" + BODY.rstrip()
    blank = without_solution(cell, "f")
    assert blank == 'def f():\n    a = 1\n    raise NotImplementedError("f: write your code here")  # your code'
    assert with_solution(cell) == "def f():\n    a = 1\n    return 1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", r'expected one cell # %% \[markdown\] assignment="NAME" minutes="90" in .*bad.py'),
        (HEAD + "    return 1\n", "expected ### BEGIN SOLUTION and ### END SOLUTION in .*bad.py, line 4"),
        (HEAD + BODY + '# %% test="g" points="1" says="no"\n', "expected one of the parts f, got 'g' in .*, line 10"),
        (HEAD + BODY + '# %% test="f" points="1"\n', r'expected points="..." and says="..." of a test in .*, line 10'),
        (HEAD + BODY + '# %% [markdown] question="q"\n', r'expected points="..." of a question in .*, line 10'),
    ],
)
def test_a_fault_of_a_source_is_named_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_assignment(path)


def test_an_unknown_assignment_is_answered_with_the_closest() -> None:
    with pytest.raises(ValueError, match="did you mean 'kalman'"):
        source_of("kalmann")


def test_a_name_is_one_student_however_it_is_written() -> None:
    assert len({normalized(name) for name in ("Ada Lovelace", "ada_lovelace", "ADA-LOVELACE", " Ada  Lovelace.")}) == 1
    assert normalized("Ada") != normalized("Adam")
    with pytest.raises(ValueError, match="expected your name in NAME, such as NAME = 'Ada Lovelace', got ' '"):
        student_rng("kalman", " ")


def test_instances_differ_between_students_and_between_assignments() -> None:
    draws = {
        (assignment, name): student_rng(assignment, name).normal()
        for assignment in ("a", "b")
        for name in ("Ada", "Eve")
    }
    assert len(set(draws.values())) == 4
    assert draws["a", "Ada"] == student_rng("a", "ada").normal()
    digest = "3ba58b243858575b89538732ec8a6cd7"  # the first 16 bytes of SHA-256("a\nada"), by sha256sum
    assert draws["a", "Ada"] == np.random.default_rng(int(digest, 16)).normal()
