"""Files and data in memory as tables: how they are written is found out, and damage is one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pgm_rnn.data import DataError, memory
from pgm_rnn.data.frame import Frame
from pgm_rnn.data.frames import read_frame

NAN = float("nan")


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells(frame: Frame) -> dict[str, list[Any]]:
    """The numbers, or the words, of each column."""
    found = {}
    for name in frame.table.columns:
        values, words = frame.cells(name)[:2]
        found[name] = values.tolist() if words is None else [None if v != v else words[int(v)] for v in values]
    return found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2.5\n3,4\n", {"a": [1, 3], "b": [2.5, 4]}),
        ("a\tb\r\n1\t2.5\r\n3\t4\r\n", {"a": [1, 3], "b": [2.5, 4]}),
        ("a|b\n1|2.5\n3|4\n", {"a": [1, 3], "b": [2.5, 4]}),
        ("a;b\n1;2,5\n3;4\n", {"a": [1, 3], "b": [2.5, 4]}),
        ("a;b\n1;2.5\n3;4\n", {"a": [1, 3], "b": [2.5, 4]}),
        ("1,5;2,5\n3,5;4,5\n", {"1": [1.5, 3.5], "2": [2.5, 4.5]}),
        ("2.5\n3.5\n", {"1": [2.5, 3.5]}),
        ("2015-01-01,2.5\n2015-01-02,3.5\n", {"1": ["2015-01-01", "2015-01-02"], "2": [2.5, 3.5]}),
        ('"a, b",c\n"x, ""y""",1.5\n"two\nlines",2\n', {"a, b": ['x, "y"', "two\nlines"], "c": [1.5, 2]}),
        ("a, b\n x , 1.5\ny,2\n", {"a": ["x", "y"], "b": [1.5, 2]}),
        ("a,b,\n1,2.5,\n3,4,\n", {"a": [1, 3], "b": [2.5, 4]}),
        ("a,b\n1,2.5\n\n3,4\n\n", {"a": [1, 3], "b": [2.5, 4]}),
        ("1 2.5\n3 4\n", {"1": [1, 3], "2": [2.5, 4]}),
        ("  a   b\n  1   2.5  \n\n 13\t NA\n", {"a": [1, 13], "b": [2.5, NAN]}),
        ("1,5 2,5\n3,5 4,5\n", {"1": [1.5, 3.5], "2": [2.5, 4.5]}),
        ("day wind speed\n1 'NW' 2.5\n2 'N' 3\n", {"day": [1, 2], "wind": ["'NW'", "'N'"], "speed": [2.5, 3]}),
        ("at\n2015-01-01 12:00\n2015-01-02 12:00\n", {"at": ["2015-01-01 12:00", "2015-01-02 12:00"]}),
        ("water level\n2.5\n3.5\n", {"water level": [2.5, 3.5]}),
    ],
    ids=[
        "commas",
        "tabs",
        "bars",
        "semicolons",
        "points",
        "bare-commas",
        "bare",
        "dates",
        "quotes",
        "blanks",
        "trailing",
        "empty-lines",
        "between-blanks",
        "aligned",
        "blanks-and-commas",
        "words-between-blanks",
        "dates-with-hours",
        "a-name-with-a-blank",
    ],
)
def test_a_table_is_read_as_it_is_written(content: str, expected: dict[str, list[Any]], tmp_path: Path) -> None:
    found = cells(read_frame(written(tmp_path, content)))
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        assert np.array_equal(found[name], column, equal_nan=not isinstance(column[0], str)), name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_letters_survive_their_encoding(encoding: str, tmp_path: Path) -> None:
    frame = read_frame(written(tmp_path, "Größe,Ort\n1.5,Köln\n2.5,Rom\n".encode(encoding)))
    assert cells(frame) == {"Größe": [1.5, 2.5], "Ort": ["Köln", "Rom"]}


def test_a_letter_far_down_the_file_may_show_the_encoding(tmp_path: Path) -> None:
    content = "Ort,x\n" + "Rom,1.5\n" * 20_000 + "Köln,2.5\n"
    assert cells(read_frame(written(tmp_path, content.encode("cp1252"))))["Ort"][-1] == "Köln"


