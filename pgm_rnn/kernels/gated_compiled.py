"""GRU layers over time, steps of an LSTM, and their gradients, compiled by numba, eight sequences side by side.

Arrays are flat. A sequence's steps stand in rows `origin`, `origin + stride`, ..., as many as it has: time first as in
torch, (T, B, ...), or one sequence after the other without padding, also from its end to its start. Eight sequences of
similar lengths, `order[8 g : 8 g + 8]`, go together for as many steps as the longest of them has; what a shorter one
would write beyond its own goes into one more row, which nobody reads. Sequences beyond B in the last group repeat the
last one. What the backward pass needs, the activations of every step, stands by groups: step t of group g in place
`begins[g] + t`, (parts, H, 8) each. Equations are those of `pgm_rnn.kernels.gates`. The module is imported when it is
first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.lanes_compiled import (
    LANES,
    add,
    exponential,
    gather,
    gather_eight,
    inverse_or_zero,
    load,
    multiply,
    multiply_add,
    scatter,
    scatter_eight,
    splat,
    store,
    subtract,
)

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})
BLOCK = 8
"""Rows of a matrix whose products with a vector are summed at a time, in registers."""


@inner
def read(array: Floats, starts: Integers, offset: int, count: int, target: Floats) -> None:
    """Fill target (count, 8) with each lane's numbers offset..offset + count - 1 of its row."""
    whole = count - count % LANES
    for k in range(0, whole, LANES):
        gather_eight(array, starts, offset + k, target, k * LANES)
    for k in range(whole, count):
        store(target, k * LANES, gather(array, starts, offset + k))


@inner
def write(array: Floats, starts: Integers, offset: int, count: int, source: Floats, place: int) -> None:
    """The reverse of `read`, from `place` of source on."""
    whole = count - count % LANES
    for k in range(0, whole, LANES):
        scatter_eight(array, starts, offset + k, source, place + k * LANES)
    for k in range(whole, count):
        scatter(array, starts, offset + k, load(source, place + k * LANES))


@inner
def add_product(matrix: Floats, num_columns: int, vector: Floats, sums: Floats) -> None:
    """sums[i] += sum_k matrix[i, k] vector[k], eight numbers each; sums of eight rows need not wait for each other."""
    num_rows = matrix.shape[0] // num_columns
    whole = num_rows - num_rows % BLOCK
    for i in range(0, whole, BLOCK):
        here, row = i * LANES, i * num_columns
        a, b = load(sums, here), load(sums, here + LANES)
        c, d = load(sums, here + 2 * LANES), load(sums, here + 3 * LANES)
        e, f = load(sums, here + 4 * LANES), load(sums, here + 5 * LANES)
        g, h = load(sums, here + 6 * LANES), load(sums, here + 7 * LANES)
        for k in range(num_columns):
            number, place = load(vector, k * LANES), row + k
            a = multiply_add(splat(matrix[place]), number, a)
            b = multiply_add(splat(matrix[place + num_columns]), number, b)
            c = multiply_add(splat(matrix[place + 2 * num_columns]), number, c)
            d = multiply_add(splat(matrix[place + 3 * num_columns]), number, d)
            e = multiply_add(splat(matrix[place + 4 * num_columns]), number, e)
            f = multiply_add(splat(matrix[place + 5 * num_columns]), number, f)
            g = multiply_add(splat(matrix[place + 6 * num_columns]), number, g)
            h = multiply_add(splat(matrix[place + 7 * num_columns]), number, h)
        store(sums, here, a)
        store(sums, here + LANES, b)
        store(sums, here + 2 * LANES, c)
        store(sums, here + 3 * LANES, d)
        store(sums, here + 4 * LANES, e)
        store(sums, here + 5 * LANES, f)
        store(sums, here + 6 * LANES, g)
        store(sums, here + 7 * LANES, h)
    for i in range(whole, num_rows):
        a = load(sums, i * LANES)
        for k in range(num_columns):
            a = multiply_add(splat(matrix[i * num_columns + k]), load(vector, k * LANES), a)
        store(sums, i * LANES, a)


@inner
def gru_step(given: Floats, sums: Floats, place: int, h: Floats, kept: Floats, now: int) -> None:
    """A GRU's step in place of h (H, 8), from W x + b in `given` and U h + c in `sums`, both from `place` on.

    `kept` gets r, s, n and the part of U h + c that r multiplies, from `now` on.
    """
    span, dtype = h.shape[0], h.dtype.type
    one, two, minus = splat(dtype(1)), splat(dtype(2)), splat(dtype(-1))
    for k in range(0, span, LANES):
        i = place + k
        a = add(load(given, i), load(sums, i))
        r = inverse_or_zero(add(one, exponential(multiply(minus, a))))
        a = add(load(given, i + span), load(sums, i + span))
        s = inverse_or_zero(add(one, exponential(multiply(minus, a))))
        inside = load(sums, i + 2 * span)
        a = multiply_add(r, inside, load(given, i + 2 * span))
        half = inverse_or_zero(add(one, exponential(multiply(splat(dtype(-2)), a))))
        n = subtract(multiply(two, half), one)
        store(kept, now + k, r)
        store(kept, now + span + k, s)
        store(kept, now + 2 * span + k, n)
        store(kept, now + 3 * span + k, inside)
        store(h, k, multiply_add(s, subtract(load(h, k), n), n))


