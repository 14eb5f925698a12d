"""Columns of a table in the form in which pandas writes them fastest, and as short as they can be read again.

single precision    the double whose decimal is the shortest, of 6 to 9 digits, that is the same single
times               their texts, made once for each time
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = range(6, 10)
"""Digits that are tried; nine are enough for every number in single precision."""


def written_fast(frame: Any) -> Any:
    """The table with other columns, whose .csv says the same and is written in a fraction of the time."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, column in frame.items():
        if column.dtype == np.float32:
            column = shortest_doubles(column.to_numpy()).astype(object)
        elif column.dtype == np.float64:
            column = column.to_numpy().astype(object)  # Python prints it faster than numpy
        elif column.dtype.kind == "M" and not column.isna().any():
            codes, times = pd.factorize(column)
            column = pd.Series(times).astype(str).to_numpy(dtype=object)[codes]
        columns[name] = column
    return pd.DataFrame(columns)


def shortest_doubles(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Doubles that print in few digits and are `values` in single precision: 0.1 for the single next to 0.1."""
    exact = values.astype(np.float64)
    found, open_ = exact.copy(), np.isfinite(exact) & (exact != 0)
    for digits in DIGITS:
        places = np.flatnonzero(open_)
        if not len(places):
            break
        some = exact[places]
        exponents = digits - 1 - np.floor(np.log10(np.abs(some))).astype(int)
        up, down = 10.0 ** np.clip(exponents, 0, 300), 10.0 ** np.clip(-exponents, 0, 300)
        rounded = np.rint(some * up / down) / up * down  # powers of ten up to 1e22 are exact, so this rounds once
        fits = rounded.astype(np.float32) == values[places]
        found[places[fits]] = rounded[fits]
        open_[places[fits]] = False
    return found
