"""Statistics of the data beside those of data simulated from the model (posterior predictive checks).

    tail area = 2 min(P(T(x_sim) <= T(x)), P(T(x_sim) >= T(x))),   each counted over the simulations and x itself

Simulated data have the lengths, inputs and gaps of the data. Gelman, Meng & Stern (1996), sec. 2.3; here at the model's
parameters, without the uncertainty of a posterior.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.legend import Kind
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.diagnostics.series_tests import autocorrelations
from pgm_rnn.report.diagnostics.wording import Variables, listed
from pgm_rnn.report.number_tables import Table
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences, over_events

LARGEST = 2**22
"""Numbers that are simulated at a time."""
MOST_STEPS, FEWEST = 2**20, 20
"""Largest number of steps of all simulations together, and the number of simulations that are made in any case."""
FAR = 4.0
"""Standard deviations of the simulated statistics beyond which the data's is conspicuous, outside all of them."""
COLUMNS = ("data", "simulated mean", "simulated sd", "tail area")
Array = NDArray[np.float64]
Statistic = Callable[[Array], float]
"""A number of one variable, (B, T), NaN where there is no value."""


def simulations(
    model: SequenceModel, data: Sequences, variables: Variables, num_simulations: int, seed: int | None
) -> Section:
    """The section of simulated statistics; of long data there are fewer simulations (`MOST_STEPS`).

    Args:
        model: a model that can be drawn from.
        data: checked data.
        variables: names and kinds of the entries.
        num_simulations: number of data sets to simulate.
        seed: makes them reproducible.

    Raises:
        ValueError: a model that conditions on x_1.
    """
    num_simulations = min(num_simulations, max(FEWEST, MOST_STEPS // data.x.shape[:2].numel()))
    given = _values(data, np.asarray(data.x.double().cpu()))
    each = [
        (m, name, function)
        for m, variable in enumerate(variables.names)
        for name, function in _statistics(given[..., m], variable, variables.kinds[m], variables.words[m])
    ]
    drawn = np.array([[f(x[..., m]) for m, _, f in each] for x in _simulated(model, data, num_simulations, seed)])
    real, rows = np.array([f(given[..., m]) for m, _, f in each]), tuple(name for _, name, _ in each)
    values = tuple(_row(own, of_simulations) for own, of_simulations in zip(real, drawn.T, strict=True))
    table = Table("simulations", "statistics of data and simulations", "statistic", rows, COLUMNS, values)
    distance = np.array([_distance(row) for row in values])
    worst = tuple(int(row) for row in np.argsort(-distance, kind="stable"))
    note = (
        f"{num_simulations} simulations with the lengths and gaps of the data. Tail areas are two-sided; a right model "
        "has few below 0.05"
    )
    far = [rows[row] for row in worst if _is_far(values[row], num_simulations)]
    found = _findings(far, dict(zip(rows, values, strict=True)))
    return Section(table, note, "statistics of simulated data", found, worst)


def _simulated(model: SequenceModel, data: Sequences, num: int, seed: int | None) -> Iterator[Array]:
    """Data sets (B, T, M), with NaN where the data have no value."""
    batch, num_steps = data.x.shape[:2]
    size, done = max(1, LARGEST // data.x.numel()), 0
    while done < num:
        count = min(size, num - done)
        inputs = None if data.inputs is None else data.inputs.repeat(count, 1, 1)
        own = None if seed is None else seed + 7919 * done
        x = model.sample(count * batch, num_steps, seed=own, inputs=inputs).x
        for part in np.asarray(x.double().cpu()).reshape(count, *data.x.shape):
            yield _values(data, part)
        done += count


def _values(data: Sequences, x: Array) -> Array:
    """x (B, T, *event) as (B, T, M), NaN where the data have no value."""
    there = np.broadcast_to(np.asarray(over_events(data.mask, data.x).cpu()), x.shape)
    return np.where(there, x, np.nan).reshape(*x.shape[:2], -1)


def _statistics(values: Array, variable: str, kind: Kind, words: tuple[str, ...]) -> Iterator[tuple[str, Statistic]]:
    """The statistics of a variable with these values, by their names; none where nothing was observed."""
    if not np.isfinite(values).any():
        return
    if kind == "symbol":
        yield from _of_symbols(values, variable, words)
        return
    yield f"mean of {variable}", lambda x: float(np.nanmean(x))
    if kind != "binary":
        yield f"sd of {variable}", lambda x: float(np.nanstd(x))
    if values.shape[1] > 1:
        yield f"lag-1 correlation of {variable}", lambda x: float(autocorrelations(x, 1)[0][0])
    if kind == "count" or (kind == "real" and bool((values == 0).any())):
        yield f"share of zeros in {variable}", lambda x: _share(x, x == 0)
    if kind != "binary":
        yield f"smallest {variable}", lambda x: float(np.nanmin(x))
        yield f"largest {variable}", lambda x: float(np.nanmax(x))


def _of_symbols(values: Array, variable: str, words: tuple[str, ...]) -> Iterator[tuple[str, Statistic]]:
    symbols, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    commonest = int(symbols[counts.argmax()])
    yield f"share of {words[commonest]} in {variable}", lambda x: _share(x, x == commonest)
    if values.shape[1] > 1:
        yield f"share of repeats in {variable}", _repeats
    yield f"distinct symbols in {variable}", lambda x: float(len(np.unique(x[np.isfinite(x)])))


def _share(x: Array, which: NDArray[np.bool_]) -> float:
    return float(which.sum() / np.isfinite(x).sum())


def _repeats(x: Array) -> float:
    pairs = np.isfinite(x[:, 1:]) & np.isfinite(x[:, :-1])
    return float((x[:, 1:] == x[:, :-1])[pairs].mean()) if pairs.any() else math.nan


def _row(own: float, simulated: Array) -> tuple[float, ...]:
    kept = simulated[np.isfinite(simulated)]
    if len(kept) == 0 or not math.isfinite(own):
        return own, math.nan, math.nan, math.nan
    below, above = ((part.sum() + 1) / (len(kept) + 1) for part in (kept <= own, kept >= own))
    return own, float(kept.mean()), float(kept.std()), min(1.0, float(2 * min(below, above)))


def _distance(row: tuple[float, ...]) -> float:
    """How far the data are from the simulations, in standard deviations of these; infinite where none vary."""
    own, mean, sd, _ = row
    if math.isnan(mean) or own == mean:
        return 0.0
    return abs(own - mean) / sd if sd > 0 else math.inf


def _is_far(row: tuple[float, ...], num_simulations: int) -> bool:
    return row[3] <= 2 / (num_simulations + 1) + 1e-12 and _distance(row) > FAR


def _findings(far: list[str], values: dict[str, tuple[float, ...]]) -> tuple[str, ...]:
    if not far:
        return ()
    own, mean, sd, _ = values[far[0]]
    return (
        f"Data simulated from the model differ from these in {listed(far, 'statistic')} ({far[0]} is {own:.3g} in the "
        f"data, {mean:.3g} ± {sd:.2g} in simulations): the model lacks this feature; use another family or more states "
        "if it matters to you",
    )
