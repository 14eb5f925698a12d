"""States drawn from a combiner along their own chain, and the gradient, compiled by numba.

Eight rows, sequences or particles, run side by side (`lanes_compiled`, `draws_compiled`). Arrays are flat; rows stand
by sequence and step, (B, T, ...), and what only the gradient reads by groups of eight, (groups, T, G + D, 8). Sizes: D
entries of a state, G of what the combiner reads. Equations are those of `pgm_rnn.kernels.combiner_draws`. The module is
imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.draws_compiled import (
    add_to,
    clear,
    draw,
    draw_backward,
    fill,
    groups_of_block,
    rows,
    succeed,
    succeed_backward,
)
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
Integers = NDArray[np.int64]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@inner
def combine(code: Floats, given: Floats, kept: Floats, place: int) -> None:
    """code = given + tanh(code) / 2, the tanh stored from `place` on."""
    dtype = code.dtype.type
    one, two, half = splat(dtype(1)), splat(dtype(2)), splat(dtype(0.5))
    for k in range(0, code.shape[0], LANES):
        part = inverse_or_zero(add(one, exponential(multiply(splat(dtype(-2)), load(code, k)))))
        found = subtract(multiply(two, part), one)
        store(kept, place + k, found)
        store(code, k, multiply_add(half, found, load(given, k)))


@inner
def combine_backward(by_code: Floats, kept: Floats, place: int, by_inside: Floats) -> None:
    """The derivatives by what tanh is taken of, from those by the combiner's sum."""
    dtype = by_code.dtype.type
    one, half = splat(dtype(1)), splat(dtype(0.5))
    for k in range(0, by_code.shape[0], LANES):
        found = load(kept, place + k)
        slope = multiply(half, subtract(one, multiply(found, found)))
        store(by_inside, k, multiply(load(by_code, k), slope))


@jit
def draws(
    features: Floats,
    noise: Floats,
    start: Floats,
    ancestors: Integers,
    combiner: Floats,
    combiner_bias: Floats,
    head: Floats,
    head_bias: Floats,
    z: Floats,
    scale: Floats,
    combined: Floats,
    kept: Floats,
    batch: int,
    kin: int,
    least: float,
) -> None:
    """Fill z and scale (B, T, D), combined (B, T, G), and what the gradient reads.

    `features` is (B, T, G), `noise` (B, T, D), `start` (B, D), `ancestors` (B, T) or empty; the matrices are C, (G, D),
    and M, (2 D, G). `kept` (groups, T or 1, G + D, 8) is of one step if it is to be overwritten.
    """
    width, dim = combiner_bias.shape[0], head_bias.shape[0] // 2
    num_groups, num_steps = (batch + LANES - 1) // LANES, z.shape[0] // (batch * dim)
    room = (width + dim) * LANES
    steps, groups = kept.shape[0] // (num_groups * room), groups_of_block(kin)
    for block in numba.prange((num_groups + groups - 1) // groups):
        begin = block * groups
        here, dtype, span = min(groups, num_groups - begin), z.dtype, dim * LANES
        of_features, of_z = rows(begin, here, batch, num_steps * width), rows(begin, here, batch, num_steps * dim)
        given, code = np.empty(width * LANES, dtype), np.empty(width * LANES, dtype)
        states, spare = np.empty(here * span, dtype), np.empty(here * span, dtype)
        eps, deviation, raw = np.empty(span, dtype), np.empty(span, dtype), np.empty(2 * span, dtype)
        for j in range(here):
            read(start, rows(begin + j, 1, batch, dim), 0, dim, states[j * span : (j + 1) * span])
        for t in range(num_steps):
            if t > 0 and ancestors.shape[0] > 0:
                succeed(ancestors, t, begin * LANES, batch, states, spare, dim)
            for j in range(here):
                lanes = slice(j * LANES, (j + 1) * LANES)
                at_features, at_z, state = of_features[lanes], of_z[lanes], states[j * span : (j + 1) * span]
                now = ((begin + j) * steps + (t if steps > 1 else 0)) * room
                read(features, at_features, t * width, width, given)
                read(noise, at_z, t * dim, dim, eps)
                fill(combiner_bias, code)
                add_product(combiner, dim, state, code)
                combine(code, given, kept, now)
                write(combined, at_features, t * width, width, code, 0)
                fill(head_bias, raw)
                add_product(head, width, code, raw)
                draw(raw, eps, least, deviation, state, kept, now + width * LANES)
                write(z, at_z, t * dim, dim, state, 0)
                write(scale, at_z, t * dim, dim, deviation, 0)


@jit
def backward(
    of_z: Floats,
    of_scale: Floats,
    noise: Floats,
    kept: Floats,
    ancestors: Integers,
    combiner: Floats,
    head: Floats,
    of_features: Floats,
    of_inside: Floats,
    of_raw: Floats,
    of_start: Floats,
    batch: int,
    kin: int,
) -> None:
    """From derivatives by z and scale, those by the features (B, T, G), and by what the matrices give at each step.

    The matrices are transposed: (D, G), (G, 2 D). Also filled are the derivatives by C z + c (B, T, G), by M u + m
    (B, T, 2 D) and by the state before the first (B, D).
    """
    dim, num_steps = of_start.shape[0] // batch, of_z.shape[0] // of_start.shape[0]
    width = of_features.shape[0] // (batch * num_steps)
    num_groups, room = (batch + LANES - 1) // LANES, (width + dim) * LANES
    groups = groups_of_block(kin)
    for block in numba.prange((num_groups + groups - 1) // groups):
        begin = block * groups
        here, dtype, span = min(groups, num_groups - begin), of_z.dtype, dim * LANES
        at_features, at_z = rows(begin, here, batch, num_steps * width), rows(begin, here, batch, num_steps * dim)
        at_raw = rows(begin, here, batch, 2 * num_steps * dim)
        by_code, by_inside = np.empty(width * LANES, dtype), np.empty(width * LANES, dtype)
        by_z, by_scale, eps = np.empty(span, dtype), np.empty(span, dtype), np.empty(span, dtype)
        by_raw, afters, spare = np.empty(2 * span, dtype), np.zeros(here * span, dtype), np.empty(here * span, dtype)
        for t in range(num_steps - 1, -1, -1):
            for j in range(here):
                lanes, after = slice(j * LANES, (j + 1) * LANES), afters[j * span : (j + 1) * span]
                now = ((begin + j) * num_steps + t) * room
                read(of_z, at_z[lanes], t * dim, dim, by_z)
                add_to(by_z, after)
                read(of_scale, at_z[lanes], t * dim, dim, by_scale)
                read(noise, at_z[lanes], t * dim, dim, eps)
                draw_backward(by_z, by_scale, eps, kept, now + width * LANES, by_raw)
                write(of_raw, at_raw[lanes], 2 * t * dim, 2 * dim, by_raw, 0)
                clear(by_code)
                add_product(head, 2 * dim, by_raw, by_code)
                write(of_features, at_features[lanes], t * width, width, by_code, 0)
                combine_backward(by_code, kept, now, by_inside)
                write(of_inside, at_features[lanes], t * width, width, by_inside, 0)
                clear(after)
                add_product(combiner, width, by_inside, after)
            if t > 0 and ancestors.shape[0] > 0:
                succeed_backward(ancestors, t, begin * LANES, batch, afters, spare, dim)
        for j in range(here):
            write(of_start, rows(begin + j, 1, batch, dim), 0, dim, afters[j * span : (j + 1) * span], 0)
