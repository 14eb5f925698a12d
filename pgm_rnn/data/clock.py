"""Columns that only count time: row numbers, years, seconds. A model knows the time already, so they are no variables.

a name of time, and numbers that only grow or only fall     left out, with a note; so is a single number
another name or none, the first column, in equal steps      left out, with a note
the same, in numbers that only grow or only fall            an error: it may be either
a name of time, and numbers that go up and down             data, with a note
"""

import re
from typing import Any

import numpy as np

WORDS = re.compile(
    "t|ds|(time|timestamp|datetime|date|year|yr|quarter|month|week|day|hour|hr|minute|second|sec|step|row|rowname|tick)s?|"
    "ms|index|idx|unnamed|frame|period|epoch|obs|observation|nr"
)
"""Names of time, alone or as the first word of a name."""
LAST_WORDS = {"time", "timestamp", "date", "datetime", "index", "year"}
"""Names of time as the last word of a name."""
FEW, MANY = 3, 5
"""From this many numbers on, equal steps, or numbers that only grow, are not taken for an accident."""
EQUAL = 1e-4
"""Largest relative difference of steps that are equal up to rounding in float32."""
MOST_DECIMALS, SPREAD = 8, 10
"""Largest number of decimals that count as deliberate; smallest span of a rounded clock, in units of the last one."""
Column = list[np.ndarray[Any, np.dtype[np.float64]]]


def counts_time(name: str, column: Column, *, leads: bool) -> bool:
    """Whether the numbers of every series only count time.

    Args:
        name: the column's name.
        column: its numbers, an array (T_i,) of each series.
        leads: whether it stands before all data; equal steps are then enough, whatever its name.
    """
    column = _numbers(column)
    if is_name_of_time(name):
        return _is_monotone(column, strictly=False) or _is_single(column)
    return leads and (_has_equal_steps(column) or _has_rounded_steps(column))


def only_grows(column: Column) -> bool:
    """Whether the numbers of every series only grow, or only fall, over so many steps that it is no accident."""
    return _is_monotone(_numbers(column), strictly=True, num_steps=MANY)


def is_name_of_time(name: str) -> bool:
    """Whether a column's name says that it counts time: "year", "Time (s)", "sample_time", or nothing at all."""
    words = re.findall(r"[a-z]+[0-9]*", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    if name == "T":  # more likely a temperature
        return False
    return not name or (bool(words) and (WORDS.fullmatch(words[0]) is not None or words[-1] in LAST_WORDS))


def _numbers(column: Column) -> Column:
    """The finite numbers of each series that has any."""
    return [values[np.isfinite(values)] for values in column if np.isfinite(values).any()]


def _steps(column: Column) -> np.ndarray[Any, np.dtype[np.float64]]:
    with np.errstate(over="ignore"):
        return np.concatenate([np.diff(values) for values in column])


def _is_constant(column: Column) -> bool:
    return not column or all(bool((values == column[0][0]).all()) for values in column)


def _is_single(column: Column) -> bool:
    return bool(column) and max(map(len, column)) == 1


def _is_monotone(column: Column, *, strictly: bool, num_steps: int = 2) -> bool:
    """Whether the numbers of every series only grow, or those of every series only fall."""
    if _is_constant(column) or max(map(len, column)) < num_steps:
        return False
    steps = _steps(column)
    if strictly:
        return bool((steps > 0).all() or (steps < 0).all())
    return bool((steps >= 0).all() or (steps <= 0).all())


def _has_equal_steps(column: Column) -> bool:
    if _is_constant(column) or max(map(len, column)) < FEW:
        return False
    steps, largest = _steps(column), max(float(np.abs(values).max()) for values in column)
    step, rounding = float(steps[0]), 8 * float(np.finfo(np.float64).eps) * largest
    return abs(step) > rounding and bool((np.abs(steps / step - 1) <= EQUAL + rounding / abs(step)).all())


def _has_rounded_steps(column: Column) -> bool:
    """Whether the steps are equal up to rounding to a few decimals, such as 1960.08, 1960.17, 1960.25."""
    series = [values for values in column if len(values) >= FEW]
    if _is_constant(column) or max(map(len, column)) < MANY:
        return False
    for decimals in range(MOST_DECIMALS + 1):
        if all(np.allclose(values, np.round(values, decimals), rtol=1e-15, atol=0) for values in column):
            return decimals > 0 and _are_on_lines(series, 10.0**-decimals)
    return False


def _are_on_lines(series: Column, unit: float) -> bool:
    """Whether the numbers lie within rounding to `unit` (half a unit each) of a line with equal steps."""
    steps = [float(values[-1] - values[0]) / (len(values) - 1) for values in series]
    for values, step in zip(series, steps, strict=True):
        line, gaps = np.linspace(values[0], values[-1], len(values)), len(values) - 1
        if abs(step) * gaps < SPREAD * unit or not bool((np.abs(values - line) <= 1.01 * unit).all()):
            return False
        if abs(step - steps[0]) > 2 * unit / min(gaps, len(series[0]) - 1):
            return False
    return True
