"""States drawn from an encoder along a GRU that reads them, and the gradient, compiled by numba.

Eight rows, sequences or particles, run side by side (`lanes_compiled`, `draws_compiled`). Arrays are flat; rows stand
by sequence and step, (B, T, ...), and what only the gradient reads by groups of eight, (groups, T, 4 H + D, 8). Sizes:
H units of the memory, D entries of a state, F features of a state. Equations are those of
`pgm_rnn.kernels.encoder_draws`. The module is imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.draws_compiled import (
    add_to,
    draw,
    draw_backward,
    fill,
    groups_of_block,
    rectify,
    rows,
    succeed,
    succeed_backward,
    where_positive,
)
from pgm_rnn.kernels.gated_compiled import add_product, gru_step, gru_step_backward, read, write
from pgm_rnn.kernels.lanes_compiled import LANES

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})


@jit
def draws(
    features: Floats,
    noise: Floats,
    start: Floats,
    ancestors: Integers,
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
    kin: int,
    least: float,
) -> None:
    """Fill z and scale (B, T, D), h and hidden (B, T, H), phi (B, T, F), and what the gradient reads.

    `features` is (B, T, 4 H), `noise` (B, T, D), `start` (B, H), `ancestors` (B, T) or empty; the matrices are E and U,
    (4 H, H), M (2 D, H), P (F, D) and V (3 H, F). `kept` (groups, T or 1, 4 H + D, 8) is of one step if it is to be
    overwritten.
    """
    size, dim, width = recurrent_bias.shape[0] // 4, head_bias.shape[0] // 2, extract_bias.shape[0]
    num_groups = (batch + LANES - 1) // LANES
    num_steps = z.shape[0] // (batch * dim)
    room = (4 * size + dim) * LANES
    steps, groups = kept.shape[0] // (num_groups * room), groups_of_block(kin)
    for block in numba.prange((num_groups + groups - 1) // groups):
        begin = block * groups
        here, dtype, span, small = min(groups, num_groups - begin), z.dtype, size * LANES, dim * LANES
        at_features = rows(begin, here, batch, 4 * num_steps * size)
        at_h, at_z = rows(begin, here, batch, num_steps * size), rows(begin, here, batch, num_steps * dim)
        at_phi = rows(begin, here, batch, num_steps * width)
        states, spare, code = np.empty(here * span, dtype), np.empty(here * span, dtype), np.empty(span, dtype)
        given, sums = np.empty(4 * span, dtype), np.empty(4 * span, dtype)
        raw, read_of_z = np.empty(2 * small, dtype), np.empty(width * LANES, dtype)
        eps, deviation, drawn = np.empty(small, dtype), np.empty(small, dtype), np.empty(small, dtype)
        for j in range(here):
            read(start, rows(begin + j, 1, batch, size), 0, size, states[j * span : (j + 1) * span])
        for t in range(num_steps):
            if t > 0 and ancestors.shape[0] > 0:
                succeed(ancestors, t, begin * LANES, batch, states, spare, size)
            for j in range(here):
                lanes, state = slice(j * LANES, (j + 1) * LANES), states[j * span : (j + 1) * span]
                now = ((begin + j) * steps + (t if steps > 1 else 0)) * room
                read(features, at_features[lanes], 4 * t * size, 4 * size, given)
                read(noise, at_z[lanes], t * dim, dim, eps)
                write(h, at_h[lanes], t * size, size, state, 0)
                fill(recurrent_bias, sums)
                add_product(recurrent, size, state, sums)
                code[:] = given[:span]
                add_to(code, sums)
                rectify(code)
                write(hidden, at_h[lanes], t * size, size, code, 0)
                fill(head_bias, raw)
                add_product(head, size, code, raw)
                draw(raw, eps, least, deviation, drawn, kept, now + 4 * span)
                write(z, at_z[lanes], t * dim, dim, drawn, 0)
                write(scale, at_z[lanes], t * dim, dim, deviation, 0)
                fill(extract_bias, read_of_z)
                add_product(extract, dim, drawn, read_of_z)
                rectify(read_of_z)
                write(phi, at_phi[lanes], t * width, width, read_of_z, 0)
                add_product(from_state, width, read_of_z, given[span:])
                gru_step(given, sums, span, state, kept, now)


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
    ancestors: Integers,
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
    kin: int,
) -> None:
    """From derivatives by z, h, scale and phi, those by the features, and by what the matrices give at each step.

    The matrices are transposed: (H, 4 H), (H, 2 D), (D, F), (F, 3 H). Filled are the derivatives by the features
    (B, T, 4 H), by what r multiplies (B, T, H), by M u + m (B, T, 2 D), by P z + q (B, T, F) and by h_1 (B, H).
    """
    size = of_start.shape[0] // batch
    num_steps = of_h.shape[0] // of_start.shape[0]
    dim, width = of_z.shape[0] // (batch * num_steps), of_phi.shape[0] // (batch * num_steps)
    num_groups, room = (batch + LANES - 1) // LANES, (4 * size + dim) * LANES
    groups = groups_of_block(kin)
    for block in numba.prange((num_groups + groups - 1) // groups):
        begin = block * groups
        here, dtype, span, small = min(groups, num_groups - begin), of_z.dtype, size * LANES, dim * LANES
        at_features = rows(begin, here, batch, 4 * num_steps * size)
        at_h, at_z = rows(begin, here, batch, num_steps * size), rows(begin, here, batch, num_steps * dim)
        at_raw, at_phi = rows(begin, here, batch, 2 * num_steps * dim), rows(begin, here, batch, num_steps * width)
        afters, spare = np.zeros(here * span, dtype), np.empty(here * span, dtype)
        before, code = np.empty(span, dtype), np.empty(span, dtype)
        by_x, by_h, by_raw = np.empty(3 * span, dtype), np.empty(4 * span, dtype), np.empty(2 * small, dtype)
        by_phi, values = np.empty(width * LANES, dtype), np.empty(width * LANES, dtype)
        by_z, by_scale, eps = np.empty(small, dtype), np.empty(small, dtype), np.empty(small, dtype)
        for t in range(num_steps - 1, -1, -1):
            if t < num_steps - 1 and ancestors.shape[0] > 0:
                succeed_backward(ancestors, t + 1, begin * LANES, batch, afters, spare, size)
            for j in range(here):
                lanes, after = slice(j * LANES, (j + 1) * LANES), afters[j * span : (j + 1) * span]
                now = ((begin + j) * num_steps + t) * room
                read(of_phi, at_phi[lanes], t * width, width, by_phi)
                if t < num_steps - 1:
                    read(h, at_h[lanes], t * size, size, before)
                    gru_step_backward(after, before, kept, now, by_x, by_h, span)
                    add_product(from_state, 3 * size, by_x, by_phi)
                else:
                    by_x[:] = 0
                    by_h[:] = 0
                read(phi, at_phi[lanes], t * width, width, values)
                where_positive(by_phi, values)
                write(of_extracted, at_phi[lanes], t * width, width, by_phi, 0)
                read(of_z, at_z[lanes], t * dim, dim, by_z)
                read(of_scale, at_z[lanes], t * dim, dim, by_scale)
                read(noise, at_z[lanes], t * dim, dim, eps)
                add_product(extract, width, by_phi, by_z)
                draw_backward(by_z, by_scale, eps, kept, now + 4 * span, by_raw)
                write(of_raw, at_raw[lanes], 2 * t * dim, 2 * dim, by_raw, 0)
                code[:] = 0
                add_product(head, 2 * dim, by_raw, code)
                read(hidden, at_h[lanes], t * size, size, before)
                where_positive(code, before)
                by_h[:span] = code
                add_product(recurrent, 4 * size, by_h, after)
                read(of_h, at_h[lanes], t * size, size, before)
                add_to(after, before)
                write(of_features, at_features[lanes], 4 * t * size, size, code, 0)
                write(of_features, at_features[lanes], (4 * t + 1) * size, 3 * size, by_x, 0)
                write(of_inside, at_h[lanes], t * size, size, by_h, 3 * span)
        for j in range(here):
            write(of_start, rows(begin + j, 1, batch, size), 0, size, afters[j * span : (j + 1) * span], 0)
