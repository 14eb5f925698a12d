"""Time columns: dates, numbers or words that are put in order; gaps in a regular axis, and axes that are uneven."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pgm_rnn.data.cells import first
from pgm_rnn.data.frame import Frame
from pgm_rnn.data.source import DataError

FORMATS = (
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%b %Y",
    "%B %Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
)
"""Formats of dates, beside ISO 8601, that can be read in one way only."""
EITHER = tuple(
    (f"%d/%m/{year}{time}", f"%m/%d/{year}{time}") for year in ("%Y", "%y") for time in ("", " %H:%M", " %H:%M:%S")
)
"""Formats whose day and month may be exchanged."""
_LOOKS_LIKE_A_DATE = re.compile(r"\d{4}-\d\d|\d{4}-?Q[1-4]|\d{1,4}[./]\d{1,2}[./]\d{2,4}|.*[A-Za-z]{3,9},? \d{4}")
NEAR = 1e-3
"""Largest difference of a step from a whole number of steps."""
UNEVEN, SHARE = 0.1, 0.1
"""An axis is uneven if more than this share of its steps differs from the median by more than this part of it."""
UNITS = (
    (86_400_000_000, "day"), (3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second"), (1, "microsecond")
)  # fmt: skip
"""Microseconds in units of time, the largest first."""
Array = np.ndarray[Any, np.dtype[Any]]


class Axis(NamedTuple):
    """The times of all rows.

    Attributes:
        keys: numbers in the order of the times, (rows,).
        times: the times as they are shown, (rows,): dates, numbers or strings.
    """

    keys: Array
    times: Array

    def at(self, row: int) -> str:
        """The time of a row in words."""
        return str(self.times[row])


def axis_of(frame: Frame, name: str) -> Axis:
    """The time column of a table.

    Raises:
        DataError: an empty cell, a date that does not exist, or dates whose day and month may be exchanged.
    """
    import pandas as pd

    column = frame.table[name]
    cells = frame.cells(name)
    empty = column.isna().to_numpy() if cells.is_date else np.isnan(cells.values)
    if empty.any():
        place = frame.place(first(empty))
        raise DataError(
            f"expected a time in every row, got none in column {name!r} in {place}; fill it in or drop the row"
        )
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if cells.is_date:
        if getattr(column.dtype, "tz", None) is None:
            return _dates(column)
        return Axis(_dates(column.dt.tz_convert(None)).keys, _dates(column.dt.tz_localize(None)).times)  # the clock's
    if cells.words is None and column.dtype.kind in "iu":
        whole_numbers = column.to_numpy(dtype=np.int64)
        return Axis(whole_numbers, whole_numbers)
    if cells.words is None:
        whole = bool((cells.values == np.floor(cells.values)).all()) and float(np.abs(cells.values).max()) < 2**53
        return Axis(cells.values, cells.values.astype(np.int64) if whole else cells.values)
    places = cells.values.astype(np.int64)
    if look_like_dates(cells.words):
        dates = _parsed(cells.words, name)
        if dates.isna().any():
            row = first(cells.of_words(dates.isna().to_numpy()))
            raise DataError(
                f"expected dates in column {name!r}, got {cells.words[places[row]]!r} in {frame.place(row)}; "
                "correct it, or write dates as 2015-01-31"
            )
        found = _dates(dates)
        return Axis(found.keys[places], found.times[places])
    ranks = np.empty(len(cells.words))
    ranks[sorted(range(len(cells.words)), key=lambda i: _natural(cells.words[i]))] = np.arange(len(cells.words))  # type: ignore[index]
    return Axis(ranks[places], np.array(cells.words)[places])


def look_like_dates(words: tuple[str, ...] | None) -> bool:
    """Whether most of some words begin as dates do."""
    some = (words or ())[:: max(1, len(words or ()) // 100)]
    return bool(some) and sum(_LOOKS_LIKE_A_DATE.match(word) is not None for word in some) > len(some) / 2


def _parsed(words: tuple[str, ...], name: str) -> Any:
    """Dates of words as a pandas column, missing where one is not understood."""
    import pandas as pd

    texts = pd.Series(words, dtype=object)
    quarters = texts.str.fullmatch(r"\d{4}-?Q[1-4]")
    if quarters.all():
        return pd.PeriodIndex(texts.str.replace("-", ""), freq="Q").to_timestamp().to_series(index=texts.index)
    best = _read(texts, "ISO8601")
    if best.isna().any():
        pairs = [(_read(texts, day), _read(texts, month)) for day, month in EITHER]
        for day, month in pairs:
            if not day.isna().any() and not month.isna().any() and (day != month).any():
                raise DataError(
                    f"expected unambiguous dates in column {name!r}, got {words[0]!r}, whose day and month may be "
                    "swapped; write dates as 2015-01-31, or give a DataFrame with dates from pandas.to_datetime"
                )
        others = [*(_read(texts, form) for form in FORMATS), *(dates for pair in pairs for dates in pair)]
        best = min([best, *others], key=lambda dates: int(dates.isna().sum()))
    return best


def _read(texts: Any, form: str) -> Any:
    import pandas as pd

    try:
        found = pd.to_datetime(texts, format=form, errors="coerce")
    except ValueError:  # some with a time zone and some without, or several of them
        found = pd.to_datetime(texts, format=form, errors="coerce", utc=True)
    if getattr(found.dtype, "tz", None) is not None:
        found = found.dt.tz_convert(None)
    return found if found.dtype.kind == "M" else pd.Series(pd.NaT, index=texts.index)


def _dates(column: Any) -> Axis:
    """Dates in whole days if they are, else in microseconds."""
    times = column.to_numpy().astype("datetime64[us]")
    days = times.astype("datetime64[D]")
    return Axis(times.astype(np.int64), days if bool((days == times).all()) else times)


def _natural(word: str) -> list[tuple[int, float, str]]:
    """A key that puts "week 9" before "week 10"."""
    parts = re.split(r"(\d+)", word)
    return [(0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in parts if part]


class Gaps(NamedTuple):
    """Steps that are missing on a regular time axis.

    Attributes:
        num_steps: how many.
        row: the row before the first gap.
    """

    num_steps: int
    row: int


class Uneven(NamedTuple):
    """Steps of time that differ, on an axis that is not regular.

    Attributes:
        smallest: the smallest step in words.
        largest: the largest.
    """

    smallest: str
    largest: str


def spacing_of(axis: Axis, order: Array, lengths: Array) -> Gaps | Uneven | None:
    """The steps that are missing on a regular axis, or that the axis is uneven; None if its steps are even.

    An axis is regular if all steps are multiples of the most frequent one: of time, of months, or of working days. A
    few hours more or less where clocks change count as even.

    Args:
        axis: the times.
        order: the rows, sequence by sequence and in order of time, (rows,).
        lengths: number of rows of each sequence, (batch,).
    """
    if axis.times.dtype.kind not in "Miuf":
        return None
    inside = _within(order, lengths)
    missing = _missing(axis.keys, order, inside)
    if missing is None or missing.any():
        others = (_missing(clock, order, inside) for clock in _calendars(axis))
        missing = next((found for found in others if found is not None), missing)
    if missing is None:
        return _uneven(axis, order, inside)
    return Gaps(int(missing.sum()), int(order[:-1][inside][int(np.argmax(missing > 0))])) if missing.any() else None


def _uneven(axis: Axis, order: Array, inside: Array) -> Uneven | None:
    steps = np.diff(axis.keys[order])[inside]
    if len(steps) < 2 or (np.abs(steps - np.median(steps)) > UNEVEN * np.median(steps)).mean() <= SHARE:
        return None
    shown = np.diff(axis.times[order])[inside]
    return Uneven(_in_words(shown.min()), _in_words(shown.max()))


def _in_words(step: Any) -> str:
    """A step of numbers, or of time in the largest unit in which it is whole."""
    if not isinstance(step, np.timedelta64):
        return f"{step:g}"
    length = round(step / np.timedelta64(1, "us"))
    size, unit = next((size, unit) for size, unit in UNITS if length % size == 0)
    number = length // size
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _within(order: Array, lengths: Array) -> Array:
    """True for a step inside a sequence, not from one to the next, (rows - 1,)."""
    inside = np.ones(len(order) - 1, dtype=bool)
    inside[np.cumsum(lengths)[:-1] - 1] = False
    return inside


def _missing(keys: Array, order: Array, inside: Array) -> Array | None:
    """How many steps are missing from each row to the next; None if the steps are no multiples of the usual one."""
    steps = np.diff(keys[order])[inside]
    if len(steps) > 1 and steps[0] > 0 and bool((steps == steps[0]).all()):
        return np.zeros(len(steps))
    usual = np.median(steps) if len(steps) > 1 else 0
    if usual <= 0:
        return None
    multiples = steps / usual
    whole = np.round(multiples)
    is_regular = (np.abs(multiples - whole) < NEAR).all() and (whole >= 1).all() and (whole == 1).mean() > 0.5
    return whole - 1 if is_regular else None


def _calendars(axis: Axis) -> Iterator[Array]:
    """Months, then working days, as numbers of equal steps, where all dates are of that kind."""
    if axis.times.dtype != np.dtype("datetime64[D]"):
        return
    months = axis.times.astype("datetime64[M]")
    day = (axis.times - months).astype(np.int64)
    is_last = (axis.times + np.timedelta64(1, "D")).astype("datetime64[M]") > months
    if (day == day[0]).all() or is_last.all():
        yield months.astype(np.int64)
    weekday = (axis.times.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    if (weekday < 5).all() and len(np.unique(weekday)) == 5:
        yield np.busday_count(np.datetime64("1600-01-03"), axis.times)