@pytest.mark.parametrize("cell", ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "?", "-", " NA ", "#N/A"])
def test_cells_that_hold_nothing_are_missing_among_numbers_and_words(cell: str, tmp_path: Path) -> None:
    frame = read_frame(written(tmp_path, f"number,word\n1.5,rain\n{cell},{cell}\n2.5,sun\n"))
    numbers, words = cells(frame)["number"], cells(frame)["word"]
    assert numbers[0] == 1.5
    assert np.isnan(numbers[1])
    assert words == ["rain", None, "sun"]


def test_missing_words_in_a_dataframe_are_missing_too() -> None:
    frame = read_frame(
        pd.DataFrame({"word": ["rain", "NA", None], "number": ["1.5", " 2 ", "-"], "wet": [True, None, False]})
    )
    found = cells(frame)
    assert found["word"] == ["rain", None, None]
    assert np.array_equal(found["number"], [1.5, 2, NAN], equal_nan=True)
    assert np.array_equal(found["wet"], [1, NAN, 0], equal_nan=True)


def test_a_row_is_named_by_the_line_in_which_it_begins(tmp_path: Path) -> None:
    frame = read_frame(written(tmp_path, 'a,b\n1,"two\nlines"\n\n3,x\n'))
    assert [frame.place(row) for row in range(2)] == ["line 2", "line 5"]
    assert read_frame(written(tmp_path, "1.5\n\n2.5\n", "bare.csv")).place(2) == "line 3"
    assert read_frame(pd.DataFrame({"a": [1.5, 2]})).place(1) == "row 1"
    assert read_frame([np.zeros(3), np.zeros(2)]).place(4) == "step 2 of sequence 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a table in .*table.csv, got an empty file"),
        ("a,b\n", "expected rows of data in table.csv, got none"),
        ("a,b\n1,2\n3\n", "expected 2 cells in every line of table.csv, got 1 in line 3; separate them by ','"),
        ("a,b\n1,2\n3,4,5\n", "expected 2 cells in every line of table.csv, got 3 in line 3"),
        ("1 2\n3 4\n" * 30 + "5\n", "expected 2 cells in every line of table.csv, got 1 in line 61; .* by blanks"),
        ("a,a\n1,2\n", "expected columns with different names in .*, got 'a' twice; rename one of them"),
        ("0,1\n2,3\n", "expected column names or numbers in line 1"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_frame(written(tmp_path, content))


def test_a_short_and_a_long_line_do_not_make_up_for_each_other(tmp_path: Path) -> None:
    lines = ["a,b", *["1.5,2.5"] * 60, "3.5", *["1.5,2.5"] * 60, "4.5,5.5,6.5"]
    with pytest.raises(DataError, match=r"expected 2 cells in every line of table\.csv, got 1 in line 62"):
        read_frame(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("A7", ["01", "A7"]), ("true", ["01", "true"]), ("9999999999999999999999", [1, 1e22])],
    ids=["words", "truth", "numbers"],
)
def test_a_column_that_changes_far_down_is_read_as_one(cell: str, expected: list[Any], tmp_path: Path) -> None:
    """pandas reads large files part by part, and would make 1 of 01 in the first part only."""
    rows = 400_000
    frame = read_frame(written(tmp_path, "a,b\n" + "01,1.25\n" * rows + f"{cell},2.5\n" * 2))
    found = cells(frame)["a"]
    assert [found[0], found[rows - 1], found[rows]] == [expected[0], *expected]


def test_pandas_is_asked_for_nothing_that_keeps_it_from_reading_in_parallel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = pd.read_csv, dict[str, Any]()

    def noted(path: Path, **options: Any) -> pd.DataFrame:
        asked.update(options)
        return read(path, **options)

    monkeypatch.setattr(pd, "read_csv", noted)
    read_frame(written(tmp_path, "id,day,a\nx y,2020-01-01 00:00,1.5\nz,2020-01-01 00:00,2.5\n"))
    assert asked["usecols"] is None
    assert asked.get("low_memory", True)
    assert not asked["skipinitialspace"]
    assert cells(read_frame(written(tmp_path, 'a, b\n1.5, "x"\n2, z\n')))["b"] == ["x", "z"]
    assert asked["skipinitialspace"]


