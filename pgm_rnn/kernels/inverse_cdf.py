"""Inversion of many distribution functions at points that ascend, compiled by numba: one pass over the weights."""

import numba
import numpy as np
from numpy.typing import NDArray

COLUMNS = 16
"""Columns that go together: as many float32 as a line of the cache holds."""


def _invert_even(
    weights: NDArray[np.floating], uniforms: NDArray[np.float64], chosen: NDArray[np.bool_], found: NDArray[np.int64]
) -> None:
    """Fill `found` (N, B): the first index at which the running sum of a column exceeds (n + u) / N times its sum.

    Weights (N, B) may be unnormalised; uniforms (N, B), or (1, B) for the same u in each of the N parts. An index of
    weight zero is never found. Columns that are not chosen, (B,), get 0..N-1.
    """
    num, batch = weights.shape
    one = uniforms.shape[0] == 1
    for block in numba.prange((batch + COLUMNS - 1) // COLUMNS):
        start = block * COLUMNS
        width = min(COLUMNS, batch - start)
        total, until = np.zeros(COLUMNS), np.zeros(COLUMNS)
        last, index = np.zeros(COLUMNS, np.int64), np.zeros(COLUMNS, np.int64)
        for n in range(num):
            for c in range(width):
                weight = weights[n, start + c]
                total[c] += weight
                if weight > 0.0:
                    last[c] = n
        for c in range(width):
            until[c] = weights[0, start + c]
        for n in range(num):
            for c in range(width):
                b = start + c
                if not chosen[b]:
                    found[n, b] = n
                    continue
                target = (n + uniforms[0 if one else n, b]) / num * total[c]
                while index[c] < last[c] and not until[c] > target:
                    index[c] += 1
                    until[c] += weights[index[c], b]
                found[n, b] = index[c]


invert_even = numba.njit(parallel=True, cache=True, error_model="numpy")(_invert_even)
invert_even_alone = numba.njit(cache=True, error_model="numpy")(_invert_even)
"""In one thread, for problems that end before another thread has woken."""
