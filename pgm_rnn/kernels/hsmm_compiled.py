"""The recursions of a hidden semi-Markov chain compiled by numba, parallel over sequences, in float64.

Arrays are those of `pgm_rnn.kernels.hsmm`. A step costs K D for the durations and K^2 for the moves. The beliefs of
every `stride`-th step are kept (`marks`), the ones between are computed again on the way back, so that memory grows
with sqrt(T) K D in place of T K D. The module is imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FASTMATH = {"reassoc", "contract", "nsz"}
LARGEST_LOG = 690.0
"""Cap on the logarithm of a factor, so that it stays finite where a state is out of reach."""

jit = jitted(parallel=True, error_model="numpy", fastmath=FASTMATH)
inner = jitted(inline="always", error_model="numpy", fastmath=FASTMATH)


@jit
def forward(
    initial: Floats,
    transition: Floats,
    durations: Floats,
    log_emission: Floats,
    lengths: Integers,
    log_normalizers: Floats,
    entering: Floats,
    factor: Floats,
    predicted: Floats,
    leaving: Floats,
    marks: Floats,
    stride: int,
) -> None:
    """Fill log c_t (B, T) and the four arrays (B, T, K) of `hsmm.Forward`, zero in the padding and when impossible.

    `marks` (B, M, K, D) gets the predicted beliefs of the steps 0, stride, 2 stride, ...; M = 0 keeps none.
    """
    num_states, longest = durations.shape
    for b in numba.prange(log_emission.shape[0]):
        belief = np.zeros((num_states, longest + 1))
        for t in range(lengths[b]):
            if t == 0:
                for j in range(num_states):
                    entering[b, t, j] = initial[j]
            else:
                for i in range(num_states):
                    out = leaving[b, t - 1, i]
                    for j in range(num_states):
                        entering[b, t, j] += out * transition[i, j]
            largest = -np.inf
            for k in range(num_states):
                kept, new, total = factor[b, t - 1, k] if t > 0 else 0.0, entering[b, t, k], 0.0
                for r in range(longest):
                    value = kept * belief[k, r + 1] + new * durations[k, r]
                    belief[k, r] = value
                    total += value
                predicted[b, t, k] = total
                if total > 0:
                    largest = max(largest, np.log(total) + log_emission[b, t, k])
            if largest == -np.inf:
                log_normalizers[b, t] = -np.inf
                break
            if marks.shape[1] > 0 and t % stride == 0:
                for k in range(num_states):
                    for r in range(longest):
                        marks[b, t // stride, k, r] = belief[k, r]
            total = 0.0
            for k in range(num_states):
                if predicted[b, t, k] > 0:
                    total += np.exp(np.log(predicted[b, t, k]) + log_emission[b, t, k] - largest)
            log_normalizers[b, t] = largest + np.log(total)
            for k in range(num_states):
                factor[b, t, k] = np.exp(min(log_emission[b, t, k] - log_normalizers[b, t], LARGEST_LOG))
                leaving[b, t, k] = factor[b, t, k] * belief[k, 0]


@jit
def backward(
    transition: Floats,
    durations: Floats,
    lengths: Integers,
    entering: Floats,
    factor: Floats,
    leaving: Floats,
    marks: Floats,
    stride: int,
    smoothed: Floats,
    first: Floats,
    moves: Floats,
    spells: Floats,
    highest: Floats,
) -> None:
    """Fill the gradients of log p(x_{1:T}): in log_emission (B, T, K), which is p(z_t | x_{1:T}), and in the tables.

    v_t(k, r), the gradient in the predicted belief of state k with r steps left, satisfies

        v_T(k, r) = f_T(k)     v_t(k, 1) = f_t(k) sum_j A_kj G_{t+1}(j)     v_t(k, r) = f_t(k) v_{t+1}(k, r - 1)
        G_t(k) = sum_r durations(k, r) v_t(k, r)

    `first` (B, K), `moves` (B, K, K) and `spells` (B, K, D) are the gradients in initial, transition and durations.
    `highest` (B,) becomes the largest sum of v_t(k, r) over r, which bounds the weight of anything that the forward
    recursion lost by underflow.
    """
    num_states, longest = durations.shape
    for b in numba.prange(lengths.shape[0]):
        length = lengths[b]
        value, former = np.zeros((num_states, longest)), np.zeros((num_states, longest))
        entry, after = np.zeros(num_states), np.zeros(num_states)
        block = np.zeros((stride, num_states, longest + 1))
        most = 0.0
        for m in range((length - 1) // stride, -1, -1):
            start, stop = m * stride, min(m * stride + stride, length)
            for k in range(num_states):
                for r in range(longest):
                    block[0, k, r] = marks[b, m, k, r]
                for t in range(start + 1, stop):
                    kept, new, s = factor[b, t - 1, k], entering[b, t, k], t - start
                    for r in range(longest):
                        block[s, k, r] = kept * block[s - 1, k, r + 1] + new * durations[k, r]
            for t in range(stop - 1, start - 1, -1):
                if t < length - 1:
                    for i in range(num_states):
                        total, out = 0.0, leaving[b, t, i]
                        for j in range(num_states):
                            total += transition[i, j] * entry[j]
                            moves[b, i, j] += out * entry[j]
                        after[i] = total
                for k in range(num_states):
                    scale, new, s = factor[b, t, k], entering[b, t, k], t - start
                    head = scale if t == length - 1 else scale * after[k]
                    value[k, 0] = head
                    total, share, size = head * durations[k, 0], head * block[s, k, 0], head
                    spells[b, k, 0] += new * head
                    if t == length - 1:
                        for r in range(longest - 1):
                            former[k, r] = 1.0
                    for r in range(1, longest):
                        v = scale * former[k, r - 1]
                        value[k, r] = v
                        total += v * durations[k, r]
                        share += v * block[s, k, r]
                        size += v
                        spells[b, k, r] += new * v
                    entry[k], smoothed[b, t, k] = total, share
                    if not size <= most:  # true for NaN, too
                        most = size
                value, former = former, value
        highest[b] = most
        for k in range(num_states):
            first[b, k] = entry[k]


@jit
def most_likely_states(
    log_initial: Floats,
    log_transition: Floats,
    log_durations: Floats,
    log_survival: Floats,
    log_emission: Floats,
    lengths: Integers,
    entered: Floats,
    source: NDArray[np.int32],
    begun: NDArray[np.int32],
    states: Integers,
    log_prob: Floats,
) -> None:
    """Viterbi over segments: fill `states` (B, T), zero in the padding, and `log_prob` (B,).

    Working space (B, T, K): `entered`, the best score on the way into a segment; `source`, the state before it;
    `begun`, the first step of the best segment that ends there. The last segment counts with log p(d >= its steps).
    """
    num_states, longest = log_durations.shape
    for b in numba.prange(log_emission.shape[0]):
        last = lengths[b] - 1
        score = np.full((num_states, longest + 1), -np.inf)
        since = np.zeros((num_states, longest + 1), np.int32)
        for t in range(last + 1):
            for j in range(num_states):
                best, origin = log_initial[j] if t == 0 else -np.inf, 0
                for i in range(num_states if t > 0 else 0):
                    candidate = score[i, 0] + log_transition[i, j]
                    if candidate > best:
                        best, origin = candidate, i
                entered[b, t, j], source[b, t, j] = best, origin
            for k in range(num_states):
                new, seen = entered[b, t, k], log_emission[b, t, k]
                for r in range(longest):
                    candidate = new + log_durations[k, r]
                    older = score[k, r + 1] >= candidate
                    score[k, r] = (score[k, r + 1] if older else candidate) + seen
                    since[k, r] = since[k, r + 1] if older else t
                begun[b, t, k] = since[k, 0]
        best, state, start = -np.inf, 0, last
        for k in range(num_states):
            total = 0.0
            for e in range(min(longest, last + 1)):
                total += log_emission[b, last - e, k]
                candidate = entered[b, last - e, k] + total + log_survival[k, e]
                if candidate > best:
                    best, state, start = candidate, k, last - e
        log_prob[b] = best
        stop = last
        while stop >= 0 and best > -np.inf:
            for t in range(start, stop + 1):
                states[b, t] = state
            stop = start - 1
            if stop >= 0:
                state = source[b, start, state]
                start = begun[b, stop, state]


@inner
def _drawn(log_weights: Floats, number: int, uniform: float) -> int:
    """The index of the first `number` entries that a uniform number draws in proportion to exp(log_weights)."""
    largest, total = -np.inf, 0.0
    for i in range(number):
        largest = max(largest, log_weights[i])
    for i in range(number):
        total += np.exp(log_weights[i] - largest)
    target, found, last = uniform * total, -1, 0
    total = 0.0
    for i in range(number):
        weight = np.exp(log_weights[i] - largest)
        total += weight
        if weight > 0:
            last = i
            if found < 0 and total > target:
                found = i
    return found if found >= 0 else last


@jit
def sample_states(
    log_transition: Floats,
    log_durations: Floats,
    log_survival: Floats,
    log_emission: Floats,
    entering: Floats,
    leaving: Floats,
    lengths: Integers,
    uniforms: Floats,
    states: Integers,
) -> None:
    """Fill `states` (S, B, T), zero before the call, with draws of p(z_{1:T} | x_{1:T}), from the last segment back.

    `entering` and `leaving` are logarithms of joint probabilities as in `hsmm_differentiable.Logs`; `uniforms` is
    (S, B, T, 2).
    """
    num_samples, batch = states.shape[:2]
    num_states, longest = log_durations.shape
    for n in numba.prange(num_samples * batch):
        s, b = n // batch, n % batch
        weights = np.empty(num_states * longest)
        moving = np.empty(num_states)
        stop = lengths[b] - 1
        at_end, state = True, 0
        while stop >= 0:
            reach = min(longest, stop + 1)
            if not at_end:
                for i in range(num_states):
                    moving[i] = leaving[b, stop, i] + log_transition[i, state]
                state = _drawn(moving, num_states, uniforms[s, b, stop, 0])
            for k in range(num_states if at_end else 1):
                j, total = k if at_end else state, 0.0
                for e in range(reach):
                    total += log_emission[b, stop - e, j]
                    lasting = log_survival[j, e] if at_end else log_durations[j, e]
                    weights[k * reach + e] = entering[b, stop - e, j] + total + lasting
            index = _drawn(weights, reach * (num_states if at_end else 1), uniforms[s, b, stop, 1])
            if at_end:
                state = index // reach
            at_end = False
            for t in range(stop - index % reach, stop + 1):
                states[s, b, t] = state
            stop -= index % reach + 1
