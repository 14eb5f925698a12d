"""Sequences from tables: which rows belong together, in which order, and what their cells mean."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pgm_rnn as pr
from pgm_rnn.data import DataError
from pgm_rnn.data.reading import read_sequences
from pgm_rnn.data.roles import ReadingWarning, sorted_rows
from pgm_rnn.data.times import Axis
from pgm_rnn.legend import Column, Legend

LONG = """machine,day,temp,state
B,2020-01-02,1.5,on
A,2020-01-01,2.5,off
B,2020-01-01,NA,off
A,2020-01-03,-1,on
A,2020-01-02,3.5,on
"""


def table(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "long.csv").write_text(LONG)
    return tmp_path


def legend_of(data: pr.Sequences) -> Legend:
    assert data.legend is not None
    return data.legend


def test_a_long_table_becomes_its_sequences_in_order_of_time(folder: Path) -> None:
    data = pr.read_sequences(folder / "long.csv", sequence="machine", time="day", units={"temp": "C"})
    nan = torch.nan
    expected = torch.tensor([[[nan, 0], [1.5, 1], [0, 0]], [[2.5, 0], [3.5, 1], [-1, 1]]])
    torch.testing.assert_close(data.x, expected, rtol=0, atol=0, equal_nan=True)
    assert data.lengths.tolist() == [2, 3]
    assert data.mask.tolist() == [[[False, True], [True, True], [False, False]], [[True, True]] * 3]
    legend = legend_of(data)
    assert legend.columns == (Column("temp", "real", "C"), Column("state", "symbol", words=("off", "on")))
    assert (legend.sequence, legend.ids, legend.time) == ("machine", ("B", "A"), "day")
    assert [str(time) for time in legend.times[0]] == ["2020-01-01", "2020-01-02"]
    assert [rows.tolist() for rows in legend.rows] == [[2, 0], [1, 4, 3]]


@given(st.permutations(range(5)))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    frame = table(LONG)
    whole = read_sequences(frame, "machine", "day")
    mixed = read_sequences(frame.iloc[order], "machine", "day")
    places = [legend_of(mixed).ids.index(name) for name in legend_of(whole).ids]
    torch.testing.assert_close(mixed.select(torch.tensor(places)).x, whole.x, equal_nan=True)


@pytest.mark.filterwarnings("ignore:the rows are not evenly spaced")
@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["3", "1", "2"], [1, 2, 3]),
        (["week 10", "week 9", "week 1"], ["week 1", "week 9", "week 10"]),
        (["01.03.2020", "15.01.2020", "01.02.2020"], ["2020-01-15", "2020-02-01", "2020-03-01"]),
        (["13/02/2020", "01/02/2020", "02/03/2020"], ["2020-02-01", "2020-02-13", "2020-03-02"]),
        (["2020Q3", "2020Q1", "2020Q2"], ["2020-01-01", "2020-04-01", "2020-07-01"]),
        (["Mar 2020", "Jan 2020", "Feb 2020"], ["2020-01-01", "2020-02-01", "2020-03-01"]),
        (
            ["2020-01-01T12:00", "2020-01-01T11:00", "2020-01-01T10:00"],
            [f"2020-01-01T{h}:00:00.000000" for h in (10, 11, 12)],
        ),
        (["2020-01-01T12:00Z", "2020-01-01T14:00+03:00"], [f"2020-01-01T{h}:00:00.000000" for h in (11, 12)]),
    ],
    ids=["numbers", "words", "points", "day-first", "quarters", "months", "hours", "zones"],
)
def test_times_are_sorted_as_what_they_are(cells: list[str], expected: list[Any]) -> None:
    data = read_sequences(pd.DataFrame({"when": cells, "x": np.arange(len(cells)) + 0.5}), time="when", columns="x")
    [times] = legend_of(data).times
    assert [str(time) for time in times] == [str(time) for time in expected]


def test_dates_whose_day_and_month_may_be_exchanged_are_an_error() -> None:
    with pytest.raises(DataError, match=r"unambiguous dates in column 'when', got '01/02/2020'"):
        read_sequences(pd.DataFrame({"when": ["01/02/2020", "03/02/2020"], "x": [0.5, 1]}), time="when")


def test_a_column_of_dates_is_the_time_by_itself() -> None:
    data = read_sequences(table("day,year,x\n2020-01-02,7,1.5\n2020-01-01,8,2.5\n2020-01-03,9,0.5\n"), columns="x")
    assert legend_of(data).time == "day"
    assert data.x[0, :, 0].tolist() == [2.5, 1.5, 0.5]
    with pytest.warns(ReadingWarning, match="column 'step' only counts time and is left out; name it as time"):
        assert read_sequences(table("day,step,x\n2020-01-01,1,1.5\n2020-01-02,2,0.5\n")).x.shape == (1, 2, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "day,x\n2020-01-01,1\n2020-01-02,1.5\n2020-01-05,2\n2020-01-06,3\n",
            "2 steps are missing in column 'day', the first after 2020-01-02 .row 1.",
        ),
        (
            "day,x\n2020-01-31,1\n2020-02-29,1.5\n2020-04-30,2\n2020-05-31,2\n",
            "1 step is missing in column 'day', the first after 2020-02-29",
        ),
        ("t,x\n0.1,1\n0.2,1.5\n0.4,2\n0.5,2.5\n", "1 step is missing in column 't', the first after 0.2"),
    ],
    ids=["days", "months", "numbers"],
)
def test_gaps_in_a_regular_axis_are_named_and_no_rows_are_invented(text: str, message: str) -> None:
    frame = table(text)
    with pytest.warns(ReadingWarning, match=message):
        data = read_sequences(frame, time=frame.columns[0], kind="real")
    assert data.lengths.tolist() == [len(frame)]


def test_even_axes_are_read_without_a_word() -> None:
    hours = pd.date_range("2020-03-20", periods=400, freq="h", tz="Europe/Berlin")  # the clocks change once
    days = [
        pd.bdate_range("2020-01-01", periods=20),
        pd.date_range("2020-01-01", periods=20, freq="MS"),
        pd.date_range("2020-01-01", periods=20, freq="QS"),
        pd.date_range("2020-01-01", periods=20, freq="YS"),
        hours,
    ]
    for times in days:
        frame = pd.DataFrame({"day": times, "x": np.arange(len(times)) / 3})
        assert read_sequences(frame, time="day").lengths.tolist() == [len(times)]  # a warning would be an error here


@pytest.mark.parametrize(
    ("times", "apart"),
    [
        (np.cumsum(np.arange(20) ** 2 + 1), "2 to 362 apart"),
        (
            pd.to_datetime("2020-01-01") + pd.to_timedelta(np.cumsum(np.arange(20) % 4 + 1), "D"),
            "1 day to 4 days apart",
        ),
        (
            pd.to_datetime("2020-01-01") + pd.to_timedelta(np.cumsum(np.arange(20) % 4 * 20 + 1), "min"),
            "1 minute to 61 minutes apart",
        ),
    ],
    ids=["numbers", "days", "minutes"],
)
def test_an_uneven_axis_is_said_and_its_rows_are_steps(times: Any, apart: str) -> None:
    frame = pd.DataFrame({"day": times, "x": np.arange(20) / 3})
    with pytest.warns(ReadingWarning, match=rf"the rows are not evenly spaced in column 'day' \({apart}\)"):
        assert read_sequences(frame, time="day").lengths.tolist() == [20]


def test_a_long_table_without_ids_is_hinted_at(folder: Path) -> None:
    with pytest.warns(ReadingWarning) as found:
        data = read_sequences(folder / "long.csv")
    assert "'machine' looks like the ids of several sequences; if so, read them by sequence='machine'" in str(
        found[0].message
    )
    assert len(data.x) == 1
    with pytest.raises(DataError, match=r"got 2020-01-01 in line 3 and line 4; .* read them by sequence='machine'"):
        read_sequences(folder / "long.csv", time="day")
    blocks = pd.DataFrame({"machine": ["a"] * 4 + ["b"] * 4, "x": np.arange(8) / 3})
    with pytest.warns(ReadingWarning, match="read them by sequence='machine'"):
        read_sequences(blocks)
    back = pd.DataFrame({"state": ["a"] * 4 + ["b"] * 4 + ["a"] * 4, "x": np.sin(np.arange(12))})
    read_sequences(back)  # words that come back are states, not ids: no warning


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["rain", "sun", "rain"], "symbol"),
        (["yes", "No", "yes"], "binary"),
        ([True, False, True], "binary"),
        ([0.5, 1, 2], "real"),
        (range(30), "real"),
        (pd.Categorical(["lo", "hi", "lo"]), "symbol"),
    ],
)
def test_kinds_are_what_the_cells_show(cells: Any, kind: str) -> None:
    frame = pd.DataFrame({"z": np.sin(np.arange(len(cells))), "a": cells})
    assert legend_of(read_sequences(frame, columns="a")).columns[0].kind == kind


def test_whole_numbers_of_few_values_must_be_given_a_kind() -> None:
    frame = pd.DataFrame({"goals": [0, 2, 1, 0], "x": [0.5, 1.5, 0.1, 2]})
    with pytest.raises(
        DataError, match=r"values such as 0, 1, 2; choose kind={'goals': 'count'} or kind={'goals': 'symbol'} or"
    ):
        read_sequences(frame)
    with pytest.raises(DataError, match=r"kind={'1': 'binary'}"):
        read_sequences(np.array([0, 1, 1]))
    with pytest.raises(DataError, match=r"choose kind={'1': 'symbol'} or kind={'1': 'real'}$"):
        read_sequences(np.array([-1, 1, 1]))
    data = read_sequences(frame, kind={"goals": "count"})
    assert [column.kind for column in legend_of(data).columns] == ["count", "real"]
    assert data.x.dtype == torch.float64


def test_a_single_column_has_the_shape_of_its_family() -> None:
    frame = pd.DataFrame({"a": [2, 0, None, 1]})
    for kind, dtype in (("count", torch.int64), ("symbol", torch.int64)):
        data = read_sequences(frame, kind=kind)
        assert (data.x.shape, data.x.dtype) == ((1, 4), dtype)
        assert data.x.tolist() == [[2, 0, 0, 1]]
        assert data.mask.tolist() == [[True, True, False, True]]
    assert read_sequences(frame, kind="real").x.shape == (1, 4, 1)
    assert read_sequences(frame.iloc[1::2], kind="binary").x.tolist() == [[0.0, 1.0]]
    torch.set_default_dtype(torch.float32)
    assert read_sequences(frame, kind="real").x.dtype == torch.float32
    with pytest.raises(DataError, match=r"expected numbers up to 3.4e\+38 in column 'a', got 1e\+100"):
        read_sequences(pd.DataFrame({"a": [0.5, 1e100]}))


def test_a_vocabulary_of_an_earlier_reading_numbers_the_words_alike() -> None:
    first = read_sequences(pd.DataFrame({"sky": ["sun", "rain", "snow", "sun"]}))
    words = legend_of(first).columns[0].words
    assert words == ("rain", "snow", "sun")
    again = read_sequences(pd.DataFrame({"sky": ["sun", "rain", "sun"]}), words={"sky": words})
    assert again.x.tolist() == [[2, 0, 2]]
    assert legend_of(again).columns == legend_of(first).columns
    with pytest.raises(DataError, match=r"vocabulary \(rain, snow, sun\) in column 'sky', got 'hail' in row 1"):
        read_sequences(pd.DataFrame({"sky": ["sun", "hail"]}), words=words)


def test_numbers_that_are_labels_keep_their_names_and_codes_of_arrays_their_values() -> None:
    data = read_sequences(pd.DataFrame({"code": [10, 2, 10]}), kind="symbol")
    assert (data.x.tolist(), legend_of(data).columns[0].words) == ([[1, 0, 1]], ("2", "10"))
    codes = read_sequences([np.array([3, 1]), np.array([1])], kind="symbol")
    assert (codes.x.tolist(), legend_of(codes).columns[0].words) == ([[3, 1], [1, 0]], ("0", "1", "2", "3"))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "a,b\n1.5,1.5\n2.5,x\n12a,y\n7,x\n",
            {},
            "numbers in column 'a' as in most of its cells, got '12a' in line 4; correct it",
        ),
        ("a\n1.5\nx\ny\n", {"kind": "real"}, "numbers in column 'a' of kind real, got 'x' in line 3"),
        ("a\n1\n-2\n", {"kind": "count"}, r"counts 0, 1, 2, \.\.\. in column 'a', got -2 in line 3"),
        ("a\n1\n2\n", {"kind": "binary"}, "0 or 1 in column 'a', got 2 in line 3"),
        ("a\n1\n2.5\n", {"kind": "symbol"}, "words or whole numbers in column 'a' of kind symbol, got 2.5 in line 3"),
        ("a\n1.5\ninf\n", {}, "finite numbers in column 'a', got infinity in line 3; leave the cell empty"),
        ("a\n1.5\n1e200\n", {}, r"numbers of size up to 1e\+150 in column 'a', got 1e\+200 in line 3"),
        ("a,b\n1.5,\n2.5,NA\n", {}, "values in column 'b' of table.csv, got only empty cells; leave it out"),
        (
            "i,t,a\nx,1,1.5\ny,1,2.5\nx,1,3.5\n",
            {"sequence": "i", "time": "t"},
            "one row per time in column 't' of sequence 'x', got 1 in line 2 and line 4",
        ),
        ("i,a\nx,1.5\ny,2.5\n", {"sequence": "i"}, "ids that repeat in column 'i', got 2 different ones in 2 rows"),
        ("i,a\nx,1.5\n,2.5\nx,1.5\n", {"sequence": "i"}, "an id in every row, got none in column 'i' in line 3"),
        ("t,a\n1,1.5\n,2.5\n", {"time": "t"}, "a time in every row, got none in column 't' in line 3"),
        (
            "t,a\n2020-01-30,1\n2020-02-30,2\n2020-03-30,2\n",
            {"time": "t"},
            "dates in column 't', got '2020-02-30' in line 3",
        ),
        ("a,u\n1.5,1\n2.5,\n", {"inputs": "u"}, "inputs at every step, got none in column 'u' in line 3"),
        (
            "machine,a\nx,1.5\n",
            {"sequence": "machin"},
            "sequence to be one of machine, a, got 'machin'; did you mean 'machine'",
        ),
        ("machine,a\nx,1.5\n", {"columns": ["b"]}, "columns to be one of machine, a, got 'b'"),
        ("a\n1.5\n", {"kind": {"b": "real"}}, "a column of kind to be one of a, got 'b'"),
        (
            "a\n1.5\n",
            {"kind": "reel"},
            "expected kind to be one of real, count, binary, symbol, got 'reel'; did you mean 'real'",
        ),
        ("a\n1.5\n", {"kind": "word"}, "expected kind 'word' only for a text, got a table"),
        ("a\n1.5\n", {"units": {"b": "m"}}, "a column of units to be one of a, got 'b'"),
        ("year\n2001\n2002\n", {}, "at least one column of data in table.csv, got none"),
        ("a\n" + "".join(f"w{i}\n" for i in range(30)), {}, "words that repeat in column 'a' of table.csv, got 30"),
    ],
)
def test_bad_input_is_one_sentence_that_names_place_and_remedy(
    text: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"expected {message.removeprefix('expected ')}") as found:
        read_sequences(path, **options)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("cells", [["1,234.5", "2,000.1"], ["5%", "6 %"], ["$3.20", "$4"]])
def test_numbers_in_another_way_of_writing_do_not_become_words(cells: list[str]) -> None:
    with pytest.raises(DataError, match=r"numbers written like 1234.5 in column 'a', got .* in row 0; write them"):
        read_sequences(pd.DataFrame({"a": cells}))


def test_times_with_a_zone_keep_the_clock_of_the_zone() -> None:
    hours = pd.date_range("2020-10-25", periods=5, freq="h", tz="Europe/Berlin")  # 02:00 comes twice
    [times] = legend_of(read_sequences(pd.DataFrame({"x": [0.5, 1, 2, 3, 4]}, index=hours[::-1]))).times
    assert [str(time)[11:13] for time in times] == ["00", "01", "02", "02", "03"]


def test_numbers_named_as_time_may_be_mixed_where_there_are_ids() -> None:
    frame = pd.DataFrame({"i": [*"aabb"], "time": [2, 1, 1, 2], "x": [0.5, 1.5, 2, 3]})
    data = read_sequences(frame, sequence="i")
    assert data.x[0, :, 0].tolist() == [1.5, 0.5]


def test_a_list_of_tables_is_a_batch() -> None:
    data = read_sequences([pd.DataFrame({"x": [0.5, 1.5]}), pd.DataFrame({"x": [2.5]})])
    assert (data.lengths.tolist(), legend_of(data).columns) == ([2, 1], (Column("x"),))
    with pytest.raises(DataError, match="expected tables with the columns x and at least one row"):
        read_sequences([pd.DataFrame({"x": [0.5, 1.5]}), pd.DataFrame({"y": [2.5]})])


def test_a_word_far_down_a_column_of_numbers_is_found(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a\n" + "".join(f"{i}.5\n" for i in range(3000)) + "12a\n")
    with pytest.raises(DataError, match="got '12a' in line 3002"):
        read_sequences(path)


def test_an_id_with_one_row_is_a_sequence_of_one_step_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("i,a\nx,1.5\ny,2.5\nx,3.5\n")
    with pytest.warns(ReadingWarning, match="the id 'y' has a single row .line 3.; it is read as a sequence of one"):
        data = read_sequences(path, sequence="i")
    assert data.lengths.tolist() == [2, 1]
    path.write_text("i,a\nx,1.5\n7,2.5\nx,3.5\nz,0.5\nv,1\n")
    with pytest.warns(ReadingWarning, match="the id '7' has a single row .line 3., and so have 2 other ids"):
        assert read_sequences(path, sequence="i").lengths.tolist() == [2, 1, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 40)), min_size=1, max_size=30), st.sampled_from([1, 7]))
def test_rows_are_sorted_by_sequence_and_time(pairs: list[tuple[int, int]], unit: int) -> None:
    codes, keys = (np.array(part) for part in zip(*pairs, strict=True))
    expected = np.lexsort((keys, codes))
    found = sorted_rows(codes, Axis(keys * unit, keys))
    assert codes[found].tolist() == codes[expected].tolist()
    assert keys[found].tolist() == keys[expected].tolist()
    assert sorted(found) == list(range(len(pairs)))


def test_a_constant_column_is_a_warning() -> None:
    with pytest.warns(ReadingWarning, match="column 'b' is 7.5 in every row; leave it out"):
        read_sequences(table("a,b\n1.5,7.5\n2,7.5\n0,7.5\n"))
    with pytest.warns(ReadingWarning, match="column 'b' is 'x' in every row"):
        read_sequences(table("a,b\n1.5,x\n2,x\n0,x\n"))


def test_inputs_are_columns_too(tmp_path: Path) -> None:
    data = read_sequences(table("a,u,v\n1.5,1,2\n2.5,3,4\n0,5,6\n"), inputs=["v", "u"])
    assert data.inputs is not None
    assert data.inputs.tolist() == [[[2, 1], [4, 3], [6, 5]]]
    assert (data.x.shape, legend_of(data).inputs) == ((1, 3, 1), ("v", "u"))


def test_texts_are_symbols(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("to be\nor not to be")
    data = read_sequences(path)
    words = legend_of(data).columns[0].words
    assert words == tuple(sorted(set("to be\nor not to be")))
    assert "".join(words[i] for i in data.x[0]) == "to be\nor not to be"
    lines = read_sequences(path, sequence="line", kind="word")
    assert lines.lengths.tolist() == [2, 4]
    assert legend_of(lines).columns[0] == Column("word", "symbol", words=("be", "not", "or", "to"))
    assert read_sequences(["AC", "T"], words="ACGT").x.tolist() == [[0, 1], [3, 0]]
    with pytest.raises(
        DataError, match="expected characters from the vocabulary of 4 characters, got 'X' in text 2 of the list"
    ):
        read_sequences(["AC", "X"], words="ACGT")
    path.write_text("a\tb\n1.5\t2.5\n3\t4\n")
    assert read_sequences(path).x.tolist() == [[[1.5, 2.5], [3, 4]]]
    path.write_text("1.5  2.5\n  3  4.5\n")
    assert read_sequences(path).x.tolist() == [[[1.5, 2.5], [3, 4.5]]]
    path.write_text("to be\nor not\n")
    assert legend_of(read_sequences(path)).columns[0].name == "character"


def test_sequences_are_returned_as_they_are() -> None:
    data = pr.pad([torch.zeros(2)])
    assert read_sequences(data) is data
    with pytest.raises(ValueError, match="expected no time for Sequences, which are returned as they are, got 'day'"):
        read_sequences(data, time="day")


def test_what_was_read_can_be_fitted(folder: Path) -> None:
    data = read_sequences(folder / "long.csv", "machine", "day", "temp")
    hmm = pr.models.HMM.random(num_states=2, emission=pr.emissions.Gaussian(1), seed=0)
    assert torch.isfinite(hmm.log_prob(data)).all()
    states = read_sequences(folder / "long.csv", "machine", "day", "state")
    symbols = pr.models.HMM.random(num_states=2, num_symbols=2, seed=0)
    assert torch.isfinite(symbols.log_prob(states)).all()