def test_other_sources_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a table in UTF-8, got bytes that are not text"):
        read_frame(written(tmp_path, b"a,b\n\x81\x8d,1.5\n"))
    with pytest.raises(DataError, match="expected real numbers in column '1' of the array, got complex ones"):
        read_frame(np.array([1j])).cells("1")
    with pytest.raises(DataError, match=r"expected a file, got .*none\.csv, which does not exist or is a folder"):
        read_frame(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"expected a file that ends in \.csv, .*, got .*table\.xls"):
        read_frame(written(tmp_path, "", "table.xls"))
    with pytest.raises(TypeError, match=r"expected a path, a DataFrame, an array, .* as source, got dict"):
        read_frame({"a": [1]})
    with pytest.raises(DataError, match=r"expected an array \(T,\), .*, got shape \(0,\)"):
        read_frame(np.zeros(0))
    with pytest.raises(
        DataError, match=r"expected sequences \(T_i, M\) with the same M .*, got shapes \(2, 3\), \(2, 1\)"
    ):
        read_frame([np.zeros((2, 3)), np.zeros(2)])


def test_a_file_larger_than_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "a\n1.5\n2.5\n")
    size = path.stat().st_size
    monkeypatch.setattr(memory, "memory", lambda: memory.NEEDED * size - 1.0)
    with pytest.raises(DataError, match=r"expected a table that fits in memory, got .*GB are free; split the file by"):
        read_frame(path)
    monkeypatch.setattr(memory, "memory", lambda: float(memory.NEEDED * size))
    assert cells(read_frame(path)) == {"a": [1.5, 2.5]}


def test_free_memory_is_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MEMORY", written(tmp_path, "MemTotal: 9 kB\nMemAvailable:     3 kB\n", "meminfo"))
    assert memory.memory() == 3 * 1024
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "none")
    assert memory.memory() > 2**20


def test_arrays_become_the_rows_of_their_sequences(tmp_path: Path) -> None:
    x = np.arange(12.0).reshape(2, 3, 2)
    for source in (x, torch.from_numpy(x), list(x), x.tolist()):
        frame = read_frame(source)
        assert np.array_equal(frame.table.to_numpy(), x.reshape(6, 2))
        assert frame.lengths is not None
        assert frame.lengths.tolist() == [3, 3]
    np.savez(tmp_path / "x.npz", x=x, lengths=np.array([3, 1]), inputs=x[..., :1])
    frame = read_frame(tmp_path / "x.npz")
    assert frame.table["1"].tolist() == [0, 2, 4, 6]
    assert frame.inputs is not None
    assert frame.inputs.tolist() == [[0], [2], [4], [6]]
    np.savez(tmp_path / "y.npz", x=x, inputs=x[:, :2])
    with pytest.raises(DataError, match=r"expected inputs \(batch, T, input_dim\) = \(2, 3, \.\.\.\)"):
        read_frame(tmp_path / "y.npz")


def test_an_index_that_says_something_becomes_columns() -> None:
    dates = pd.date_range("2015-01-01", periods=2)
    assert list(read_frame(pd.DataFrame({"a": [1.5, 2]}, index=dates)).table.columns) == ["time", "a"]
    pairs = pd.MultiIndex.from_tuples([("x", 1), ("x", 2)], names=["id", None])
    assert list(read_frame(pd.DataFrame({"a": [1.5, 2]}, index=pairs)).table.columns) == ["id", "level 2", "a"]
    assert list(read_frame(pd.DataFrame({"a": [1.5, 2]}, index=[7, 3])).table.columns) == ["a"]
    assert list(read_frame(pd.Series([1.5, 2], name="flow")).table.columns) == ["flow"]


def test_parquet_files_are_read_where_pyarrow_is_installed(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    try:
        pd.DataFrame({"a": [1.5, 2.5], "b": ["x", None]}).to_parquet(path)
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'pgm-rnn\[parquet\]'"):
            read_frame(path)
    else:
        assert cells(read_frame(path)) == {"a": [1.5, 2.5], "b": ["x", None]}
