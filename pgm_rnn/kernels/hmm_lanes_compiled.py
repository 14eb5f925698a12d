"""The scaled forward and backward recursions of eight sequences side by side, compiled by numba, parallel over groups.

Sequences share a dense transition table (K, K), which has no lost states to look for (`hmm_losses`). Group g holds the
sequences 8 g to 8 g + 7. If the last group lacks some, the last sequence takes their places with a weight of zero.
Working arrays are (G, T or 1, K, 8), flat. The module is imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.hmm_compiled import BLOCK, Floats, Integers
from pgm_rnn.kernels.lanes_compiled import (
    LANES,
    add,
    any_outside,
    capped,
    exponential,
    finite_or_zero,
    gather,
    gather_eight,
    in_double,
    inverse_or_zero,
    larger,
    load,
    multiply,
    multiply_add,
    scatter,
    scatter_eight,
    splat,
    store,
    subtract,
    where_at,
    where_before,
)

HUGE = 1e60
"""Scales are multiplied until their product leaves 1 / HUGE..HUGE, and only then is a logarithm taken."""

CHUNK = 8
"""Number of steps whose numbers are read or written at once: 8 K entries of a sequence are whole vectors."""

jit = jitted(parallel=True, error_model="numpy")
inner = jitted(inline="always", error_model="numpy")
alone = jitted(error_model="numpy")


@inner
def _places(g: int, lengths: Integers, size: int, starts: Integers, ends: Integers) -> tuple[int, int]:
    """Fill where the lanes' sequences begin, `size` entries each, and their lengths; returns the least and largest."""
    shortest = longest = lengths[g * LANES]
    for lane in range(LANES):
        b = min(g * LANES + lane, lengths.shape[0] - 1)
        starts[lane], ends[lane] = b * size, lengths[b]
        shortest, longest = min(shortest, lengths[b]), max(longest, lengths[b])
    return shortest, longest


@inner
def _read(log_emission: Floats, starts: Integers, start: int, count: int, target: Floats) -> None:
    """Fill `target` with entries start..start + count - 1 of each lane's sequence."""
    whole = count - count % LANES
    for k in range(0, whole, LANES):
        gather_eight(log_emission, starts, start + k, target, k * LANES)
    for k in range(whole, count):
        store(target, k * LANES, gather(log_emission, starts, start + k))


@inner
def _write(smoothed: Floats, starts: Integers, start: int, count: int, source: Floats) -> None:
    """The reverse of `_read`."""
    whole = count - count % LANES
    for k in range(0, whole, LANES):
        scatter_eight(smoothed, starts, start + k, source, k * LANES)
    for k in range(whole, count):
        scatter(smoothed, starts, start + k, load(source, k * LANES))


@inner
def _times_matrix(rows: Floats, offset: int, matrix: Floats, results: Floats) -> None:
    """results = rows @ matrix for each lane, rows from an offset on; sums of eight columns need not wait in turn."""
    num_states = matrix.shape[0]
    zero = splat(matrix.dtype.type(0))
    blocked = num_states - num_states % 8
    for j in range(0, blocked, 8):
        a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
        for i in range(num_states):
            row = load(rows, offset + i * LANES)
            a = multiply_add(row, splat(matrix[i, j]), a)
            b = multiply_add(row, splat(matrix[i, j + 1]), b)
            c = multiply_add(row, splat(matrix[i, j + 2]), c)
            d = multiply_add(row, splat(matrix[i, j + 3]), d)
            e = multiply_add(row, splat(matrix[i, j + 4]), e)
            f = multiply_add(row, splat(matrix[i, j + 5]), f)
            g = multiply_add(row, splat(matrix[i, j + 6]), g)
            h = multiply_add(row, splat(matrix[i, j + 7]), h)
        store(results, j * LANES, a)
        store(results, (j + 1) * LANES, b)
        store(results, (j + 2) * LANES, c)
        store(results, (j + 3) * LANES, d)
        store(results, (j + 4) * LANES, e)
        store(results, (j + 5) * LANES, f)
        store(results, (j + 6) * LANES, g)
        store(results, (j + 7) * LANES, h)
    for j in range(blocked, num_states):
        total = zero
        for i in range(num_states):
            total = multiply_add(load(rows, offset + i * LANES), splat(matrix[i, j]), total)
        store(results, j * LANES, total)