@inner
def gru_step_backward(
    after: Floats, before: Floats, kept: Floats, now: int, by_x: Floats, by_h: Floats, place: int
) -> None:
    """Derivatives by W x + b, and from `place` on by U h + c, of a step; `after`, that by h', becomes its s part.

    `before` is h, and `kept` is what `gru_step` has kept.
    """
    span = before.shape[0]
    one = splat(after.dtype.type(1))
    for k in range(0, span, LANES):
        d, i = load(after, k), place + k
        r, s, n = load(kept, now + k), load(kept, now + span + k), load(kept, now + 2 * span + k)
        by_n = multiply(multiply(d, subtract(one, s)), subtract(one, multiply(n, n)))
        by_s = multiply(multiply(d, subtract(load(before, k), n)), multiply(s, subtract(one, s)))
        by_r = multiply(multiply(by_n, load(kept, now + 3 * span + k)), multiply(r, subtract(one, r)))
        store(by_x, k, by_r)
        store(by_x, span + k, by_s)
        store(by_x, 2 * span + k, by_n)
        store(by_h, i, by_r)
        store(by_h, i + span, by_s)
        store(by_h, i + 2 * span, multiply(by_n, r))
        store(after, k, multiply(d, s))


@inner
def lstm_step(given: Floats, sums: Floats, place: int, state: Floats, kept: Floats, now: int) -> None:
    """An LSTM's step in place of h above c (2 H, 8), from W x + b in `given` and U h + c in `sums`, from `place` on.

    `kept` gets i, f, g, o and tanh(c'), from `now` on.
    """
    span, dtype = state.shape[0] // 2, state.dtype.type
    one, two, minus, twice = splat(dtype(1)), splat(dtype(2)), splat(dtype(-1)), splat(dtype(-2))
    for k in range(0, span, LANES):
        j = place + k
        i = inverse_or_zero(add(one, exponential(multiply(minus, add(load(given, j), load(sums, j))))))
        j += span
        f = inverse_or_zero(add(one, exponential(multiply(minus, add(load(given, j), load(sums, j))))))
        j += span
        half = inverse_or_zero(add(one, exponential(multiply(twice, add(load(given, j), load(sums, j))))))
        g = subtract(multiply(two, half), one)
        j += span
        o = inverse_or_zero(add(one, exponential(multiply(minus, add(load(given, j), load(sums, j))))))
        c = multiply_add(i, g, multiply(f, load(state, span + k)))
        half = inverse_or_zero(add(one, exponential(multiply(twice, c))))
        bent = subtract(multiply(two, half), one)
        store(kept, now + k, i)
        store(kept, now + span + k, f)
        store(kept, now + 2 * span + k, g)
        store(kept, now + 3 * span + k, o)
        store(kept, now + 4 * span + k, bent)
        store(state, k, multiply(o, bent))
        store(state, span + k, c)


@inner
def lstm_step_backward(
    after: Floats, before: Floats, kept: Floats, now: int, by_x: Floats, by_h: Floats, place: int
) -> None:
    """Derivatives by W x + b, and from `place` on by U h + c, of a step; `after` begins as that by h' above c'.

    It becomes f's part for c, and 0 for h. `before` is h above c, and `kept` is what `lstm_step` has kept.
    """
    span = before.shape[0] // 2
    one, zero = splat(after.dtype.type(1)), splat(after.dtype.type(0))
    for k in range(0, span, LANES):
        i, f = load(kept, now + k), load(kept, now + span + k)
        g, o = load(kept, now + 2 * span + k), load(kept, now + 3 * span + k)
        bent, d = load(kept, now + 4 * span + k), load(after, k)
        by_c = multiply_add(multiply(d, o), subtract(one, multiply(bent, bent)), load(after, span + k))
        by_i = multiply(multiply(by_c, g), multiply(i, subtract(one, i)))
        by_f = multiply(multiply(by_c, load(before, span + k)), multiply(f, subtract(one, f)))
        by_g = multiply(multiply(by_c, i), subtract(one, multiply(g, g)))
        by_o = multiply(multiply(d, bent), multiply(o, subtract(one, o)))
        store(by_x, k, by_i)
        store(by_x, span + k, by_f)
        store(by_x, 2 * span + k, by_g)
        store(by_x, 3 * span + k, by_o)
        store(by_h, place + k, by_i)
        store(by_h, place + span + k, by_f)
        store(by_h, place + 2 * span + k, by_g)
        store(by_h, place + 3 * span + k, by_o)
        store(after, k, zero)
        store(after, span + k, multiply(by_c, f))


