"""Weights of few particles from their logarithms, compiled by numba; `pgm_rnn.kernels.weights` is the definition.

torch takes ten calls, each of which takes longer than all that is to be computed for a hundred particles. The module is
imported when it is first used.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted

Floats = NDArray[np.floating]


@jitted(parallel=False, error_model="numpy")
def normalize(
    given: Floats, least: float, log_total: Floats, log_weights: Floats, weights: Floats, ess: Floats
) -> None:
    """Fill what `pgm_rnn.kernels.weights.Normalized` holds from log weights (N, B); sums are in double precision."""
    num, batch = given.shape
    for b in range(batch):
        largest = given[0, b]
        for n in range(num):
            largest = given[n, b] if given[n, b] > largest or math.isnan(given[n, b]) else largest
        largest = max(largest, np.finfo(given.dtype).min) if not math.isnan(largest) else largest
        total: float = 0.0
        squares: float = 0.0
        for n in range(num):
            difference = given[n, b] - largest
            weight = given.dtype.type(0) if difference <= least else np.exp(difference)
            weights[n, b] = weight
            total += float(weight)
            squares += float(weight) * float(weight)
        sum_of_all = largest + math.log(total)
        for n in range(num):
            log_weights[n, b] = given[n, b] - sum_of_all
        log_total[b], ess[b] = sum_of_all, total * total / squares
