"""The scaled forward and backward recursions compiled by numba, parallel over sequences.

Arrays as in `pgm_rnn.kernels.hmm`; `transition` is (P, 1 or T - 1, K, K). Imported only when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

jit = numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@jit
def forward(
    initial: Floats,
    transition: Floats,
    log_emission: Floats,
    emission: Floats,
    shift: Floats,
    lengths: Integers,
    filtered: Floats,
    scale: Floats,
    tiny: float,
) -> None:
    """Fill `filtered` (B, T, K) and `scale` (B, T), which is zero from the first impossible observation on.

    `emission` is exp(log_emission - shift). Where a step's scale falls below `tiny`, because states out of reach fit
    best, both are set anew from the states within reach.
    """
    num_states = emission.shape[2]
    for b in numba.prange(emission.shape[0]):
        for t in range(lengths[b]):
            row = filtered[b, t]
            if t == 0:
                for j in range(num_states):
                    row[j] = initial[b % initial.shape[0], j]
            else:
                matrix = transition[b % transition.shape[0], (t - 1) % transition.shape[1]]
                previous = filtered[b, t - 1]
                for j in range(num_states):
                    row[j] = 0.0
                for i in range(num_states):
                    weight = previous[i]
                    if weight != 0.0:
                        for j in range(num_states):
                            row[j] += weight * matrix[i, j]
            total = row[0] * 0.0
            for j in range(num_states):
                total += row[j] * emission[b, t, j]
            if total < tiny:
                largest = -np.inf
                for j in range(num_states):
                    if row[j] > 0.0 and log_emission[b, t, j] > largest:
                        largest = log_emission[b, t, j]
                total = row[0] * 0.0
                if largest > -np.inf:
                    shift[b, t] = largest
                    for j in range(num_states):
                        emission[b, t, j] = np.exp(min(log_emission[b, t, j] - largest, 80.0))
                        total += row[j] * emission[b, t, j]
            scale[b, t] = total
            inverse = 1.0 / total if total != 0.0 else 0.0
            for j in range(num_states):
                row[j] *= emission[b, t, j] * inverse


@jit
def backward(
    transition: Floats,
    emission: Floats,
    scale: Floats,
    lengths: Integers,
    filtered: Floats,
    future: Floats,
    smoothed: Floats,
) -> None:
    """Fill `smoothed` (B, T, K) and `future` (B, T, K), with zeros in the padding.

    future[t, j] = p(x_t | j) beta_t(j) / c_t, where beta_t(i) = sum_j transition[t][i, j] future[t + 1, j], is what
    gradients need: d log p / d transition[t][i, j] = filtered[t, i] future[t + 1, j], d log p / d initial = future[0].
    """
    num_states = emission.shape[2]
    for b in numba.prange(emission.shape[0]):
        last = lengths[b] - 1
        for t in range(last + 1, emission.shape[1]):
            for j in range(num_states):
                future[b, t, j] = 0.0
                smoothed[b, t, j] = 0.0
        for t in range(last, -1, -1):
            inverse = 1.0 / scale[b, t] if scale[b, t] != 0.0 else 0.0
            matrix = transition[b % transition.shape[0], t % transition.shape[1]]
            for i in range(num_states):
                beta = emission[b, t, i] * 0.0 + 1.0
                if t < last:
                    beta = emission[b, t, i] * 0.0
                    for j in range(num_states):
                        beta += matrix[i, j] * future[b, t + 1, j]
                future[b, t, i] = emission[b, t, i] * beta * inverse
                smoothed[b, t, i] = filtered[b, t, i] * beta


@jit
def most_likely_states(
    log_initial: Floats,
    log_transition: Floats,
    log_emission: Floats,
    lengths: Integers,
    best: NDArray[np.int32],
    states: Integers,
    log_prob: Floats,
) -> None:
    """Viterbi: fill `states` (B, T), zero in the padding, and `log_prob` (B,); `best` (B, T, K) is working space."""
    num_states = log_emission.shape[2]
    for b in numba.prange(log_emission.shape[0]):
        last = lengths[b] - 1
        score = np.empty(num_states, log_emission.dtype)
        for j in range(num_states):
            score[j] = log_initial[b % log_initial.shape[0], j] + log_emission[b, 0, j]
        for t in range(1, last + 1):
            matrix = log_transition[b % log_transition.shape[0], (t - 1) % log_transition.shape[1]]
            previous = score.copy()
            for j in range(num_states):
                score[j] = previous[0] + matrix[0, j]
                best[b, t, j] = 0
            for i in range(1, num_states):
                for j in range(num_states):
                    value = previous[i] + matrix[i, j]
                    if value > score[j]:
                        score[j] = value
                        best[b, t, j] = i
            for j in range(num_states):
                score[j] += log_emission[b, t, j]
        state = np.argmax(score)
        log_prob[b] = score[state]
        for t in range(last, -1, -1):
            states[b, t] = state
            if t > 0:
                state = best[b, t, state]
