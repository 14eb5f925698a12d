"""What `read_sequences` reads of a file of numbers, in the form of plain arrays."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.data.reading import read_sequences
from pgm_rnn.data.roles import ReadingWarning
from pgm_rnn.sequences import over_events


class Series(NamedTuple):
    """The numbers (batch, T, M) in float64, NaN where one is missing, and what was said of them."""

    x: Tensor
    columns: tuple[str, ...]
    lengths: Tensor | None
    notes: tuple[str, ...]
    time: str | None


def read_series(path: Path, columns: Sequence[str] = ()) -> Series:
    before = torch.get_default_dtype()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ReadingWarning)
        torch.set_default_dtype(torch.float64)
        try:
            data = read_sequences(path, columns=list(columns) or None, kind="real")
        finally:
            torch.set_default_dtype(before)
    assert data.legend is not None
    inside = data._replace(observed=None).mask
    x = data.x if data.observed is None else data.x.where(data.observed | ~over_events(inside, data.x), torch.nan)
    names, notes = tuple(column.name for column in data.legend.columns), tuple(str(w.message) for w in said)
    return Series(x, names, None if bool(inside.all()) else data.lengths, notes, data.legend.time)
