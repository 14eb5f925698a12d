"""States drawn from an encoder along a GRU that reads them, and the gradient, compiled by numba.

Eight sequences run side by side (`lanes_compiled`). Arrays are flat; rows stand by sequence and step, (B, T, ...), and
what only the gradient reads by groups of eight sequences, (groups, T, 4 H + D, 8). Sizes: H units of the memory, D
entries of a state, F features of a state. Equations are those of `pgm_rnn.kernels.encoder_draws`. The module is
imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.draws_compiled import add_to, draw, draw_backward, fill, rectify, rows, where_positive
from pgm_rnn.kernels.gated_compiled import add_product, read, write
from pgm_rnn.kernels.lanes_compiled import (
    LANES,
    add,
    exponential,
    inverse_or_zero,
    load,
    multiply,
    multiply_add,
    splat,
    store,
    subtract,
)

Floats = NDArray[np.floating]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@inner
def step(given: Floats, offset: int, sums: Floats, from_z: Floats, h: Floats, kept: Floats, now: int) -> None:
    """A GRU's step in place of h, from W x + b in `given`, U h + c in `sums` (both from `offset`) and V p in `from_z`.

    `kept` gets r, s, n and the part of U h + c that r multiplies, from `now` on.
    """
    span, dtype = h.shape[0], h.dtype.type
    one, two, minus = splat(dtype(1)), splat(dtype(2)), splat(dtype(-1))
    for k in range(0, span, LANES):
        i = offset + k
        a = add(add(load(given, i), load(from_z, k)), load(sums, i))
        r = inverse_or_zero(add(one, exponential(multiply(minus, a))))
        a = add(add(load(given, i + span), load(from_z, span + k)), load(sums, i + span))
        s = inverse_or_zero(add(one, exponential(multiply(minus, a))))
        inside = load(sums, i + 2 * span)
        a = multiply_add(r, inside, add(load(given, i + 2 * span), load(from_z, 2 * span + k)))
        half = inverse_or_zero(add(one, exponential(multiply(splat(dtype(-2)), a))))
        n = subtract(multiply(two, half), one)
        store(kept, now + k, r)
        store(kept, now + span + k, s)
        store(kept, now + 2 * span + k, n)
        store(kept, now + 3 * span + k, inside)
        store(h, k, multiply_add(s, subtract(load(h, k), n), n))


@inner
def step_backward(after: Floats, before: Floats, kept: Floats, now: int, by_x: Floats, by_h: Floats) -> None:
    """Derivatives by W x + V p + b and by U h + c, each from H on, of a step; `after`, that by h', becomes its s part.

    `before` is h, and `kept` is what `step` has kept.
    """
    span = before.shape[0]
    one = splat(after.dtype.type(1))
    for k in range(0, span, LANES):
        d = load(after, k)
        r, s, n = load(kept, now + k), load(kept, now + span + k), load(kept, now + 2 * span + k)
        by_n = multiply(multiply(d, subtract(one, s)), subtract(one, multiply(n, n)))
        by_s = multiply(multiply(d, subtract(load(before, k), n)), multiply(s, subtract(one, s)))
        by_r = multiply(multiply(by_n, load(kept, now + 3 * span + k)), multiply(r, subtract(one, r)))
        store(by_x, k, by_r)
        store(by_x, span + k, by_s)
        store(by_x, 2 * span + k, by_n)
        store(by_h, span + k, by_r)
        store(by_h, 2 * span + k, by_s)
        store(by_h, 3 * span + k, multiply(by_n, r))
        store(after, k, multiply(d, s))


@jit
def draws(
    features: Floats,
    noise: Floats,
    start: Floats,
    recurrent: Floats,
    recurrent_bias: Floats,
    head: Floats,
    head_bias: Floats,
    extract: Floats,
    extract_bias: Floats,
    from_state: Floats,
    z: Floats,
    h: Floats,
    scale: Floats,
    phi: Floats,
    hidden: Floats,
    kept: Floats,
    batch: int,
    least: float,
) -> None:
    """Fill z and scale (B, T, D), h and hidden (B, T, H), phi (B, T, F), and what the gradient reads.

    `features` is (B, T, 4 H), `noise` (B, T, D), `start` (B, H); the matrices are E and U, (4 H, H), M (2 D, H),
    P (F, D) and V (3 H, F). `kept` (groups, T or 1, 4 H + D, 8) is of one step if it is to be overwritten.
    """
    size, dim, width = recurrent_bias.shape[0] // 4, head_bias.shape[0] // 2, extract_bias.shape[0]
    num_groups = (batch + LANES - 1) // LANES
    num_steps = z.shape[0] // (batch * dim)
    room = (4 * size + dim) * LANES
    steps = kept.shape[0] // (num_groups * room)
    for g in numba.prange(num_groups):
        dtype, span = z.dtype, size * LANES
        of_features, of_h = rows(g, batch, 4 * num_steps * size), rows(g, batch, num_steps * size)
        of_z, of_phi = rows(g, batch, num_steps * dim), rows(g, batch, num_steps * width)
        state, code = np.empty(span, dtype), np.empty(span, dtype)
        given, sums, from_z = np.empty(4 * span, dtype), np.empty(4 * span, dtype), np.empty(3 * span, dtype)
        raw, read_of_z = np.empty(2 * dim * LANES, dtype), np.empty(width * LANES, dtype)
        eps, deviation, drawn = (
            np.empty(dim * LANES, dtype),
            np.empty(dim * LANES, dtype),
            np.empty(dim * LANES, dtype),
        )
        read(start, rows(g, batch, size), 0, size, state)
        for t in range(num_steps):
            now = (g * steps + (t if steps > 1 else 0)) * room
            read(features, of_features, 4 * t * size, 4 * size, given)
            read(noise, of_z, t * dim, dim, eps)
            write(h, of_h, t * size, size, state, 0)
            fill(recurrent_bias, sums)
            add_product(recurrent, size, state, sums)
            code[:] = given[:span]
            add_to(code, sums)
            rectify(code)
            write(hidden, of_h, t * size, size, code, 0)
            fill(head_bias, raw)
            add_product(head, size, code, raw)
            draw(raw, eps, least, deviation, drawn, kept, now + 4 * span)
            write(z, of_z, t * dim, dim, drawn, 0)
            write(scale, of_z, t * dim, dim, deviation, 0)
            fill(extract_bias, read_of_z)
            add_product(extract, dim, drawn, read_of_z)
            rectify(read_of_z)
            write(phi, of_phi, t * width, width, read_of_z, 0)
            from_z[:] = 0
            add_product(from_state, width, read_of_z, from_z)
            step(given, span, sums, from_z, state, kept, now)


@jit
def backward(
    of_z: Floats,
    of_h: Floats,
    of_scale: Floats,
    of_phi: Floats,
    noise: Floats,
    h: Floats,
    phi: Floats,
    hidden: Floats,
    kept: Floats,
    recurrent: Floats,
    head: Floats,
    extract: Floats,
    from_state: Floats,
    of_features: Floats,
    of_inside: Floats,
    of_raw: Floats,
    of_extracted: Floats,
    of_start: Floats,
    batch: int,
) -> None:
    """From derivatives by z, h, scale and phi, those by the features, and by what the matrices give at each step.

    The matrices are transposed: (H, 4 H), (H, 2 D), (D, F), (F, 3 H). Filled are the derivatives by the features
    (B, T, 4 H), by what r multiplies (B, T, H), by M u + m (B, T, 2 D), by P z + q (B, T, F) and by h_1 (B, H).
    """
    size = of_start.shape[0] // batch
    num_steps = of_h.shape[0] // of_start.shape[0]
    dim, width = of_z.shape[0] // (batch * num_steps), of_phi.shape[0] // (batch * num_steps)
    num_groups, room = (batch + LANES - 1) // LANES, (4 * size + dim) * LANES
    for g in numba.prange(num_groups):
        dtype, span = of_z.dtype, size * LANES
        at_features, at_h = rows(g, batch, 4 * num_steps * size), rows(g, batch, num_steps * size)
        at_z, at_raw = rows(g, batch, num_steps * dim), rows(g, batch, 2 * num_steps * dim)
        at_phi = rows(g, batch, num_steps * width)
        after, before, code = np.zeros(span, dtype), np.empty(span, dtype), np.empty(span, dtype)
        by_x, by_h, by_raw = np.zeros(3 * span, dtype), np.zeros(4 * span, dtype), np.empty(2 * dim * LANES, dtype)
        by_phi, values = np.empty(width * LANES, dtype), np.empty(width * LANES, dtype)
        by_z, by_scale, eps = (
            np.empty(dim * LANES, dtype),
            np.empty(dim * LANES, dtype),
            np.empty(dim * LANES, dtype),
        )
        for t in range(num_steps - 1, -1, -1):
            now = (g * num_steps + t) * room
            read(of_phi, at_phi, t * width, width, by_phi)
            if t < num_steps - 1:
                read(h, at_h, t * size, size, before)
                step_backward(after, before, kept, now, by_x, by_h)
                add_product(from_state, 3 * size, by_x, by_phi)
            read(phi, at_phi, t * width, width, values)
            where_positive(by_phi, values)
            write(of_extracted, at_phi, t * width, width, by_phi, 0)
            read(of_z, at_z, t * dim, dim, by_z)
            read(of_scale, at_z, t * dim, dim, by_scale)
            read(noise, at_z, t * dim, dim, eps)
            add_product(extract, width, by_phi, by_z)
            draw_backward(by_z, by_scale, eps, kept, now + 4 * span, by_raw)
            write(of_raw, at_raw, 2 * t * dim, 2 * dim, by_raw, 0)
            code[:] = 0
            add_product(head, 2 * dim, by_raw, code)
            read(hidden, at_h, t * size, size, before)
            where_positive(code, before)
            by_h[:span] = code
            add_product(recurrent, 4 * size, by_h, after)
            read(of_h, at_h, t * size, size, before)
            add_to(after, before)
            write(of_features, at_features, 4 * t * size, size, code, 0)
            write(of_features, at_features, (4 * t + 1) * size, 3 * size, by_x, 0)
            write(of_inside, at_h, t * size, size, by_h, 3 * span)
        write(of_start, rows(g, batch, size), 0, size, after, 0)
