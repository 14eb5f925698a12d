"""The first row of a .csv is names or numbers, and where it may be either the file is refused."""

from pathlib import Path

import pytest

from pgm_rnn.data import DataError
from tests.data.as_series import read_series

REALS = "0.5,1.25\n-0.5,2.5\n0.125,-1.5\n"
WHOLE = "3,1\n0,2\n5,1\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "series.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "columns", "num_notes"),
    [
        (",0,1\n0,0.5,1.25\n1,-0.5,2.5\n2,0.125,-1.5\n", ("0", "1"), 2),
        (",0,1\n0,7,8\n1,9,7\n2,6,8\n", ("0", "1"), 2),
        (f"0,1\n{REALS}", ("0", "1"), 1),
        (f"2019,2020\n{REALS}", ("2019", "2020"), 1),
        (f"2020,2019\n{REALS}", ("2020", "2019"), 1),
        ("0,1,2,3,4\n7,8,8,7,6\n5,6,7,7,9\n", ("0", "1", "2", "3", "4"), 1),
        (f"Na,K\n{REALS}", ("Na", "K"), 0),
    ],
    ids=["pandas", "pandas-whole", "counted", "years", "years-back", "many", "elements"],
)
def test_names_of_numbers_are_no_observation(
    text: str, columns: tuple[str, ...], num_notes: int, tmp_path: Path
) -> None:
    found = read_series(written(tmp_path, text))
    assert found.columns == columns
    rows = [[float(cell) for cell in line.split(",")[-len(columns) :]] for line in text.split()[1:]]
    assert found.x[0].tolist() == rows
    assert bool(found.notes) == bool(num_notes)
    if num_notes:
        assert any("is read as the names of the columns" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "num_rows"),
    [
        (REALS, 3),
        (f"0.0,1.0\n{REALS}", 4),
        (f"5,6\n{REALS}", 4),
        (f"1800,2500\n{REALS}", 4),
        (f"NaN,0.5\n{REALS}", 4),
        (f"NaN,1\nNaN,3\n{REALS}", 5),
        ("0,1\n", 1),
        ("0\n1\n1\n0\n", 4),
        (WHOLE, 3),
    ],
)
def test_numbers_are_observations(text: str, num_rows: int, tmp_path: Path) -> None:
    found = read_series(written(tmp_path, text))
    assert found.columns == ("1", "2")[: found.x.shape[-1]]
    assert (found.x.shape[1], found.notes) == (num_rows, ())


@pytest.mark.parametrize(
    "text",
    [
        f"NaN,1\n{REALS}",
        "Na\n0.5\n1.5\n2\n",
        "nan\n0.5\n1.5\n2\n",
        "inf\n0.5\n1.5\n2\n",
        "0\n0.5\n1.5\n2.5\n",
        f"0,1\n{WHOLE}",
        f"2019,2020\n{WHOLE}",
        "0,1\n1,0.5\n2,0.7\n3,0.1\n",
        ",0,1\n5,0.5,1.25\n9,-0.5,2.5\n",
    ],
    ids=["NaN", "Na", "nan", "inf", "lone", "bits", "years", "clock", "index"],
)
def test_a_first_row_that_may_be_either_is_a_question(text: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected column names or numbers in line 1 of .* put a line of names in letters"
    ):
        read_series(written(tmp_path, text))
    first, rest = text.split("\n", 1)
    names = ",".join("abc"[: first.count(",") + 1])
    for answer in (f"{names}\n{text}", f"{names}\n{rest}"):  # the way out, either way
        if "inf" not in answer:
            chosen = names.split(",")
            assert read_series(written(tmp_path, answer), chosen).x.shape[1] == answer.count("\n") - 1


def test_a_name_twice_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    path = written(tmp_path, "year,x,x\n1900,1.5,2\n1901,2.5,1\n")
    for columns in ((), ("x",)):
        with pytest.raises(DataError, match=r"expected columns with different names in .*, got 'x' twice; rename"):
            read_series(path, columns)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("x,y,\n1,2,\n3,1,\n", ("x", "y")),
        ("1,2,,\n3,1,,\n", ("1", "2")),
        ("x,y,z\n1,2,\n3,1,4\n", ("x", "y", "z")),
    ],
)
def test_commas_at_the_ends_of_all_lines_make_no_column(text: str, columns: tuple[str, ...], tmp_path: Path) -> None:
    assert read_series(written(tmp_path, text)).columns == columns
