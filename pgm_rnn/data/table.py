"""The arrays of a file as they are used."""

from typing import Any, NamedTuple

import numpy as np


class Table(NamedTuple):
    """Columns of numbers.

    Attributes:
        values: (batch, T, M), float64, NaN where a number is missing, zeros in the padding.
        lengths: (batch,), int64; None where no series is padded.
        notes: a sentence on each part of the file that is left out.
        inputs: exogenous inputs, (batch, T, input_dim), float64, where the file has some.
    """

    values: np.ndarray[Any, np.dtype[np.float64]]
    lengths: np.ndarray[Any, np.dtype[np.int64]] | None = None
    notes: tuple[str, ...] = ()
    inputs: np.ndarray[Any, np.dtype[np.float64]] | None = None


def numbered(width: int) -> list[str]:
    """Names for columns that have none: "1", "2", ..."""
    return [str(number + 1) for number in range(width)]
