"""A column that only counts time is never data without a word."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pgm_rnn.data import DataError
from pgm_rnn.data.clock import is_name_of_time
from tests.data.as_series import read_series

VOLUMES = [1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140]


def written(folder: Path, *columns: Sequence[float], header: str = "") -> Path:
    path = folder / "nile.csv"
    lines = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([header, *lines] if header else lines))
    return path


@pytest.mark.parametrize(
    ("header", "clock"),
    [
        ("year,volume", range(1871, 1881)),
        ("year,volume", [1871, 1871, 1871, 1872, 1872, 1872, 1873, 1873, 1874, 1874]),
        ("Time (s),volume", [0.0, 0.1, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.9]),
        ("sampleTime,volume", [0.0, 0.1, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.9]),
        ("week_of_trial,volume", range(10)),
        (",volume", range(10)),
        ("Unnamed: 0,volume", range(10)),
        ("machine,volume", range(10, 110, 10)),
        ("", range(1871, 1881)),
        ("", [0.1 * k for k in range(10)]),
        ("", [round(1960 + k / 12, 2) for k in range(10)]),
        ("jan,volume", [round(1960 + k / 12, 3) for k in range(10)]),
        ("", [round(2451545 + 7 * k / 24, 4) for k in range(10)]),
    ],
)
def test_a_first_column_that_only_counts_time_is_left_out_with_a_note(
    header: str, clock: Sequence[float], tmp_path: Path
) -> None:
    path = written(tmp_path, clock, VOLUMES, header=header)
    found = read_series(path)
    name = header.split(",")[0] if header else "1"
    assert found.columns == ("volume" if header else "2",)
    assert found.x[0, :, 0].tolist() == VOLUMES
    if name and found.time != name:
        note = f"column {name!r} only counts time and is left out; name it as time=... or in columns=[...] to use it"
        assert found.notes == (note,)
    if name:
        both = read_series(path, [name, found.columns[0]])  # who asks for it gets it
        assert both.x[0, :, 0].tolist() == pytest.approx(list(clock))
        assert both.notes == ()


def test_row_numbers_before_the_years_are_left_out_too(tmp_path: Path) -> None:
    for header in ("rownames,time,value", ""):
        found = read_series(written(tmp_path, range(1, 11), range(1871, 1881), VOLUMES, header=header))
        assert found.x[0].squeeze().tolist() == VOLUMES
        assert len(found.notes) + (found.time is not None) == 2
    found = read_series(written(tmp_path, VOLUMES, range(1871, 1881), header="value,year"))
    assert (found.columns, found.time) == (("value",), None if found.notes else "year")


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("flow,rain", (VOLUMES, VOLUMES[::-1])),
        ("", (VOLUMES, VOLUMES[::-1])),
        ("flow,counted", (VOLUMES, range(10))),
        ("flow,rain", ([7] * 10, VOLUMES)),
        ("T,rain", ([1.0, 2.5, *range(11, 3, -1)], VOLUMES)),
        ("no2,rain", ([1.0, 2.5, *range(11, 3, -1)], VOLUMES)),
        ("", ([1.0, 2.5, 2.6, 2.7], VOLUMES[:4])),
        ("level,rain", ([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.4, 0.4, 0.5], VOLUMES)),
        ("rain,level", (VOLUMES, [round(1960 + k / 12, 2) for k in range(10)])),
        ("flow", (range(10),)),
        ("", (range(10),)),
        ("flow,rain", ([0, 1], [3, 1])),
    ],
)
def test_other_columns_are_data(header: str, columns: tuple[Sequence[float], ...], tmp_path: Path) -> None:
    found = read_series(written(tmp_path, *columns, header=header))
    assert found.x[0].T.tolist() == [list(column) for column in columns]
    assert not [note for note in found.notes if "in every row" not in note]


@pytest.mark.parametrize(
    "cases",
    [
        [1, 2, 4, 5, 9, 13, 20, 22, 31, 50],
        [
            2451549.4119,
            2451549.7975,
            2451553.5096,
            2451560.1,
            2451561.2,
            2451570.0,
            2451571.5,
            2451580.9,
            2451590,
            2451599,
        ],
        [9.5, 8.5, 8.25, 7.0, 6.5, 6.0, 4.0, 3.5, 2.0, 1.0],
    ],
)
def test_a_column_that_may_be_either_is_a_question(cases: list[float], tmp_path: Path) -> None:
    path = written(tmp_path, cases, VOLUMES, header="cases,volume")
    with pytest.raises(
        DataError, match=r"time or data in column 'cases' of .*, got .* either; .* choose columns by columns"
    ):
        read_series(path)
    assert read_series(path, ["cases", "volume"]).x[0, :, 0].tolist() == cases
    assert read_series(path, ["volume"]).columns == ("volume",)
    with pytest.raises(DataError, match="expected time or data in column '1' of"):
        read_series(written(tmp_path, cases, VOLUMES))


def test_the_name_says_that_a_single_number_is_a_time(tmp_path: Path) -> None:
    found = read_series(written(tmp_path, [1900], [2.5], header="year,x"))
    assert (found.columns, found.time) == (("x",), "year")
    assert read_series(written(tmp_path, [1900], [2.5], header="y,x")).columns == ("y", "x")


def test_a_name_of_time_with_numbers_that_go_up_and_down_is_data_with_a_note(tmp_path: Path) -> None:
    found = read_series(written(tmp_path, [10, 11, 12, 1, 2, 3, 4, 5, 6, 7], VOLUMES, header="month,volume"))
    assert found.columns == ("month", "volume")
    assert found.notes == (
        "column 'month' is read as data although its name suggests time; if it is not, leave it out by columns=[...]",
    )


def test_a_file_of_times_alone_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, range(10), range(1871, 1881), header="t,year")
    with pytest.raises(DataError, match=r"expected at least one column of data in .*, got"):
        read_series(path)
    assert read_series(path, ["year"]).x.shape == (1, 10, 1)


def test_missing_cells_are_no_reason_to_take_years_for_data(tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    path.write_text("year,volume\n1871,1120\n,\n1873,963\n1874,\n")
    found = read_series(path)
    assert found.columns == ("volume",)
    assert found.x.shape == (1, 4, 1)


@pytest.mark.parametrize("start", [0, 1871])
def test_arrays_lose_their_clocks_too(start: int, tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(3, 10, 2))
    clock = np.broadcast_to(np.arange(start, start + 10)[:, None], (3, 10, 1))
    np.save(tmp_path / "a.npy", np.concatenate([clock, data], -1).astype(np.float32))
    np.savez(tmp_path / "a.npz", x=np.concatenate([clock, data], -1), lengths=[10, 4, 1])
    for name in ("a.npy", "a.npz"):
        found = read_series(tmp_path / name)
        assert (found.columns, len(found.notes)) == (("2", "3"), 1)
    other = np.concatenate([clock * np.array([1, 1, 2])[:, None, None], data], -1)  # not one clock for all
    np.save(tmp_path / "b.npy", other)
    with pytest.raises(DataError, match="expected time or data in column '1'"):
        read_series(tmp_path / "b.npy")


@pytest.mark.parametrize("name", ["year", "DATE", "Time [ms]", "t", "ds", "", "index", "obs", "startTime", "row_names"])
def test_names_of_time(name: str) -> None:
    assert is_name_of_time(name)


@pytest.mark.parametrize("name", ["T", "temp", "no2", "yearling", "price", "x", "t2", "rowing", "flow per day"])
def test_names_of_other_things(name: str) -> None:
    assert not is_name_of_time(name)
