"""The leaderboard's tables: rows of scores, published figures, and published estimates of parameters.

Likelihoods, bounds, estimates by sampling and published figures stand in tables of their own, because an order across
them would mean nothing.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

KINDS = ("likelihoods", "bounds", "estimates")
"""Kinds of scores of ours, each with a table of its own."""
_TITLES = {
    "likelihoods": "Likelihoods, exact",
    "bounds": "Bounds: at least the exact number on average",
    "estimates": "Estimates by importance sampling: at least the exact number on average",
    "published": "Published figures, for the same splits",
    "parameters": "Estimates beside published ones",
}


def kind_of(bound: str) -> str:
    """The kind of a score: exact scores are likelihoods, importance-sampled ones estimates, and others bounds."""
    if bound == "exact":
        return "likelihoods"
    return "estimates" if bound.startswith("importance") else "bounds"


class Row(NamedTuple):
    """One score of one entry of the zoo.

    Attributes:
        entry: name of the entry.
        nats_per_step: score on the test set.
        standard_error: standard error over sequences; NaN for a single one.
        bound: "exact", or the name of the bound or estimate.
        parameters: number of parameters, including those of the guide.
        minutes: training time, including that of a fit that it started from.
        seed: random seed of the fit.
        commands: the commands that made the entry, in their order.
        seconds: time of this evaluation.
    """

    entry: str
    nats_per_step: float
    standard_error: float
    bound: str
    parameters: int
    minutes: float
    seed: int
    commands: tuple[str, ...]
    seconds: float


class Published(NamedTuple):
    """A published score; its error was not given."""

    model: str
    nats_per_step: float
    bound: str
    source: str


_CHUNG = "Chung et al. (2014)"
_BOULANGER = "Boulanger-Lewandowski et al. (2012)"
PUBLISHED = {
    "jsb": (
        Published("RNN", 8.71, "exact", _BOULANGER),
        Published("LSTM", 8.67, "exact", _CHUNG),
        Published("RNN", 9.10, "exact", _CHUNG),
        Published("GRU", 8.54, "exact", _CHUNG),
        Published("VRNN", 6.91, "FIVO_128", "Maddison et al. (2017)"),
        Published("deep Markov model", 6.93, "ELBO", "Krishnan et al. (2017)"),
        Published("deep Markov model", 6.39, "importance", "Krishnan et al. (2017)"),
        Published("RNN-NADE", 5.19, "exact", _BOULANGER),
    ),
    "nottingham": (
        Published("RNN", 4.46, "exact", _BOULANGER),
        Published("RNN-NADE", 2.31, "exact", _BOULANGER),
    ),
}
"""Published scores on the same splits of the same piano rolls."""


Group = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, head and lines of a table."""
HEAD: tuple[str, ...] = ("model", "nats per step", "±", "bound", "parameters", "min")
_ESTIMATES_HEAD: tuple[str, ...] = ("model and quantity", "this entry", "published", "source")
_PUBLISHED_HEAD: tuple[str, ...] = ("model and source", "nats per step", "kind")


def groups(data: str, rows: list[Row], estimates: list[tuple[str, ...]], *, in_sample: bool = False) -> Iterable[Group]:
    """Each kind's table, the lowest number first; published figures are the last.

    Args:
        data: name of the data set.
        rows: its entries' scores.
        estimates: lines of the table of estimates beside published ones.
        in_sample: whether the scores are those of the series to which the entries were fitted.
    """
    for kind in KINDS:
        found = sorted((row for row in rows if kind_of(row.bound) == kind), key=lambda row: row.nats_per_step)
        if found:
            title = f"{_TITLES[kind]}; in sample" if in_sample else _TITLES[kind]
            yield title, HEAD, [_cells(row) for row in found]
    figures = sorted(PUBLISHED.get(data, ()), key=lambda figure: (kind_of(figure.bound), figure.nats_per_step))
    if figures:
        lines: list[tuple[str, ...]] = [
            (f"{each.model}, {each.source}", f"{each.nats_per_step:.2f}", each.bound) for each in figures
        ]
        yield _TITLES["published"], _PUBLISHED_HEAD, lines
    if estimates:
        yield _TITLES["parameters"], _ESTIMATES_HEAD, estimates


def _cells(row: Row) -> tuple[str, ...]:
    error = "-" if math.isnan(row.standard_error) else f"{row.standard_error:.3f}"
    numbers = (f"{row.nats_per_step:.3f}", error)
    return row.entry, *numbers, row.bound, f"{row.parameters:,}", f"{row.minutes:.1f}"
