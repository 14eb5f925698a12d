"""Tables of single precision as text: read again they are the same numbers, in as few digits as numpy prints."""

import io
import time

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pgm_rnn.report.short_numbers import shortest_doubles, written_fast


@given(st.lists(st.floats(width=32, allow_nan=True), max_size=20))
def test_doubles_are_the_same_singles_in_as_few_digits(numbers: list[float]) -> None:
    singles = np.array(numbers, dtype=np.float32)
    found = shortest_doubles(singles)
    assert np.array_equal(found.astype(np.float32), singles, equal_nan=True)


def test_numbers_print_as_they_are_meant() -> None:
    singles = np.array([0.1, 2.5, 1 / 3, 1e-9, 123456.7, 0, -0.25, np.nan, np.inf, 3e38], dtype=np.float32)
    assert shortest_doubles(singles).tolist()[:7] == [float(str(one)) for one in singles[:7]]
    assert str(np.float64(np.float32(0.1))) != "0.1"  # what a plain conversion prints


def test_a_file_says_what_pandas_would_write_in_less_time() -> None:
    rows = 3000
    numbers = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    numbers[3, 2] = np.nan
    table = pd.DataFrame(numbers).add_prefix("x")
    table["day"] = pd.date_range("2020-01-01", periods=rows // 2).repeat(2)
    table["hour"] = pd.date_range("2020-01-01", periods=rows, freq="h", tz="Europe/Berlin")
    table["id"], table["count"] = "a", np.arange(rows)
    table["double"] = numbers[:, 0].astype(np.float64) / 3
    started = time.process_time()
    expected = table.to_csv(index=False)
    plain = time.process_time() - started
    started = time.process_time()
    found = written_fast(table).to_csv(index=False)
    assert time.process_time() - started < 3 * plain
    one, other = (
        pd.read_csv(io.StringIO(text), dtype={f"x{i}": np.float32 for i in range(8)}) for text in (expected, found)
    )
    pd.testing.assert_frame_equal(one, other, check_exact=True)
