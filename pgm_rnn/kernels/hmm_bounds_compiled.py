"""An upper bound on the backward numbers, compiled by numba: it shows whether a lost state can matter.

Arrays are those of `pgm_rnn.kernels.hmm_compiled`. The module is imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.hmm_compiled import Floats, Integers, jit


@jit
def exceeds(
    transition: Floats,
    log_emission: Floats,
    emission: Floats,
    scale: Floats,
    lengths: Integers,
    reachable: NDArray[np.bool_],
    limit: float,
    largest: float,
    tiny: float,
    exceeding: NDArray[np.bool_],
) -> None:
    """Set `exceeding` (B,) if a backward number of a reachable state is above `limit` (condition 3 of `hmm_losses`).

    Emissions are raised to at least `tiny` and K `tiny` is added to each sum, so that underflow cannot make the bound
    too small; numbers are capped at `largest`. `reachable` is (P, T or less, K).
    """
    num_states, varying = emission.shape[2], transition.shape[1] > 1
    for b in numba.prange(emission.shape[0]):
        p, row = b % transition.shape[0], b % reachable.shape[0]
        beta, after = np.ones(num_states, emission.dtype), np.zeros(num_states, emission.dtype)
        for t in range(lengths[b] - 1, -1, -1):
            column, inverse = min(t, reachable.shape[1] - 1), emission.dtype.type(1) / scale[b, t]
            if t < lengths[b] - 1:
                q = t if varying else 0
                for i in range(num_states):
                    total = emission.dtype.type(num_states * tiny)
                    for j in range(num_states):
                        total += transition[p, q, i, j] * after[j]
                    beta[i] = total
            for j in range(num_states):
                exceeding[b] |= reachable[row, column, j] and not beta[j] <= limit  # true for NaN, too
                value = emission[b, t, j]
                if value < tiny and log_emission[b, t, j] > -np.inf:
                    value = emission.dtype.type(tiny)
                value *= beta[j] * inverse
                after[j] = value if value < largest else largest
            if exceeding[b]:
                break
