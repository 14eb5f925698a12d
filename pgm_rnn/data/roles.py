"""Which column is what: ids of sequences, time, inputs, or a variable that is observed."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pgm_rnn.checks import check_choice
from pgm_rnn.data.cells import Cells, first
from pgm_rnn.data.clock import counts_time, is_name_of_time, only_grows
from pgm_rnn.data.frame import Frame
from pgm_rnn.data.source import DataError
from pgm_rnn.data.times import Axis, axis_of, look_like_dates

MANY = 3
"""Rows of a block, at least, in which an id repeats."""
SPARSE = 4
"""Up to this many places for each row, rows are put in their places instead of being sorted."""
Array = np.ndarray[Any, np.dtype[Any]]


class ReadingWarning(UserWarning):
    """Data were read, but perhaps not as they were meant."""


class Groups(NamedTuple):
    """Which sequence each row belongs to.

    Attributes:
        codes: number of the sequence, (rows,), in the order of first appearance.
        ids: the ids; empty if the table has none.
    """

    codes: Array
    ids: tuple[Any, ...] = ()


def check_column(frame: Frame, role: str, name: str) -> None:
    """Raise unless the table has the column.

    Raises:
        ValueError: it does not; a name that is close is suggested.
    """
    check_choice(role, name, list(frame.table.columns))


def groups_of(frame: Frame, sequence: str | None) -> Groups:
    """The sequence of each row.

    Raises:
        DataError: a row without an id, or only sequences of one row.
    """
    import pandas as pd

    rows = len(frame.table)
    if sequence is None:
        lengths = frame.lengths if frame.lengths is not None else np.array([rows])
        return Groups(np.repeat(np.arange(len(lengths)), lengths))
    column = frame.table[sequence]
    codes, ids = pd.factorize(column)
    if (codes < 0).any():
        place = frame.place(first(codes < 0))
        raise DataError(
            f"expected an id in every row, got none in column {sequence!r} in {place}; fill it in or drop the row"
        )
    if len(ids) == rows > 1:
        raise DataError(
            f"expected ids that repeat in column {sequence!r}, got {rows} different ones in {rows} rows; leave "
            "sequence out if the table is one sequence"
        )
    return Groups(codes, tuple(getattr(i, "item", lambda i=i: i)() for i in ids))


def found_time(frame: Frame, groups: Groups, taken: Sequence[str]) -> tuple[str, Axis] | None:
    """The first column of dates, or named as time, that gives every row of a sequence another time.

    Dates may be in any order, and so may numbers where there are ids; else they must only grow or only fall.
    """
    if frame.lengths is not None:
        return None
    free = [str(name) for name in frame.table.columns if name and name not in taken]
    for name in free:
        axis = _axis(frame, name) if _are_dates(frame.cells(name)) else None
        if axis is not None and not repeats(axis, groups.codes):
            return name, axis
    for name in free:
        if is_name_of_time(name) and frame.cells(name).words is None and not np.isnan(frame.cells(name).values).any():
            axis = axis_of(frame, name)
            counts = groups.ids or counts_time(name, _parts(frame.cells(name), groups), leads=False)
            if counts and not repeats(axis, groups.codes):
                return name, axis
    return None


def _are_dates(cells: Cells) -> bool:
    return cells.is_date or look_like_dates(cells.words)


def _axis(frame: Frame, name: str) -> Axis | None:
    """The times in a column, None if it has other cells, too."""
    try:
        return axis_of(frame, name)
    except DataError:
        return None


def sorted_rows(codes: Array, axis: Axis | None) -> Array:
    """The rows (rows,) by their codes, and those of one code by time, or in their own order without an axis."""
    times = np.arange(len(codes)) if axis is None else axis.keys
    if times.dtype.kind == "f":
        return np.lexsort((times, codes))
    start, span = int(times.min()), int(times.max()) - int(times.min()) + 1
    if span * (int(codes.max()) + 1) > 2**62:
        return np.lexsort((times, codes))
    step = max(1, int(np.gcd.reduce(times - start)))
    span = (span - 1) // step + 1
    places = codes.astype(np.int64) * span + (times - start) // step
    if bool((np.diff(places) >= 0).all()):
        return np.arange(len(codes))
    return _by_place(places, span * (int(codes.max()) + 1))


def _by_place(places: Array, num_places: int) -> Array:
    """The rows in the order of their places 0..num_places - 1, (rows,); linear time where few places are empty."""
    if num_places <= SPARSE * len(places):
        rows = np.full(num_places, -1)
        rows[places] = np.arange(len(places))
        order = rows[rows >= 0]
        if len(order) == len(places):  # no place comes twice
            return order
    return np.argsort(places, kind="stable")


def repeats(axis: Axis, codes: Array) -> bool:
    """Whether a time comes twice with the same code (rows,)."""
    return len(_repeated(axis, codes, sorted_rows(codes, axis))) > 0


def _repeated(axis: Axis, codes: Array, order: Array) -> Array:
    """Where in the order a row has the time and the code of the next one."""
    same = np.flatnonzero(np.diff(axis.keys[order]) == 0)
    return same[codes[order[same]] == codes[order[same + 1]]]


def _parts(cells: Cells, groups: Groups) -> list[Array]:
    """The numbers of each sequence, in the order of the rows."""
    order = np.argsort(groups.codes, kind="stable")
    return np.split(cells.values[order], np.cumsum(np.bincount(groups.codes))[:-1])


def observed_columns(frame: Frame, groups: Groups, taken: Sequence[str], has_time: bool) -> list[str]:
    """All columns that are left, without those that only count time or hold dates.

    Raises:
        DataError: none is left, or the first may be time or data.

    Warns:
        ReadingWarning: a column that is left out.
    """
    names, out = list[str](), list[str]()
    free = [str(name) for name in frame.table.columns if name not in taken]
    for name in free:
        cells = frame.cells(name)
        leads = not has_time and not names and name != free[-1]
        if _are_dates(cells):
            out.append(f"column {name!r} has dates")
        elif _may_count(frame) and _only_counts(frame, groups, name, leads=leads):
            out += [f"column {name!r} only counts time"] if name else []  # an index of pandas has no name
        elif name or len(cells.seen):
            if _may_count(frame):
                _check_clear(frame, groups, name, leads=leads)
            names.append(name)
    if not names:
        raise DataError(
            f"expected at least one column of data in {frame.name}, got {', '.join(free) or 'none'}; choose columns by "
            "columns=[...]"
        )
    for what in out:
        warnings.warn(
            f"{what} and is left out; name it as time=... or in columns=[...] to use it", ReadingWarning, stacklevel=3
        )
    return names


def _may_count(frame: Frame) -> bool:
    """Whether a column may count time: in a table, and in an array in a file, which may be a table's numbers."""
    return frame.lengths is None or frame.is_stored


