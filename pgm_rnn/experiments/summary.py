"""Summaries over replicates: medians, and intervals that contain the middle 80 % of the draws."""

from collections.abc import Callable, Iterable
from statistics import median
from typing import NamedTuple

import numpy as np

from pgm_rnn.experiments.experiment import Row

INTERVAL = (10, 90)
"""Percentiles at the ends of an interval."""


class Curve(NamedTuple):
    """A column against another, over replicates.

    Attributes:
        x: different values, ascending.
        middle: the median at each.
        low: the tenth percentile.
        high: the ninetieth.
    """

    x: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


def where(rows: Iterable[Row], **values: object) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(name) == value for name, value in values.items())]


def number(row: Row, name: str) -> float:
    """A number of a row."""
    return float(row[name])


def column(rows: Iterable[Row], name: str) -> list[float]:
    """A column's numbers."""
    return [float(row[name]) for row in rows]


def values_of(rows: Iterable[Row], name: str) -> list[int]:
    """The different numbers of a column of whole numbers, ascending."""
    return sorted({int(row[name]) for row in rows})


def largest(rows: Iterable[Row]) -> list[Row]:
    """The rows of the widest network and the largest training set."""
    rows = list(rows)
    return where(rows, size=values_of(rows, "size")[-1], num_sequences=values_of(rows, "num_sequences")[-1])


def middle(rows: Iterable[Row], name: str) -> float:
    """A column's median."""
    return median(column(rows, name))


def curve(rows: Iterable[Row], x: str, y: str) -> Curve:
    """Medians and intervals of column y at each value of column x."""
    rows = list(rows)
    places = values_of(rows, x)
    groups = [column(where(rows, **{x: place}), y) for place in places]
    low, high = (np.array([np.percentile(group, q) for group in groups]).tolist() for q in INTERVAL)
    return Curve([float(place) for place in places], [median(group) for group in groups], low, high)


def each_draw(rows: Iterable[Row], test: Callable[[list[Row]], bool]) -> list[bool]:
    """Whether the rows of each replicate pass a test."""
    rows = list(rows)
    return [test(where(rows, replicate=replicate)) for replicate in values_of(rows, "replicate")]
