"""Inversion of many distribution functions at one point in each of N equal parts, compiled by numba.

Index i is found at the points (n + u_n) / N between the running sums C_{i-1} / C_N and C_i / C_N of the weights: these
are the points k_{i-1}, ..., k_i - 1, where k_i is the number of points below C_i / C_N. Each index is written where its
points begin (one without points is overwritten by the next), and a running maximum fills the places between.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted


@jitted(parallel=True, error_model="numpy")
def invert_even(
    weights: NDArray[np.floating], uniforms: NDArray[np.float64], chosen: NDArray[np.bool_], found: NDArray[np.int64]
) -> None:
    """Fill `found` (B, N): the first index at which the running sum of a row exceeds (n + u_n) / N times its sum.

    Weights (B, N) may be unnormalised; uniforms (B, N), or (B, 1) for the same u in each of the N parts. An index of
    weight zero is never found. Rows that are not chosen, (B,), get 0..N-1; rows with a negative or infinite weight, NaN
    or no positive weight get -1.
    """
    batch, num = weights.shape
    one = uniforms.shape[1] == 1
    for b in numba.prange(batch):
        if not chosen[b]:
            for n in range(num):
                found[b, n] = n
            continue
        total, last, negative = 0.0, 0, False
        for n in range(num):
            total += weights[b, n]
            last = n if weights[b, n] > 0.0 else last
            negative |= weights[b, n] < 0.0
            found[b, n] = 0
        if negative or not 0.0 < total < np.inf:
            found[b] = -1
            continue
        scale, until, begin, largest = num / total, 0.0, 0, 0
        for n in range(last + 1):
            if begin < num:
                found[b, begin] = n
            until += weights[b, n]
            reached = until * scale
            part = min(int(reached), num - 1)
            begin = max(begin, part + (uniforms[b, 0 if one else part] < reached - part))
        for n in range(num):
            largest = max(largest, found[b, n])
            found[b, n] = largest
