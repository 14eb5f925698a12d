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
from pgm_rnn.kernels.gated_compiled import add_product, gru_step, gru_step_backward, read, write
from pgm_rnn.kernels.lanes_compiled import LANES

Floats = NDArray[np.floating]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})


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
        given, sums = np.empty(4 * span, dtype), np.empty(4 * span, dtype)
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
                gru_step_backward(after, before, kept, now, by_x, by_h, span)
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
