"""The scaled forward and backward recursions compiled by numba, parallel over sequences.

Arrays are those of `pgm_rnn.kernels.hmm`; `transition` is (P, 1 or T - 1, K, K). A thread takes `group` sequences, one
or two, through time together: two read their matrix once, and neither waits for the other's sums. An array
(B, T or 1, K) keeps every step or only one. The module is imported when it is first used.

Inner functions take whole arrays and indices, because a view made in the loop costs more than the loop over a few
states. Each is called in one place only, because every call is inlined and compiled again.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

FASTMATH = {"reassoc", "contract", "nsz"}
SMALL = 12
"""Number of states below which a row is too short for vector instructions."""

NEAR_ZERO = 1e-3
"""A belief whose sum is below this is normalised at once, so that its small entries do not underflow."""

BLOCK = 256
"""Number of steps whose expected transitions are summed separately, so that rounding does not grow with T."""

jit = jitted(parallel=True, error_model="numpy", fastmath=FASTMATH)
inner = jitted(inline="always", error_model="numpy", fastmath=FASTMATH)


@jit
def subtract_largest(log_emission: Floats, shifted: Floats, shift: Floats) -> None:
    """Fill `shift` (N,) with the largest of each row (N, K), 0 where that is infinite, and `shifted` with the rest."""
    for n in numba.prange(log_emission.shape[0]):
        largest = log_emission.dtype.type(-np.inf)
        for j in range(log_emission.shape[1]):
            if log_emission[n, j] > largest:
                largest = log_emission[n, j]
        if not np.isfinite(largest):
            largest = log_emission.dtype.type(0)
        shift[n] = largest
        for j in range(log_emission.shape[1]):
            shifted[n, j] = log_emission[n, j] - largest


@inner
def _times_matrix(rows: Floats, transition: Floats, p: int, q: int, results: Floats) -> None:
    """results[0] = rows[0] @ transition[p, q]."""
    num_states = rows.shape[1]
    for j in range(num_states):
        results[0, j] = 0
    blocked = num_states - num_states % 4
    for i in range(0, blocked, 4):
        a, b, c, d = rows[0, i], rows[0, i + 1], rows[0, i + 2], rows[0, i + 3]
        for j in range(num_states):
            first = a * transition[p, q, i, j] + b * transition[p, q, i + 1, j]
            results[0, j] += first + (c * transition[p, q, i + 2, j] + d * transition[p, q, i + 3, j])
    for i in range(blocked, num_states):
        for j in range(num_states):
            results[0, j] += rows[0, i] * transition[p, q, i, j]


@inner
def _two_times_matrix(rows: Floats, transition: Floats, results: Floats) -> None:
    """results = rows @ transition[0, 0], (2, K)."""
    num_states = rows.shape[1]
    for j in range(num_states):
        results[0, j] = 0
        results[1, j] = 0
    blocked = num_states - num_states % 4
    for i in range(0, blocked, 4):
        a, b, c, d = rows[0, i], rows[0, i + 1], rows[0, i + 2], rows[0, i + 3]
        e, f, g, h = rows[1, i], rows[1, i + 1], rows[1, i + 2], rows[1, i + 3]
        for j in range(num_states):
            u, v = transition[0, 0, i, j], transition[0, 0, i + 1, j]
            w, x = transition[0, 0, i + 2, j], transition[0, 0, i + 3, j]
            results[0, j] += (a * u + b * v) + (c * w + d * x)
            results[1, j] += (e * u + f * v) + (g * w + h * x)
    for i in range(blocked, num_states):
        for j in range(num_states):
            results[0, j] += rows[0, i] * transition[0, 0, i, j]
            results[1, j] += rows[1, i] * transition[0, 0, i, j]


@inner
def _matrix_times(transition: Floats, p: int, q: int, columns: Floats, results: Floats) -> None:
    """results[0] = transition[p, q] @ columns[0]."""
    for i in range(columns.shape[1]):
        total = columns.dtype.type(0)
        for j in range(columns.shape[1]):
            total += transition[p, q, i, j] * columns[0, j]
        results[0, i] = total


@inner
def _rescale(
    predicted: Floats,
    factor: float,
    log_emission: Floats,
    emission: Floats,
    shift: Floats,
    b: int,
    t: int,
    s: int,
    belief: Floats,
) -> np.floating:
    """Recompute a step's emission and shift from the states within reach; returns the scale, 0 if there are none."""
    largest = predicted.dtype.type(-np.inf)
    for j in range(predicted.shape[1]):
        if predicted[s, j] > 0 and log_emission[b, t, j] > largest:
            largest = log_emission[b, t, j]
        belief[s, j] = 0
    total = predicted.dtype.type(0)
    if largest > -np.inf:
        shift[b, t] = largest
        for j in range(predicted.shape[1]):
            emission[b, t, j] = np.exp(min(log_emission[b, t, j] - largest, 80.0))
            belief[s, j] = predicted[s, j] * factor * emission[b, t, j]
            total += belief[s, j]
    return total