def _check_clear(frame: Frame, groups: Groups, name: str, *, leads: bool) -> None:
    """Raise if the first column may be time or data; warn of data under a name of time.

    Raises:
        DataError: its numbers only grow or only fall, in unequal steps.

    Warns:
        ReadingWarning: the name is one of time, and the numbers go up and down.
    """
    cells = frame.cells(name)
    if cells.words is not None or not len(cells.seen):
        return
    if is_name_of_time(name):
        if name and frame.is_named and len(np.unique(cells.seen)) > 1:
            warnings.warn(
                f"column {name!r} is read as data although its name suggests time; if it is not, leave it out by "
                "columns=[...]",
                ReadingWarning,
                stacklevel=4,
            )
    elif leads and only_grows(_parts(cells, groups)):
        raise DataError(
            f"expected time or data in column {name!r} of {frame.name}, got numbers that only grow or only fall, which "
            f"may be either; name it as time={name!r}, or choose columns by columns=[...]"
        )


def _only_counts(frame: Frame, groups: Groups, name: str, *, leads: bool) -> bool:
    cells = frame.cells(name)
    if cells.words is not None or not len(cells.seen) or not (leads or is_name_of_time(name)):
        return False
    return counts_time(name, _parts(cells, groups), leads=leads)


def hint(frame: Frame, taken: Sequence[str]) -> str | None:
    """The name of a column that looks like ids of several sequences in one table, if there is one.

    Its values repeat in blocks, or a column of time has every time only once for each of its values.
    """
    if not frame.is_named or frame.lengths is not None:
        return None
    names = [str(name) for name in frame.table.columns]
    times = [n for n in names if _are_dates(frame.cells(n)) or (is_name_of_time(n) and frame.cells(n).words is None)]
    axes = [axis for axis in (_axis(frame, name) for name in times) if axis is not None]
    restarting = [axis for axis in axes if repeats(axis, np.zeros(len(axis.keys), dtype=np.int64))]
    if axes and not restarting:
        return None
    for name in names:
        cells = frame.cells(name)
        if name in taken or name in times or cells.is_bool or cells.is_date or not _few(cells):
            continue
        codes = np.unique(np.nan_to_num(cells.values, nan=-1), return_inverse=True)[1]
        if any(not repeats(axis, codes) for axis in restarting):
            return name
        runs = 1 + int((np.diff(codes) != 0).sum())
        if not axes and cells.words is not None and runs == codes.max() + 1 and np.bincount(codes).min() >= MANY:
            return name
    return None


def _few(cells: Cells) -> bool:
    """Whether the cells are words or whole numbers that repeat."""
    seen = cells.seen
    if not len(seen) or bool((seen != np.floor(seen)).any()):
        return False
    return 1 < len(np.unique(seen)) <= len(seen) / 2


def check_times(frame: Frame, axis: Axis, groups: Groups, order: Array, time: str, remedy: str) -> None:
    """Raise if two rows of a sequence have one time, given the rows in order.

    Raises:
        DataError: they have.
    """
    same = _repeated(axis, groups.codes, order)
    if len(same):
        rows = order[same[0] : same[0] + 2]
        of = f" of sequence {groups.ids[groups.codes[rows[0]]]!r}" if groups.ids else ""
        raise DataError(
            f"expected one row per time in column {time!r}{of}, got {axis.at(rows[0])} in {frame.place(rows[0])} and "
            f"{frame.place(rows[1])}; {remedy}"
        )
