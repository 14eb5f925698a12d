"""What hidden tests ask of a value."""

from typing import Any

import numpy as np
import pytest

from pgm_rnn.teaching.checks import check_close, local


def test_close_values_pass() -> None:
    check_close([1.0, 2.0 + 1e-9], np.array([1.0, 2.0]))
    check_close(np.float32(0.5), 0.5)
    check_close([-np.inf, 1.0], [-np.inf, 1.0])
    check_close(3, 3.0)


@pytest.mark.parametrize(
    ("got", "expected", "says"),
    [
        ([1.0], [1.0, 2.0], r"alpha: expected an array of shape \(2,\), got an array of shape \(1,\)"),
        ([1.0], 1.0, r"alpha: expected one number, got an array of shape \(1,\)"),
        ([1.0, 2.1], [1.0, 2.0], "alpha: 1 of 2 numbers differ"),
        (1.1, 1.0, "alpha differs"),
        ([np.nan, 1.0], [0.0, 1.0], "alpha: expected numbers, got NaN"),
        (np.inf, 1.0, "alpha differs"),
        (1.0, np.inf, "alpha differs"),
        ([np.nan, -np.inf], [1.0, -np.inf], "alpha: expected numbers, got NaN"),
        ([[1.0], [1.0, 2.0]], [1.0], "alpha: expected an array, got rows of different lengths"),
        (None, 1.0, "alpha: expected a number or an array of numbers, got NoneType"),
        ("1", 1.0, "alpha: expected a number or an array of numbers, got str"),
        ({"a": 1}, 1.0, "alpha: expected a number or an array of numbers, got dict"),
    ],
)
def test_a_difference_is_named_without_the_expected_value(got: Any, expected: Any, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_close(got, expected, what="alpha")


def test_the_number_of_results_is_checked() -> None:
    call = local({"f": lambda: (1, 2), "g": lambda: 1.0})
    assert call("f", returns=2) == [1, 2]
    with pytest.raises(AssertionError, match="f: expected 3 results, got 2"):
        call("f", returns=3)
    with pytest.raises(AssertionError, match="g: expected 2 results, got one float"):
        call("g", returns=2)
    with pytest.raises(AssertionError, match="expected a function h, got none"):
        call("h")