@jit
def forward(
    initial: Floats,
    transition: Floats,
    transposed: Floats,
    log_emission: Floats,
    emission: Floats,
    shift: Floats,
    lengths: Integers,
    filtered: Floats,
    scale: Floats,
    tiny: float,
    group: int,
    least: float,
    floor: float,
    reachable: NDArray[np.bool_],
    lost: NDArray[np.int8],
) -> None:
    """Fill `filtered` (B, T or 1, K) and `scale` (B, T): Rabiner (1989), eq. (19)-(20), scaled by eq. (91)-(93).

    `scale` is zero from the first impossible observation on. `emission` is exp(log_emission - shift). If a step's scale
    falls below `tiny`, because states out of reach fit best, both are recomputed from the states within reach. A belief
    is passed on unnormalised with the inverse of its sum, so that the next product need not wait for the division.
    `transposed` is transition[:1, :1] with its last axes swapped.

    With `least` > 0, `lost` (B,) becomes 2 if a scale is below `floor`, else 1 if the belief of a possible state is
    below `least` (`hmm_losses`); `reachable` is (P, T or less, K).
    """
    num_sequences, num_steps, num_states = emission.shape
    varying, shared = transition.shape[1] > 1, transition.shape[0] * transition.shape[1] == 1
    kept = filtered.shape[1] == num_steps
    for g in numba.prange((num_sequences + group - 1) // group):
        start, stop = g * group, min(g * group + group, num_sequences)
        p = start % transition.shape[0]
        belief, predicted = np.zeros((2, num_states), emission.dtype), np.zeros((2, num_states), emission.dtype)
        factors = np.ones(2, emission.dtype)
        for t in range(num_steps):
            q = t - 1 if varying else 0
            if t > 0:
                if group == 2:
                    _two_times_matrix(belief, transition, predicted)
                elif shared and num_states < SMALL:
                    _matrix_times(transposed, 0, 0, belief, predicted)
                else:
                    _times_matrix(belief, transition, p, q, predicted)
            for b in range(start, stop):
                if t >= lengths[b]:
                    continue
                s, factor = b - start, factors[b - start]
                if t == 0:
                    for j in range(num_states):
                        predicted[s, j] = initial[b % initial.shape[0], j]
                total = emission.dtype.type(0)
                for j in range(num_states):
                    value = predicted[s, j] * (emission[b, t, j] * factor)
                    belief[s, j] = value
                    total += value
                if least > 0 and not total >= floor:  # true for NaN, too
                    lost[b] = 2
                if total < tiny:
                    total = _rescale(predicted, factor, log_emission, emission, shift, b, t, s, belief)
                scale[b, t] = total
                inverse = emission.dtype.type(1) / total if total != 0 else total
                if least > 0 and lost[b] == 0:
                    num_small = 0
                    for j in range(num_states):
                        num_small += belief[s, j] * inverse < least
                    row, column = b % reachable.shape[0], min(t, reachable.shape[1] - 1)
                    for j in range(num_states if num_small > 0 else 0):
                        possible = predicted[s, j] > 0 or reachable[row, column, j]
                        if possible and belief[s, j] * inverse < least and log_emission[b, t, j] > -np.inf:
                            lost[b] = 1
                if kept:
                    for j in range(num_states):
                        filtered[b, t, j] = belief[s, j] * inverse
                factors[s] = inverse
                if not NEAR_ZERO < total < 1 / NEAR_ZERO:
                    factors[s] = 1
                    for j in range(num_states):
                        belief[s, j] *= inverse


@inner
def _count(filtered: Floats, ring: Floats, b: int, t: int, s: int, block: Floats, counts: Floats) -> None:
    """Add filtered[u, i] future[u + 1, j], u = t..t + 3, to the block, and a full block to the counts.

    It takes four steps at a time, because otherwise most of the time goes into reading and writing the block.
    ring[s, u & 3] is future[u], and zero past the end.
    """
    last = filtered.shape[1] - 1
    for i in range(ring.shape[2]):
        u, v = filtered[b, t, i], filtered[b, min(t + 1, last), i]
        w, x = filtered[b, min(t + 2, last), i], filtered[b, min(t + 3, last), i]
        for j in range(ring.shape[2]):
            block[s, i, j] += (u * ring[s, 1, j] + v * ring[s, 2, j]) + (w * ring[s, 3, j] + x * ring[s, 0, j])
    if t % BLOCK == 0:
        for i in range(ring.shape[2]):
            for j in range(ring.shape[2]):
                counts[b, i, j] += block[s, i, j]
                block[s, i, j] = 0


@jit
def backward(
    transition: Floats,
    transposed: Floats,
    emission: Floats,
    scale: Floats,
    lengths: Integers,
    filtered: Floats,
    weights: Floats,
    future: Floats,
    smoothed: Floats,
    counts: Floats,
    group: int,
    largest: float,
) -> None:
    """Fill `smoothed` (B, T, K) and `future` (B, T or 1, K), zero in the padding, and add to `counts` (B or 0, K, K).

        w beta_t(i) = sum_j transition[t][i, j] future[t + 1, j]       future[t, j] = w p(x_t | j) beta_t(j) / c_t
        w d log p / d transition[t][i, j] = filtered[t, i] future[t + 1, j]       w d log p / d initial = future[0]

    where w is the sequence's weight, which `smoothed` has, too. `counts` is the gradient in the transitions summed over
    time, if it is asked for. `transposed` is as in `forward`. For a state that no path reaches, future may grow without
    bound: its size is capped at `largest`. Source: Rabiner (1989), eq. (24)-(25), (27) and (37), scaled.
    """
    num_sequences, num_steps, num_states = emission.shape
    varying, shared = transition.shape[1] > 1, transition.shape[0] * transition.shape[1] == 1
    counted, kept = counts.shape[0] > 0, future.shape[1] == num_steps
    for g in numba.prange((num_sequences + group - 1) // group):
        start, stop = g * group, min(g * group + group, num_sequences)
        p = start % transition.shape[0]
        beta, after = np.zeros((2, num_states), emission.dtype), np.zeros((2, num_states), emission.dtype)
        ring = np.zeros((2, 4, num_states), emission.dtype)
        block = np.zeros((2, num_states if counted else 0, num_states), emission.dtype)
        for t in range(num_steps - 1, -1, -1):
            q = t if varying and t < num_steps - 1 else 0
            if group == 2:
                _two_times_matrix(after, transposed, beta)
            elif shared and num_states >= SMALL:
                _times_matrix(after, transposed, 0, 0, beta)
            else:
                _matrix_times(transition, p, q, after, beta)
            for b in range(start, stop):
                s, last = b - start, lengths[b] - 1
                if t > last:
                    for j in range(num_states):
                        smoothed[b, t, j] = 0
                        future[b, t if kept else 0, j] = 0
                    continue
                if t == last:
                    for j in range(num_states):
                        beta[s, j] = weights[b]
                if counted and t & 3 == 0:
                    _count(filtered, ring, b, t, s, block, counts)
                inverse = emission.dtype.type(1) / scale[b, t] if scale[b, t] != 0 else scale[b, t]
                for j in range(num_states):
                    smoothed[b, t, j] = filtered[b, t, j] * beta[s, j]
                    value = emission[b, t, j] * beta[s, j] * inverse
                    if value > largest:
                        value = emission.dtype.type(largest)
                    elif value < -largest:  # the weight is negative
                        value = emission.dtype.type(-largest)
                    after[s, j] = value
                    ring[s, t & 3, j] = value
                    future[b, t if kept else 0, j] = value


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
    """Viterbi: fill `states` (B, T), zero in the padding, and `log_prob` (B,); `best` (B, T, K) is working space.

    Scores are float64, so that they stay exact for long sequences; candidates are compared in the given dtype after the
    best score is subtracted. Source: Rabiner (1989), eq. (32)-(35), in logarithms.
    """
    num_states = log_emission.shape[2]
    for b in numba.prange(log_emission.shape[0]):
        last = lengths[b] - 1
        score, former = np.empty(num_states, np.float64), np.empty(num_states, np.float64)
        previous, arrival = np.empty(num_states, log_emission.dtype), np.empty(num_states, log_emission.dtype)
        highest = -np.inf
        for j in range(num_states):
            score[j] = np.float64(log_initial[b % log_initial.shape[0], j]) + log_emission[b, 0, j]
            highest = max(highest, score[j])
        for t in range(1, last + 1):
            matrix = log_transition[b % log_transition.shape[0], (t - 1) % log_transition.shape[1]]
            offset, highest = highest if highest > -np.inf else 0.0, -np.inf
            for j in range(num_states):
                former[j] = score[j]
                previous[j] = score[j] - offset
            for j in range(num_states):
                arrival[j] = previous[0] + matrix[0, j]
                best[b, t, j] = 0
            for i in range(1, num_states):
                for j in range(num_states):
                    value = previous[i] + matrix[i, j]
                    if value > arrival[j]:
                        arrival[j] = value
                        best[b, t, j] = i
            for j in range(num_states):
                i = best[b, t, j]
                score[j] = former[i] + matrix[i, j] + log_emission[b, t, j]
                highest = max(highest, score[j])
        state = np.argmax(score)
        log_prob[b] = score[state]
        for t in range(last, -1, -1):
            states[b, t] = state
            if t > 0:
                state = best[b, t, state]
