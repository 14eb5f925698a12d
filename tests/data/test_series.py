"""Files of numbers: what is read, and what is refused in one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgm_rnn.data import DataError
from tests.data.as_series import read_series

NAN = float("nan")


def written(folder: Path, content: str | bytes | Any, name: str = "series.csv") -> Path:
    path = folder / name
    if isinstance(content, str | bytes):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    return path


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("1\n2\n3\n", ("1",), [[1], [2], [3]]),
        ("flow\n1\n2\n", ("flow",), [[1], [2]]),
        ("flow,rain\r\n1, 2.5\r\n-3e2,4\r\n", ("flow", "rain"), [[1, 2.5], [-300, 4]]),
        ("1,2\n,nan\nNA,4\n", ("1", "2"), [[1, 2], [NAN, NAN], [NAN, 4]]),
        ("x\n1\n\n3\n\n\n", ("x",), [[1], [NAN], [3]]),
        ('\ufeff"flow, upper"\n7', ("flow, upper",), [[7]]),
    ],
    ids=["bare", "header", "two", "missing", "empty-lines", "quoted-with-a-mark"],
)
def test_a_csv_is_one_series_with_a_column_a_variable(
    text: str, columns: tuple[str, ...], rows: list[list[float]], tmp_path: Path
) -> None:
    found = read_series(written(tmp_path, text))
    assert found.columns == columns
    torch.testing.assert_close(found.x, torch.tensor([rows], dtype=torch.float64), rtol=0, atol=0, equal_nan=True)


def test_columns_are_taken_by_name_in_the_order_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "date,flow,rain\n2001-01-01,1,2\n2001-01-02,3,4\n")
    found = read_series(path, ["rain", "flow"])
    assert found.columns == ("rain", "flow")
    assert found.x.tolist() == [[[2, 1], [4, 3]]]
    with pytest.raises(ValueError, match="expected columns to be one of date, flow, rain, got 'flwo'; did you mean"):
        read_series(path, ["flwo"])


def test_columns_without_names_have_numbers(tmp_path: Path) -> None:
    assert read_series(written(tmp_path, "1,2\n3,4\n"), ["2"]).x.tolist() == [[[2], [4]]]
    array = written(tmp_path, np.arange(12).reshape(2, 3, 2), "a.npy")
    assert read_series(array, ["2"]).x.tolist() == [[[1], [3], [5]], [[7], [9], [11]]]


@pytest.mark.parametrize(
    ("shape", "expected"), [((5,), (1, 5, 1)), ((5, 2), (1, 5, 2)), ((3, 5, 2), (3, 5, 2)), ((1, 1, 1), (1, 1, 1))]
)
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.bool_])
def test_an_array_may_leave_out_axes(
    shape: tuple[int, ...], expected: tuple[int, ...], dtype: Any, tmp_path: Path
) -> None:
    array = np.ones(shape, dtype=dtype)
    for content, name in ((array, "a.npy"), ({"x": array}, "a.npz"), ({"flow": array}, "b.npz")):
        found = read_series(written(tmp_path, content, name))
        assert found.x.shape == expected
        assert found.x.dtype == torch.float64
        assert bool((found.x == 1).all())


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("a,b\n1,2\n3,x\n", "s.csv", "expected numbers in column 'b' of kind real, got 'x' in line 3"),
        ("1,2\n3\n", "s.csv", r"expected 2 cells in every line of .*, got 1 in line 2"),
        ("a,b\n", "s.csv", "expected rows of data in s.csv, got none"),
        ("", "s.csv", "expected a table in .*, got an empty file"),
        ("x\nNA\n", "s.csv", "expected values in column 'x' of s.csv, got only empty cells"),
        ("1\n-inf\n", "s.csv", "expected finite numbers in column '1', got infinity in line 2; leave the cell empty"),
        ("1", "s.dat", r"expected a file that ends in \.csv, \.tsv, \.txt, \.parquet, \.npz, \.npy, got"),
        ("hello", "s.npy", "array of numbers in .*, got another kind of file, a damaged file or objects"),
        ("", "s.npy", "array of numbers in .*, got another kind of file, a damaged file or objects"),
        ("PK\x03\x04", "s.npz", "array of numbers in .*, got another kind of file, a damaged file or objects"),
        (np.array([1, None]), "s.npy", "array of numbers in .*, got another kind of file, a damaged file or objects"),
        (np.array(["a"]), "s.npy", "expected an array of numbers in .*, got <U1"),
        (np.ones(2) * 1j, "s.npy", "expected an array of numbers in .*, got complex128"),
        (np.ones(()), "s.npy", r"expected an array \(T,\), .* got shape \(\)"),
        (np.ones((1, 1, 1, 1)), "s.npy", r"expected an array \(T,\), .* got shape \(1, 1, 1, 1\)"),
        (np.ones((0, 2)), "s.npy", "expected .*, got"),
        ({"a": np.ones(2), "b": np.ones(2)}, "s.npz", "expected one array in .*, or one called x, got a, b; save"),
        ({}, "s.npz", "expected one array in .*, or one called x, got none"),
    ],
)
def test_anything_but_numbers_is_one_clear_error(content: Any, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_series(written(tmp_path, content, name))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "nile.csv", tmp_path):
        with pytest.raises(DataError, match=r"expected a file, got .*, which does not exist or is a folder"):
            read_series(path)