@inner
def _rows(
    g: int,
    t: int,
    origins: Integers,
    lengths: Integers,
    order: Integers,
    stride: int,
    spare: int,
    at: Integers,
    to: Integers,
) -> None:
    """Fill the rows of a group's sequences in step t, and where their results go; beyond its last step, `spare`."""
    for lane in range(LANES):
        b = order[min(g * LANES + lane, order.shape[0] - 1)]
        at[lane] = origins[b] + max(min(t, lengths[b] - 1), 0) * stride
        to[lane] = at[lane] if t < lengths[b] else spare


@jit
def gru(
    from_x: Floats,
    start: Floats,
    matrix: Floats,
    bias: Floats,
    origins: Integers,
    lengths: Integers,
    order: Integers,
    begins: Integers,
    hidden: Floats,
    kept: Floats,
    stride: int,
) -> None:
    """Fill `hidden` (R + 1, H) with h_1, ..., h_L of each sequence from W x + b (R, 3 H), h_0 (B, H), U (3 H, H) and c.

    `kept` gets r, s, n and the part of U h + c that r multiplies, of every step, or of one for each group if it has no
    more room.
    """
    size, num_groups = bias.shape[0] // 3, begins.shape[0] - 1
    span, spare = size * LANES, hidden.shape[0] // size - 1
    every = kept.shape[0] == begins[num_groups] * 4 * span
    for g in numba.prange(num_groups):
        at, to = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
        h, given, sums = (
            np.empty(span, hidden.dtype),
            np.empty(3 * span, hidden.dtype),
            np.empty(3 * span, hidden.dtype),
        )
        for lane in range(LANES):
            at[lane] = order[min(g * LANES + lane, order.shape[0] - 1)] * size
        read(start, at, 0, size, h)
        for t in range(begins[g + 1] - begins[g]):
            _rows(g, t, origins, lengths, order, stride, spare, at, to)
            read(from_x, at * (3 * size), 0, 3 * size, given)
            for i in range(3 * size):
                store(sums, i * LANES, splat(bias[i]))
            add_product(matrix, size, h, sums)
            place = begins[g] + t if every else np.int64(g)
            gru_step(given, sums, 0, h, kept, place * 4 * span)
            write(hidden, to * size, 0, size, h, 0)


@jit
def gru_backward(
    grad: Floats,
    start: Floats,
    hidden: Floats,
    kept: Floats,
    transposed: Floats,
    origins: Integers,
    lengths: Integers,
    order: Integers,
    begins: Integers,
    of_x: Floats,
    of_inside: Floats,
    earlier: Floats,
    of_start: Floats,
    stride: int,
) -> None:
    """Derivatives of sum_t grad_t' h_t by W x + b (R + 1, 3 H), by what r multiplies of U h + c (R + 1, H), and by h_0.

    `transposed` is U' (H, 3 H), `grad` and `hidden` are (R, H). The derivatives by the other parts of U h + c are those
    by W x + b. `earlier` (R + 1, H) gets h_0, ..., h_{L-1}.
    """
    num_groups, size = begins.shape[0] - 1, start.shape[0] // lengths.shape[0]
    span, spare = size * LANES, hidden.shape[0] // size
    for g in numba.prange(num_groups):
        at, to, last = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
        after, given, before = np.zeros(span, grad.dtype), np.empty(span, grad.dtype), np.empty(span, grad.dtype)
        by_x, by_h, first = np.empty(3 * span, grad.dtype), np.empty(3 * span, grad.dtype), np.empty(LANES, np.int64)
        for lane in range(LANES):
            first[lane] = order[min(g * LANES + lane, order.shape[0] - 1)]
        for t in range(begins[g + 1] - begins[g] - 1, -1, -1):
            _rows(g, t, origins, lengths, order, stride, spare, at, to)
            read(grad, at * size, 0, size, given)
            if t > 0:
                _rows(g, t - 1, origins, lengths, order, stride, spare, at, last)
                read(hidden, at * size, 0, size, before)
            else:
                read(start, first * size, 0, size, before)
            for lane in range(LANES):
                if t == lengths[first[lane]] - 1:  # what came from beyond its last step is nothing
                    for k in range(lane, span, LANES):
                        after[k] = 0
            for k in range(0, span, LANES):
                store(after, k, add(load(after, k), load(given, k)))
            gru_step_backward(after, before, kept, (begins[g] + t) * 4 * span, by_x, by_h, 0)
            add_product(transposed, 3 * size, by_h, after)
            write(of_x, to * (3 * size), 0, 3 * size, by_x, 0)
            write(of_inside, to * size, 0, size, by_h, 2 * span)
            write(earlier, to * size, 0, size, before, 0)
        write(of_start, first * size, 0, size, after, 0)
