"""Particle filters as peers: a run over some sequences times itself and estimates log p(x_{1:T})."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

ESS_THRESHOLD = 0.5
CHANCE = 1e-5
"""Probability with which a correct engine fails the check."""
SLOW = 20.0
"""Seconds; an engine that would need more for all sequences, extrapolated from two, does not run them all."""


class Run(NamedTuple):
    """One run.

    Attributes:
        sequences: numbers of the sequences.
        seconds: wall-clock time, measured where the engine runs.
        estimates: estimates of log p(x_{1:T}) for each sequence, nats; None if the engine failed.
    """

    sequences: Sequence[int]
    seconds: float
    estimates: list[float] | None


Filter = Callable[[Sequence[int], int], Run]
"""An engine on one problem: a run over the sequences of these numbers, given a seed."""


class FilterRow(NamedTuple):
    """One line of a table.

    Attributes:
        name: name of the engine.
        one: seconds for one sequence, infinite if a run failed; None if the engine is not installed.
        many: seconds for all sequences, infinite if any run failed; None if they were left out.
        error: mean error of the estimates beyond that of an unbiased estimate's logarithm, nats; None if runs failed.
        deviation: standard deviation of the estimates, nats.
    """

    name: str
    one: float | None = None
    many: float | None = None
    error: float | None = None
    deviation: float | None = None


def compare(filters: dict[str, Filter | None], exact: NDArray[np.float64], rounds: int) -> list[FilterRow]:
    """Time the filters in turn, one sequence per round and then all at once, and check their estimates.

    Args:
        filters: filters by name, None for one that is not installed; each is warmed up with one sequence and with two,
            which may compile.
        exact: log p(x_{1:T}) of every sequence, nats.
        rounds: number of rounds with one sequence.

    Raises:
        ValueError: estimates do not agree with log p(x_{1:T}).
    """
    present = {name: run for name, run in filters.items() if run is not None}
    twos = {name: runs[2:] for name, runs in _in_turn(present, [[0], [0, 1], [0, 1]]).items()}
    ones = _in_turn(present, [[number % len(exact)] for number in range(rounds)])
    expected = {name: len(exact) * _seconds(twos[name]) / 2 for name in present}
    failed = {name for name in present if not _complete(ones[name] + twos[name])}
    quick = {name: run for name, run in present.items() if name not in failed and expected[name] < SLOW}
    manys = _in_turn(quick, [range(len(exact))])
    rows = {}
    for name in present:
        of_all = _seconds(manys[name]) if name in manys else math.inf if name in failed else None
        estimates = next(filter(_complete, (manys.get(name, []), ones[name])), None)
        checked = () if estimates is None else _checked(name, estimates, exact)
        rows[name] = FilterRow(name, _seconds(ones[name]), of_all, *checked)
    return [rows.get(name, FilterRow(name)) for name in filters]


def _in_turn(filters: dict[str, Filter], rounds: list[Sequence[int]]) -> dict[str, list[Run]]:
    """A run of each filter over each round's sequences, with the round's number as seed."""
    runs: dict[str, list[Run]] = {name: [] for name in filters}
    for seed, sequences in enumerate(rounds):
        for name, run in filters.items():
            runs[name].append(run(sequences, seed))
    return runs


def _complete(runs: list[Run]) -> bool:
    return bool(runs) and all(run.estimates is not None for run in runs)


def _seconds(runs: list[Run]) -> float:
    """Median time of the runs, infinite if one failed."""
    return median(run.seconds for run in runs) if _complete(runs) else math.inf


def _checked(name: str, runs: list[Run], exact: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of log estimates less exact values, the mean corrected by half the variance.

    The estimates of p are unbiased and nearly log-normal: E log(p^ / p) = -s^2 / 2, known to s sqrt((1 + s^2 / 2) / R).
    """
    differences = np.concatenate([np.array(run.estimates) - exact[list(run.sequences)] for run in runs])
    number, deviation = len(differences), float(differences.std(ddof=1))
    error = float(differences.mean()) + deviation**2 / 2
    limit = student.isf(CHANCE / 2, number - 1) * deviation * ((1 + deviation**2 / 2) / number) ** 0.5
    if not abs(error) < limit:
        raise ValueError(f"expected {name} to be within {limit:.2g} nats of log p(x), got an error of {error:.2g}")
    return error, deviation
