"""Inversion of many distribution functions at sorted points, compiled by numba: one pass over weights and points."""

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(parallel=True, cache=True, error_model="numpy")
def invert_sorted(weights: NDArray[np.float64], points: NDArray[np.float64], found: NDArray[np.int64]) -> None:
    """Fill `found` (N, B) with the first index at which the running sum of a column exceeds point times its sum.

    Points (N, B) ascend in each column, in [0, 1). An index of weight zero is never found.
    """
    num, batch = weights.shape
    for b in numba.prange(batch):
        total, last = 0.0, 0
        for n in range(num):
            total += weights[n, b]
            if weights[n, b] > 0.0:
                last = n
        index, until = 0, weights[0, b]
        for n in range(num):
            target = points[n, b] * total
            while index < last and not until > target:
                index += 1
                until += weights[index, b]
            found[n, b] = index
