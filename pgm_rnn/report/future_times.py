"""The times that follow each sequence's own: dates and numbers go on, in the step that the sequence has most often.

months     all dates on the first or on the last day of a month: the next ones are too, whatever months are missing
workdays   no date on a weekend, a day apart most often: weekends are left out
others     pandas' own frequency where the dates have one, else the most frequent difference
"""

import warnings
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.legend import Legend, Times

ENOUGH = 6
"""Number of dates from which days without a weekend among them are taken for workdays."""
DIGITS = 9
"""Digits to which differences of numbers are compared: 0.3 - 0.2 is not 0.2 - 0.1 exactly."""


def future_times(legend: Legend | None, num_steps: int) -> list[Times] | None:
    """The `num_steps` times after each sequence; None where the times are unknown, words, or a single one everywhere.

    A sequence with a single time goes on in the step of the first one that has more.
    """
    if legend is None or not legend.times:
        return None
    times = [np.asarray(part) for part in legend.times]
    if not all(part.dtype.kind in "iufM" for part in times):
        return None
    steps = [_step_of(part) for part in times]
    usual = next((step for step in steps if step is not None), None)
    if usual is None:
        return None
    return [
        _continued(part[-1], usual if step is None else step, num_steps)
        for part, step in zip(times, steps, strict=True)
    ]


def _step_of(times: Times) -> Any:
    """The step of some times: a number or a pandas offset; None for fewer than two."""
    if len(times) < 2:
        return None
    if times.dtype.kind == "M":
        return _step_of_dates(times)
    differences = np.diff(times.astype(float))
    scale = float(np.abs(differences).max()) or 1.0
    step = scale * _most_frequent(np.round(differences / scale, DIGITS))
    return round(step) if times.dtype.kind in "iu" else step


def _step_of_dates(times: Times) -> Any:
    pandas: Any = import_module("pandas")
    dates = pandas.DatetimeIndex(times)
    frequency = _frequency(dates)
    if frequency is not None:
        return frequency
    months = _most_frequent(np.diff(dates.year * 12 + dates.month))
    if months >= 1 and len({*dates.time}) == 1:
        if dates.is_month_start.all():
            return pandas.offsets.MonthBegin(int(months))
        if dates.is_month_end.all():
            return pandas.offsets.MonthEnd(int(months))
    step = pandas.Timedelta(_most_frequent(np.diff(dates.to_numpy())))
    if step == pandas.Timedelta(days=1) and len(dates) >= ENOUGH and dates.day_of_week.max() < 5:
        return pandas.offsets.BDay()
    return step


def _frequency(dates: Any) -> Any:
    """The pandas offset of regular dates, None for others and for fewer than three."""
    if len(dates) < 3:
        return None
    frequencies: Any = import_module("pandas.tseries.frequencies")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # pandas 3 warns that its text will become an offset, which `to_offset` takes too
        return frequencies.to_offset(frequencies.infer_freq(dates))


def _most_frequent(values: NDArray[Any]) -> Any:
    """The most frequent of some values, the smallest of several."""
    found, counts = np.unique(values, return_counts=True)
    return found[counts.argmax()]


def _continued(last: Any, step: Any, num_steps: int) -> Times:
    if not isinstance(last, np.datetime64):
        return last + step * np.arange(1, num_steps + 1)
    pandas: Any = import_module("pandas")
    following = [pandas.Timestamp(last)]
    for _ in range(num_steps):
        following.append(following[-1] + step)
    return pandas.DatetimeIndex(following[1:]).to_numpy()
