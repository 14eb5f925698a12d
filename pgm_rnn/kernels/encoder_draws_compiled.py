"""States drawn from an encoder along a GRU or an LSTM that reads them, and the gradient, compiled by numba.

Eight rows, sequences or particles, run side by side (`lanes_compiled`, `draws_compiled`). Arrays are flat; rows stand
by sequence and step, (B, T, ...), and what only the gradient reads by groups of eight, (groups, T, G H + D, 8). Sizes:
H units, S = H numbers of a memory and G = 4 for a GRU, S = 2 H and G = 5 for an LSTM, D entries of a state, F features
of a state. Equations are those of `pgm_rnn.kernels.encoder_draws`. The module is imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.draws_compiled import (
    add_to,
    clear,
    copy,
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
from pgm_rnn.kernels.gated_compiled import (
    add_product,
    gru_step,
    gru_step_backward,
    lstm_step,
    lstm_step_backward,
    read,
    write,
)
from pgm_rnn.kernels.lanes_compiled import LANES

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@inner
def affine(matrix: Floats, bias: Floats, vector: Floats, sums: Floats) -> None:
    """sums = matrix vector + bias; a vector may have more numbers than the matrix has columns, which are not read."""
    fill(bias, sums)
    add_product(matrix, matrix.shape[0] // bias.shape[0], vector, sums)


@inner
def rectified(matrix: Floats, bias: Floats, vector: Floats, sums: Floats) -> None:
    """sums = relu(matrix vector + bias)."""
    affine(matrix, bias, vector, sums)
    rectify(sums)


@inner
def encode(
    given: Floats,
    memory: Floats,
    recurrent: Floats,
    recurrent_bias: Floats,
    head: Floats,
    head_bias: Floats,
    sums: Floats,
    code: Floats,
    raw: Floats,
) -> None:
    """Fill E h + U h, u and (loc, raw) from what is given of x_t and a memory, which begins with h."""
    affine(recurrent, recurrent_bias, memory, sums)
    copy(given[: code.shape[0]], code)
    add_to(code, sums)
    rectify(code)
    affine(head, head_bias, code, raw)


@inner
def turn(given: Floats, sums: Floats, place: int, memory: Floats, kept: Floats, now: int) -> None:
    """The memory's next step in its place, from what x, z and h make of its gates, from `place` on.

    A GRU has three numbers there for each of its memory, an LSTM, whose memory has cells besides, two.
    """
    if given.shape[0] - place == 3 * memory.shape[0]:
        gru_step(given, sums, place, memory, kept, now)
    else:
        lstm_step(given, sums, place, memory, kept, now)


@inner
def turn_backward(
    after: Floats, before: Floats, kept: Floats, now: int, by_x: Floats, by_h: Floats, place: int
) -> None:
    """Derivatives by what x and z, and from `place` on h, make of the gates; `after` becomes what is not by gates."""
    if by_x.shape[0] == 3 * before.shape[0]:
        gru_step_backward(after, before, kept, now, by_x, by_h, place)
    else:
        lstm_step_backward(after, before, kept, now, by_x, by_h, place)


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
    """Fill z and scale (B, T, D), h (B, T, S), hidden (B, T, H), phi (B, T, F), and what the gradient reads.

    `features` is (B, T, G H), `noise` (B, T, D), `start` (B, S), `ancestors` (B, T) or empty; the matrices are E and U,
    (G H, H), M (2 D, H), P (F, D) and V ((G - 1) H, F). `kept` (groups, T or 1, G H + D, 8) is of one step if it is to
    be overwritten.
    """
    gates, dim, width = recurrent_bias.shape[0], head_bias.shape[0] // 2, extract_bias.shape[0]
    size, of_memory = head.shape[0] // (2 * dim), start.shape[0] // batch
    num_groups = (batch + LANES - 1) // LANES
    num_steps = z.shape[0] // (batch * dim)
    room = (gates + dim) * LANES
    steps, groups = kept.shape[0] // (num_groups * room), groups_of_block(kin)
    for block in numba.prange((num_groups + groups - 1) // groups):
        begin = block * groups
        here, dtype, span, small = min(groups, num_groups - begin), z.dtype, of_memory * LANES, dim * LANES
        at_features = rows(begin, here, batch, num_steps * gates)
        at_h, at_z = rows(begin, here, batch, num_steps * of_memory), rows(begin, here, batch, num_steps * dim)
        at_code, at_phi = rows(begin, here, batch, num_steps * size), rows(begin, here, batch, num_steps * width)
        states, spare = np.empty(here * span, dtype), np.empty(here * span, dtype)
        given, sums = np.empty(gates * LANES, dtype), np.empty(gates * LANES, dtype)
        code, raw, read_of_z = np.empty(size * LANES, dtype), np.empty(2 * small, dtype), np.empty(width * LANES, dtype)
        eps, deviation, drawn = np.empty(small, dtype), np.empty(small, dtype), np.empty(small, dtype)
        for j in range(here):
            read(start, rows(begin + j, 1, batch, of_memory), 0, of_memory, states[j * span : (j + 1) * span])
        for t in range(num_steps):
            if t > 0 and ancestors.shape[0] > 0:
                succeed(ancestors, t, begin * LANES, batch, states, spare, of_memory)
            for j in range(here):
                lanes, state = slice(j * LANES, (j + 1) * LANES), states[j * span : (j + 1) * span]
                now = ((begin + j) * steps + (t if steps > 1 else 0)) * room
                read(features, at_features[lanes], t * gates, gates, given)
                read(noise, at_z[lanes], t * dim, dim, eps)
                write(h, at_h[lanes], t * of_memory, of_memory, state, 0)
                encode(given, state, recurrent, recurrent_bias, head, head_bias, sums, code, raw)
                write(hidden, at_code[lanes], t * size, size, code, 0)
                draw(raw, eps, least, deviation, drawn, kept, now + gates * LANES)
                write(z, at_z[lanes], t * dim, dim, drawn, 0)
                write(scale, at_z[lanes], t * dim, dim, deviation, 0)
                rectified(extract, extract_bias, drawn, read_of_z)
                write(phi, at_phi[lanes], t * width, width, read_of_z, 0)
                add_product(from_state, width, read_of_z, given[size * LANES :])
                turn(given, sums, size * LANES, state, kept, now)


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

    The matrices are transposed: (H, G H), (H, 2 D), (D, F), (F, (G - 1) H). Filled are the derivatives by the features
    (B, T, G H), by what a GRU's r multiplies (B, T, H), by M u + m (B, T, 2 D), by P z + q (B, T, F) and by the first
    memory (B, S).
    """
    of_memory, num_steps = of_start.shape[0] // batch, of_h.shape[0] // of_start.shape[0]
    size, gates = hidden.shape[0] // (batch * num_steps), of_features.shape[0] // (batch * num_steps)
    dim, width = of_z.shape[0] // (batch * num_steps), of_phi.shape[0] // (batch * num_steps)
    num_groups, room = (batch + LANES - 1) // LANES, (gates + dim) * LANES
    groups = groups_of_block(kin)
    for block in numba.prange((num_groups + groups - 1) // groups):
        begin = block * groups
        here, dtype, span, small = min(groups, num_groups - begin), of_z.dtype, of_memory * LANES, dim * LANES
        at_features = rows(begin, here, batch, num_steps * gates)
        at_h, at_z = rows(begin, here, batch, num_steps * of_memory), rows(begin, here, batch, num_steps * dim)
        at_code, at_raw = rows(begin, here, batch, num_steps * size), rows(begin, here, batch, 2 * num_steps * dim)
        at_phi = rows(begin, here, batch, num_steps * width)
        afters, spare, before = np.zeros(here * span, dtype), np.empty(here * span, dtype), np.empty(span, dtype)
        code, used = np.empty(size * LANES, dtype), np.empty(size * LANES, dtype)
        by_x, by_h = np.empty((gates - size) * LANES, dtype), np.empty(gates * LANES, dtype)
        by_phi, values = np.empty(width * LANES, dtype), np.empty(width * LANES, dtype)
        by_z, by_scale, eps = np.empty(small, dtype), np.empty(small, dtype), np.empty(small, dtype)
        by_raw = np.empty(2 * small, dtype)
        for t in range(num_steps - 1, -1, -1):
            if t < num_steps - 1 and ancestors.shape[0] > 0:
                succeed_backward(ancestors, t + 1, begin * LANES, batch, afters, spare, of_memory)
            for j in range(here):
                lanes, after = slice(j * LANES, (j + 1) * LANES), afters[j * span : (j + 1) * span]
                now = ((begin + j) * num_steps + t) * room
                read(of_phi, at_phi[lanes], t * width, width, by_phi)
                if t < num_steps - 1:
                    read(h, at_h[lanes], t * of_memory, of_memory, before)
                    turn_backward(after, before, kept, now, by_x, by_h, size * LANES)
                    add_product(from_state, gates - size, by_x, by_phi)
                else:
                    clear(by_x)
                    clear(by_h)
                read(phi, at_phi[lanes], t * width, width, values)
                where_positive(by_phi, values)
                write(of_extracted, at_phi[lanes], t * width, width, by_phi, 0)
                read(of_z, at_z[lanes], t * dim, dim, by_z)
                read(of_scale, at_z[lanes], t * dim, dim, by_scale)
                read(noise, at_z[lanes], t * dim, dim, eps)
                add_product(extract, width, by_phi, by_z)
                draw_backward(by_z, by_scale, eps, kept, now + gates * LANES, by_raw)
                write(of_raw, at_raw[lanes], 2 * t * dim, 2 * dim, by_raw, 0)
                clear(code)
                add_product(head, 2 * dim, by_raw, code)
                read(hidden, at_code[lanes], t * size, size, used)
                where_positive(code, used)
                copy(code, by_h)
                add_product(recurrent, gates, by_h, after)
                read(of_h, at_h[lanes], t * of_memory, of_memory, before)
                add_to(after, before)
                write(of_features, at_features[lanes], t * gates, size, code, 0)
                write(of_features, at_features[lanes], t * gates + size, gates - size, by_x, 0)
                if of_inside.shape[0] > 0:
                    write(of_inside, at_code[lanes], t * size, size, by_h, 3 * size * LANES)
        for j in range(here):
            at_start = rows(begin + j, 1, batch, of_memory)
            write(of_start, at_start, 0, of_memory, afters[j * span : (j + 1) * span], 0)