@alone
def _rescale(
    predicted: Floats, log_emission: Floats, emission: Floats, belief: Floats, start: int, place: int, lane: int
) -> tuple[np.floating, np.floating]:
    """A step's scale and shift from the states within reach, as in `hmm_compiled`; the scale is 0 without any.

    `start` is the step's place among the log emissions, `place` that in the working arrays.
    """
    largest, total = predicted.dtype.type(-np.inf), predicted.dtype.type(0)
    for j in range(predicted.shape[0] // LANES):
        if predicted[j * LANES + lane] > 0 and log_emission[start + j] > largest:
            largest = log_emission[start + j]
        belief[place + j * LANES] = 0
    if largest == -np.inf:
        return total, total
    for j in range(predicted.shape[0] // LANES):
        density = np.exp(min(log_emission[start + j] - largest, predicted.dtype.type(80)))
        emission[place + j * LANES] = density
        belief[place + j * LANES] = predicted[j * LANES + lane] * density
        total += belief[place + j * LANES]
    return total, largest


@jit
def forward(
    initial: Floats,
    transition: Floats,
    log_emission: Floats,
    lengths: Integers,
    emission: Floats,
    filtered: Floats,
    scale: Floats,
    value: NDArray[np.float64],
    tiny: float,
) -> None:
    """Fill `value` (B,) with log p(x_{1:T}): Rabiner (1989), eq. (19)-(20), scaled by eq. (91)-(93), and (103).

    `initial` is (P, K), `log_emission` (B, T K). Beliefs and emissions, up to one factor per step, go to `filtered` and
    `emission`, and the scale up to the same factor to `scale` (G, T 8): of every step, or of one alone where `emission`
    has only one. If a step's scale falls below `tiny`, all are recomputed from the states within reach.
    """
    num_sequences, num_states = lengths.shape[0], transition.shape[0]
    num_steps, size = log_emission.shape[0] // (num_sequences * num_states), num_states * LANES
    num_groups = (num_sequences + LANES - 1) // LANES
    kept = emission.shape[0] // (num_groups * size)  # steps
    stride, dtype = (1 if kept > 1 else 0) * size, emission.dtype.type
    for g in numba.prange(num_groups):
        starts, ends = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
        shortest, longest = _places(g, lengths, num_steps * num_states, starts, ends)
        predicted, parts = np.empty(size, emission.dtype), np.empty(2 * LANES, emission.dtype)
        for lane in range(LANES):
            row = min(g * LANES + lane, num_sequences - 1) % initial.shape[0]
            for j in range(num_states):
                predicted[j * LANES + lane] = initial[row, j]
        numbers, logs, products = np.empty(CHUNK * size, emission.dtype), np.zeros(LANES), np.ones(LANES)
        zero, one = splat(dtype(0)), splat(dtype(1))
        for t in range(longest):
            now = g * kept * size + t * stride
            if t > 0:
                _times_matrix(filtered, now - stride, transition, predicted)
            if t % CHUNK == 0:
                count = min(CHUNK, num_steps - t) * num_states
                _read(log_emission, starts, t * num_states, count, numbers)
            here, shift = (t % CHUNK) * size, splat(dtype(-np.inf))
            for j in range(num_states):
                number = load(numbers, here + j * LANES)
                if t >= shortest:
                    number = where_before(t, ends, number, zero)
                    store(numbers, here + j * LANES, number)
                shift = larger(shift, number)
            shift, total = finite_or_zero(shift), zero
            for j in range(num_states):
                density = exponential(subtract(load(numbers, here + j * LANES), shift))
                belief = multiply(load(predicted, j * LANES), density)
                store(emission, now + j * LANES, density)
                store(filtered, now + j * LANES, belief)
                total = add(total, belief)
            if any_outside(total, dtype(tiny), dtype(np.inf)):
                store(parts, 0, total)
                store(parts, LANES, shift)
                for lane in range(LANES):
                    if t < ends[lane] and parts[lane] < tiny:
                        start = starts[lane] + t * num_states
                        arrays = predicted, log_emission, emission, filtered
                        parts[lane], parts[LANES + lane] = _rescale(*arrays, start, now + lane, lane)
                total, shift = load(parts, 0), load(parts, LANES)
            inverse = inverse_or_zero(total)
            for j in range(num_states):
                store(filtered, now + j * LANES, multiply(load(filtered, now + j * LANES), inverse))
            if t >= shortest:
                total, shift = where_before(t, ends, total, one), where_before(t, ends, shift, zero)
            store(scale, now // num_states, total)
            product = multiply(load(products, 0), in_double(total))
            store(products, 0, product)
            store(logs, 0, add(load(logs, 0), in_double(shift)))
            if any_outside(product, 1 / HUGE, HUGE):
                for lane in range(LANES):
                    logs[lane] += np.log(products[lane])
                    products[lane] = 1
        for lane in range(min(LANES, num_sequences - g * LANES)):
            value[g * LANES + lane] = logs[lane] + np.log(products[lane])


@inner
def _count(filtered: Floats, now: int, left: int, size: int, ring: Floats, block: Floats) -> None:
    """Add filtered[u, i] future[u + 1, j], u = t..t + 3, to the block; `left` is the number of steps after t.

    It takes four steps at a time, because otherwise most of the time goes into reading and writing the block.
    ring[u & 3] is future[u], and zero past the end.
    """
    second, third, fourth = now + min(1, left) * size, now + min(2, left) * size, now + min(3, left) * size
    num_states = size // LANES
    for i in range(0, num_states, 2):
        k = min(i + 1, num_states - 1) * LANES  # of an odd number, the last is alone
        a, b = load(filtered, now + i * LANES), load(filtered, second + i * LANES)
        c, d = load(filtered, third + i * LANES), load(filtered, fourth + i * LANES)
        e, f = load(filtered, now + k), load(filtered, second + k)
        g, h = load(filtered, third + k), load(filtered, fourth + k)
        for j in range(0, size, LANES):
            u, v = load(ring, size + j), load(ring, 2 * size + j)
            w, x = load(ring, 3 * size + j), load(ring, j)
            total = multiply_add(c, w, multiply_add(b, v, multiply_add(a, u, load(block, i * size + j))))
            store(block, i * size + j, multiply_add(d, x, total))
            if i + 1 < num_states:
                place = (i + 1) * size + j
                total = multiply_add(g, w, multiply_add(f, v, multiply_add(e, u, load(block, place))))
                store(block, place, multiply_add(h, x, total))


@inner
def _flush(block: Floats, counts: Floats, g: int) -> None:
    """Add the sums over lanes of a block to the counts, and empty it."""
    for i in range(counts.shape[1]):
        for j in range(counts.shape[1]):
            for lane in range(LANES):
                place = (i * counts.shape[1] + j) * LANES + lane
                counts[g, i, j] += block[place]
                block[place] = 0


@jit
def backward(
    transposed: Floats,
    emission: Floats,
    filtered: Floats,
    scale: Floats,
    lengths: Integers,
    weights: Floats,
    smoothed: Floats,
    first: Floats,
    counts: Floats,
    largest: float,
) -> None:
    """Fill `smoothed` (B T K) and `first` (B, K), the gradients in log p(x_t | z_t) and p(z_1), of weighted sequences.

    `counts` (G, K, K), zero at first, becomes the gradient in the transitions: Rabiner (1989), eq. (24)-(25), (27) and
    (37), scaled, in the notation of `hmm_compiled.backward`. `transposed` is the transition with its axes swapped.
    """
    num_sequences, num_states = first.shape
    num_steps, size = smoothed.shape[0] // (num_sequences * num_states), num_states * LANES
    for g in numba.prange(counts.shape[0]):
        starts, ends = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
        shortest, longest = _places(g, lengths, num_steps * num_states, starts, ends)
        num_real = min(LANES, num_sequences - g * LANES)
        weight = np.zeros(LANES, emission.dtype)
        for lane in range(LANES):
            ends[lane] -= 1
            if lane < num_real:
                weight[lane] = weights[g * LANES + lane]
        beta, ring = np.empty(size, emission.dtype), np.zeros(4 * size, emission.dtype)
        block, numbers = np.zeros(num_states * size, emission.dtype), np.empty(CHUNK * size, emission.dtype)
        for t in range(longest - 1, -1, -1):
            now, here = (g * num_steps + t) * size, (t & 3) * size
            _times_matrix(ring, ((t + 1) & 3) * size, transposed, beta)
            if t & 3 == 0:
                _count(filtered, now, longest - 1 - t, size, ring, block)
            if t % BLOCK == 0:
                _flush(block, counts, g)
            inverse = inverse_or_zero(load(scale, now // num_states))
            for j in range(num_states):
                number = load(beta, j * LANES)
                if t >= shortest - 1:
                    number = where_at(t, ends, load(weight, 0), number)
                store(numbers, (t % CHUNK) * size + j * LANES, multiply(load(filtered, now + j * LANES), number))
                number = multiply(multiply(load(emission, now + j * LANES), number), inverse)
                store(ring, here + j * LANES, capped(number, emission.dtype.type(largest)))
            if t % CHUNK == 0:
                count = min(CHUNK, longest - t) * num_states
                _write(smoothed, starts, t * num_states, count, numbers)
        for lane in range(num_real):
            for j in range(num_states):
                first[g * LANES + lane, j] = ring[j * LANES + lane]
            for place in range((ends[lane] + 1) * num_states, num_steps * num_states):
                smoothed[starts[lane] + place] = 0
