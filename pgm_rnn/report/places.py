"""The sequence, the time and the source's row of every step of a batch, as columns of a table.

With a legend the columns have the user's names, ids and times, and rows stand in the order of the source. Without one
they are the number of the sequence, from 0, and the step, from 1. Padding has no place.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.legend import Legend

Values = NDArray[Any]
CLASH = "model_"
"""Prefix of a column of results whose name a column of the user's already has."""


class Places(NamedTuple):
    """Steps of a batch.

    Attributes:
        sequence: index of each step's sequence, from 0, (num_rows,).
        step: index of the step in its sequence, from 0, (num_rows,).
    """

    sequence: NDArray[np.int64]
    step: NDArray[np.int64]

    def of(self, values: Tensor) -> Values:
        """The values (B, T, ...) of these steps, (num_rows, ...)."""
        return values.detach().cpu().numpy()[self.sequence, self.step]


def places_of(lengths: Tensor, legend: Legend | None = None) -> Places:
    """All steps, in the order of the source's rows; steps that were no row (a negative number) are left out."""
    sizes = lengths.cpu().numpy()
    sequence = np.repeat(np.arange(len(sizes)), sizes)
    step = np.concatenate([np.arange(size) for size in sizes])
    if legend is None or not legend.rows:
        return Places(sequence, step)
    rows = np.concatenate([np.asarray(part) for part in legend.rows])
    order = np.argsort(rows, kind="stable")
    order = order[rows[order] >= 0]
    return Places(sequence[order], step[order])


def key_columns(places: Places, legend: Legend | None, num_sequences: int) -> dict[str, Values]:
    """The id and the time of each place, under the user's names; a single series without an id has no such column."""
    columns: dict[str, Values] = {}
    if legend is None or legend.ids or num_sequences > 1:
        columns[name_of_ids(legend)] = ids_of(legend, num_sequences)[places.sequence]
    if legend is not None and legend.times:
        starts = np.cumsum([0, *(len(times) for times in legend.times[:-1])])
        times = np.concatenate([np.asarray(times) for times in legend.times])
        columns[name_of_times(legend)] = times[starts[places.sequence] + places.step]
    else:
        columns[name_of_times(legend)] = places.step + 1
    return columns


def ids_of(legend: Legend | None, num_sequences: int) -> Values:
    """The id of each sequence, its number from 0 if it has none: (num_sequences,)."""
    if legend is None or not legend.ids:
        return np.arange(num_sequences)
    ids = np.empty(num_sequences, dtype=object)
    ids[:] = legend.ids
    return ids


def name_of_ids(legend: Legend | None) -> str:
    """The name of the column of ids."""
    return (None if legend is None else legend.sequence) or "sequence"


def name_of_times(legend: Legend | None) -> str:
    """The name of the column of times; "step" where there are none."""
    if legend is None or not legend.times:
        return "step"
    return legend.time or "time"


def frame_of(keys: Mapping[str, Values], columns: Mapping[str, Values]) -> Any:
    """A pandas DataFrame of keys and results; a result whose name a key has already gets the prefix "model_"."""
    pandas: Any = import_module("pandas")  # a second to import, and used only here
    named = {(CLASH + name if name in keys else name): values for name, values in columns.items()}
    return pandas.DataFrame({**keys, **named}).infer_objects()
