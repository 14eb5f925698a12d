"""Folders of submissions, the table of grades, and the two commands."""

import csv
import json
import os
from pathlib import Path

import pytest

from pgm_rnn.teaching.grades import harmless
from pgm_rnn.teaching.submission import find_submissions, read_submission, submission_of
from pgm_rnn.teaching.versions.student import solution_notebook, student_notebook
from tests.teaching.submissions import assignment_of, solved
from tests.test_cli import call

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four submissions: two that are solved, one blank, one that is no notebook."""
    monkeypatch.chdir(tmp_path)
    assignment = assignment_of("forward-backward")
    place = tmp_path / "handed-in"
    (place / "bob" / "forward-backward").mkdir(parents=True)  # as nbgrader lays it
    (place / "Ada Lovelace.ipynb").write_text(solution_notebook(assignment))
    (place / "bob" / "forward-backward" / "forward-backward.ipynb").write_text(student_notebook(assignment))
    text = solved(assignment, name="carol").replace(
        "*Write your answer here.*", "=1+1, the *Markov* property.\nNo, two.", 1
    )
    (place / "carol.py").write_text(text.replace("Markov* property.\nNo", "Markov* property.\n# No"))
    (place / "=dan.ipynb").write_text("no notebook")
    return place


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_folder_is_graded_and_a_second_run_keeps_rows_and_adds_points(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert call(monkeypatch, *["grade", "forward-backward", "handed-in", "--out", "grades.csv"]) == 0
    text = capsys.readouterr().out
    assert "4 graded" in text
    assert "written to grades.csv: 4 submissions" in text
    assert "4 submissions wait for points" in text
    rows = rows_of(Path("grades.csv"))
    assert {name: row["coded"] for name, row in rows.items()} == {
        "Ada Lovelace": "68",
        "bob": "0",
        "carol": "68",
        "'=dan": "0",
    }
    assert rows["'=dan"]["messages"] == "expected a notebook, got another kind of file, or a damaged one"
    assert rows["carol"]["second-order (of 6)"] == rows["carol"]["total"] == ""
    written = Path("grades-written.md").read_text()
    assert "### carol\n\n> =1+1, the *Markov* property.\n> No, two." in written
    assert "- 2 points: the Markov property" in written
    assert "### bob\n\n> (no answer)" in written

    filled = Path("grades.csv").read_text().replace(",68,,,80,20,20,20,8,,,", ",68,,,80,20,20,20,8,5,4.5,")
    Path("grades.csv").write_text(filled)
    (folder / "bob" / "forward-backward" / "forward-backward.ipynb").write_text("{}")
    assert call(monkeypatch, *["grade", "forward-backward", "handed-in", "--out", "grades.csv"]) == 0
    text = capsys.readouterr().out
    assert "1 graded, 3 kept as they were" in text
    assert "2 submissions wait for points" in text
    rows = rows_of(Path("grades.csv"))
    assert (rows["carol"]["written"], rows["carol"]["total"]) == ("9.5", "77.5")
    assert rows["bob"]["messages"] == "expected a notebook, got another kind of file, or a damaged one"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (
            "grade forward handed-in",
            "expected assignment to be one of forward-backward, .*; did you mean 'forward-backward'",
        ),
        ("grade kalman nowhere", "expected a folder of submissions, got nowhere; check the name"),
        ("grade kalman empty", "expected submissions such as NAME.ipynb or NAME/FILE.ipynb in empty, got none"),
        ("grade kalman twice", "expected one submission of ada, got Ada.py and ada.ipynb; keep one of them"),
        ("grade kalman handed-in --out grades.txt", "expected a file that ends in .csv, got grades.txt"),
        ("grade kalman handed-in --seconds 0", "expected --seconds above 0 and --memory of at least 0.5, got 0 and 3"),
        (
            "course --out handed-in",
            "expected a new or an empty folder, got handed-in; choose another one, or add --overwrite",
        ),
        ("course --out new kalmann", "did you mean 'kalman'"),
    ],
)
def test_what_the_lecturer_gets_wrong_is_one_sentence(
    command: str, says: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("empty").mkdir()
    Path("twice").mkdir()
    for name in ("Ada.py", "ada.ipynb"):
        (Path("twice") / name).touch()
    assert call(monkeypatch, *command.split()) == 2
    error = capsys.readouterr().err
    assert __import__("re").search(says, error), error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_points_that_are_none_and_tables_of_something_else_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("other.csv").write_text("a,b\n1,2\n")
    assert call(monkeypatch, *["grade", "forward-backward", "handed-in", "--out", "other.csv"]) == 2
    assert "expected the columns of the assignment forward-backward in other.csv, got others" in capsys.readouterr().err
    for name in ("bob", "carol.py", "=dan.ipynb"):
        (folder / name).rename(folder.parent / f"away-{name.strip('=')}")
    assert call(monkeypatch, *["grade", "forward-backward", "handed-in", "--out", "grades.csv"]) == 0
    Path("grades.csv").write_text(
        Path("grades.csv").read_text().replace(",68,,,80,20,20,20,8,,,", ",68,,,80,20,20,20,8,7,,")
    )
    assert call(monkeypatch, *["grade", "forward-backward", "handed-in", "--out", "grades.csv"]) == 2
    says = "expected a number from 0 to 6 in the column 'second-order (of 6)' of Ada Lovelace, got '7'; correct it"
    assert says in capsys.readouterr().err


def test_cells_are_named_by_the_heading_above_them() -> None:
    text = "# %%\nx = 1\n\n# %% [markdown]\n# ## 1. Forward/backward\n#\n# Some #words.\n"
    text += "\n# %%\n# check: f\n\n# %%\ny = 2\n"
    again = "\n# %% [markdown]\n# Words.\n\n# %%\nz = 3\n\n# %% [markdown]\n# # 1. Forward/backward\n\n# %%\nw = 4\n"
    under = 'under "1. Forward-backward"'  # an error of Python's would cut the name at a slash
    labels = ["cell 1 at the top", f"cell 2 {under}", f"cell 3 {under}", f"cell 4 {under}"]
    assert [cell.label for cell in submission_of((text + again).encode(), ".py").cells] == labels
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# " + "\x1b[31m" * 40 + "\n"]},
            {"cell_type": "code", "source": "x"},
        ]
    }
    (cell,) = submission_of(json.dumps(notebook).encode(), ".ipynb").cells
    assert cell.label.isprintable()
    assert len(cell.label) < 80


def test_what_is_no_submission_is_read_without_harm(tmp_path: Path) -> None:
    notebook = {"cells": [{"cell_type": "code", "source": ["# part: f\n", "%matplotlib inline\n", "x = 1"]}]}
    (cell,) = submission_of(json.dumps(notebook).encode(), ".ipynb").cells
    assert (cell.part, cell.code.splitlines()[1:]) == ("f", ["pass", "x = 1"])
    for content in (
        b"",
        b"[]",
        b"{}",
        b'{"cells": 3}',
        b'{"cells": [3]}',
        b"\xff\xfe",
        b"[" * 90_000,
        b'{"cells": [{}]}',
    ):
        with pytest.raises(ValueError, match="expected a notebook, got another kind of file, or a damaged one"):
            submission_of(content, ".ipynb")
    with pytest.raises(ValueError, match=r"expected a .ipynb or .py file, got .zip"):
        submission_of(b"", ".zip")
    with pytest.raises(ValueError, match="expected at most 300 cells, got 301"):
        submission_of(b"# %%\nx\n" * 301, ".py")
    large = tmp_path / "large.py"
    with large.open("wb") as file:
        file.truncate(5_000_001)
    with pytest.raises(ValueError, match="expected a file of at most 5,000,000 bytes"):
        read_submission(large)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes and links")
def test_links_and_pipes_are_no_submissions(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "link.py").symlink_to(Path(__file__))
    for found in find_submissions(tmp_path, "kalman"):
        with pytest.raises(ValueError, match="expected a file of at most"):
            read_submission(found.path)


def test_a_table_of_grades_holds_no_formulas() -> None:
    assert [harmless(text) for text in ("=1+1", "+1", "-1", "@x", "Ada", "")] == [
        "'=1+1",
        "'+1",
        "'-1",
        "'@x",
        "Ada",
        "",
    ]
