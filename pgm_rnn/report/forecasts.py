"""A forecast as a result: tensors, a table with the user's ids, times and names, and files of both.

The table has one row per sequence, step and variable, and per word where the variable is a symbol. Its columns are id,
time and `variable`, then `mean`, `median`, `lower_50`, `upper_50` and so on for numbers, `word` and `probability` for
symbols.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pgm_rnn.legend import Legend
from pgm_rnn.report import figures
from pgm_rnn.report.future_times import future_times
from pgm_rnn.report.places import Values, frame_of, ids_of, name_of_ids, name_of_times
from pgm_rnn.report.table_files import PARQUET, Writer, table_writers, write_table_file
from pgm_rnn.results import shown
from pgm_rnn.sequences import Sequences

FORECAST_FILES = (".csv", PARQUET, *figures.SUFFIXES)
"""Suffixes of the files that `Forecast.write` makes."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """Result of `pgm_rnn.forecast`: laws of N steps after each of B sequences, for M variables.

    Attributes:
        how: what the numbers come from: exact moments, an exact mixture, or draws.
        levels: probabilities of the intervals, in percent.
        means: (B, N, M), NaN where a variable is a symbol.
        medians: (B, N, M).
        intervals: lower and upper ends of the central intervals, (num_levels, 2, B, N, M).
        probs: probabilities of the symbols of each variable that is one, (B, N, V), by its place 0..M - 1.
        data: the sequences before.
    """

    how: str
    levels: tuple[float, ...]
    means: Tensor
    medians: Tensor
    intervals: Tensor
    probs: dict[int, Tensor]
    data: Sequences

    def __repr__(self) -> str:
        """How it was made, and sizes."""
        return shown(self, "how", "levels", "means")

    @property
    def legend(self) -> Legend | None:
        """Names, ids and times of the sequences before, or None."""
        return self.data.legend

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each variable; "1", "2", ... where the data have none."""
        width = self.means.shape[-1]
        if self.legend is not None and len(self.legend.columns) == width:
            return tuple(column.name for column in self.legend.columns)
        return tuple(str(number) for number in range(1, width + 1))

    def times(self) -> tuple[str, list[Values]]:
        """Name of the time, and the times of the steps of each sequence; step numbers where no times can go on."""
        num_steps = self.means.shape[1]
        found = future_times(self.legend, num_steps)
        if found is not None:
            return name_of_times(self.legend), found
        lengths = self.data.lengths.tolist()
        return "step", [np.arange(length + 1, length + num_steps + 1) for length in lengths]

    def words(self, place: int) -> tuple[str, ...]:
        """The words of a variable that is a symbol; the numbers 0, 1, ... where the data have none."""
        size = self.probs[place].shape[-1]
        if self.legend is not None and len(self.legend.columns) == len(self.names):
            words = self.legend.columns[place].words
            if len(words) == size:
                return words
        return tuple(str(symbol) for symbol in range(size))

    def to_frame(self) -> Any:
        """A pandas DataFrame, as described in the module's text.

        Dates and numbers of time go on in the sequence's own step; where times are unknown or words, the column is
        "step", from the sequence's length + 1 on.
        """
        num_sequences, num_steps, width = self.means.shape
        counts = [self.probs[place].shape[-1] if place in self.probs else 1 for place in range(width)]
        repeats = np.tile(counts, num_sequences * num_steps)  # rows of each (sequence, step, variable)
        sequence, step, place = (np.repeat(part.ravel(), repeats) for part in np.indices(self.means.shape))
        columns = {"variable": np.asarray(self.names, dtype=object)[place]}
        if self.probs:
            columns |= self._of_symbols(num_sequences, num_steps, counts)
        if len(self.probs) < width:
            columns |= {name: values.ravel().repeat(repeats) for name, values in self._of_numbers()}
        return frame_of(self._keys(sequence, step), columns)

    def write(self, path: str | Path) -> None:
        """Write the table (.csv, .parquet) or a picture (.png, .svg).

        Raises:
            ValueError: another suffix, a folder that cannot be written to, or a .parquet without pyarrow.
            OSError: the file cannot be written; an earlier one stays.
        """
        pictures: dict[str, Writer] = {suffix: partial(self._picture, suffix) for suffix in figures.SUFFIXES}
        write_table_file(Path(path), table_writers(self.to_frame) | pictures)

    def _picture(self, suffix: str) -> bytes:
        from pgm_rnn.report.forecast_pictures import fan

        figure: Any = fan(self)[0].figure
        return figures.rendered(figure, suffix)

    def _keys(self, sequence: Values, step: Values) -> dict[str, Values]:
        name, times = self.times()
        keys: dict[str, Values] = {}
        if self.legend is None or self.legend.ids or len(times) > 1:
            keys[name_of_ids(self.legend)] = ids_of(self.legend, len(times))[sequence]
        return keys | {name: np.stack(times)[sequence, step]}

    def _of_numbers(self) -> Iterator[tuple[str, Values]]:
        yield "mean", self.means.numpy()
        yield "median", self.medians.numpy()
        for level, (lower, upper) in zip(self.levels, self.intervals, strict=True):
            yield f"lower_{level:g}", lower.numpy()
            yield f"upper_{level:g}", upper.numpy()

    def _of_symbols(self, num_sequences: int, num_steps: int, counts: list[int]) -> dict[str, Values]:
        words, probs = [], []
        for place, count in enumerate(counts):
            symbol = place in self.probs
            words += list(self.words(place)) if symbol else [""]
            missing = np.full((num_sequences, num_steps, count), np.nan)
            probs.append(self.probs[place].numpy() if symbol else missing)
        named = np.tile(np.asarray(words, dtype=object), num_sequences * num_steps)
        return {"word": named, "probability": np.concatenate(probs, axis=-1).ravel()}
