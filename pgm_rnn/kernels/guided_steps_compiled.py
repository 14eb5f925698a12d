"""One step of all particles along a guide, compiled by numba: states, and the log ratios that their weights gain.

    log p(x_t | z_t, h_t) + log p(z_t | ...) - log q(z_t | ...),      x_t bits, z_t normal under p and q

Eight particles run side by side (`lanes_compiled`, `draws_compiled`), those of a sequence next to each other: n-th
particle of sequence b in row b N + n. The caller's arrays are torch's, particles first, (N, B, ...); arrays of steps
are (B, T, ...). Equations are those of `pgm_rnn.kernels.guided_steps`. The module is imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.combiner_draws_compiled import combine
from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.draws_compiled import clear, copy, draw, fill, groups_of_block, rectify, succeed
from pgm_rnn.kernels.encoder_draws_compiled import affine, encode, rectified, turn
from pgm_rnn.kernels.gated_compiled import add_product, read, write
from pgm_rnn.kernels.lanes_compiled import (
    LANES,
    add,
    exponential,
    inverse_or_zero,
    larger,
    load,
    log_of_one_plus,
    logarithm,
    multiply,
    multiply_add,
    splat,
    store,
    subtract,
    where_larger,
)

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@inner
def _places(first: int, num_rows: int, kin: int, by_row: Integers, by_sequence: Integers) -> None:
    """Where the particles of eight rows stand in (N, B), and the sequence of each; rows beyond the last repeat it."""
    batch = num_rows // kin
    for lane in range(LANES):
        row = min(first + lane, num_rows - 1)
        by_sequence[lane] = row // kin
        by_row[lane] = row % kin * batch + row // kin


@inner
def _ancestors(places: Integers, first: int, num_rows: int, kin: int, before: Integers) -> None:
    """The ancestors of the rows from `first` on, counted from there, from places n' B + b, (N, B)."""
    batch = num_rows // kin
    for lane in range(before.shape[0]):
        row = min(first + lane, num_rows - 1)
        place = places[row % kin * batch + row // kin]
        before[lane] = place % batch * kin + place // batch - first


@inner
def _add_state(z: Floats, raw: Floats, noise: Floats, scale: Floats, least: float, by: Floats) -> None:
    """by += log N(z; loc, s^2) - log N(noise; 0, 1) + log scale, with (loc, a) in `raw` and s = softplus(a)."""
    dtype, span = z.dtype.type, z.shape[0]
    zero, minus, half = splat(dtype(0)), splat(dtype(-1)), splat(dtype(0.5))
    smallest, total = splat(dtype(least)), load(by, 0)
    for k in range(0, span, LANES):
        a, e = load(raw, span + k), load(noise, k)
        small = exponential(where_larger(a, zero, multiply(minus, a), a))  # e^-|a|
        s = larger(add(larger(a, zero), log_of_one_plus(small)), smallest)
        deviation = multiply(subtract(load(z, k), load(raw, k)), inverse_or_zero(s))
        squares = subtract(multiply(e, e), multiply(deviation, deviation))
        logs = subtract(logarithm(load(scale, k)), logarithm(s))
        total = add(total, multiply_add(half, squares, logs))
    store(by, 0, total)


@inner
def _add_bits(logits: Floats, x: Floats, by: Floats) -> None:
    """by += the sum of log p(x_i) of bits with p(x_i = 1) = sigmoid(logits_i)."""
    dtype = logits.dtype.type
    zero, one, minus, total = splat(dtype(0)), splat(dtype(1)), splat(dtype(-1)), load(by, 0)
    for k in range(0, logits.shape[0], LANES):
        a = load(logits, k)
        down = multiply(minus, a)
        small = exponential(where_larger(a, zero, down, a))  # e^-|a|
        loss = multiply_add(subtract(one, load(x, k)), a, larger(down, zero))
        total = subtract(total, add(loss, log_of_one_plus(small)))
    store(by, 0, total)


@inner
def encoder_ratio(
    h: Floats,
    z: Floats,
    read_of_z: Floats,
    noise: Floats,
    scale: Floats,
    x: Floats,
    inside: Floats,
    inside_bias: Floats,
    prior: Floats,
    prior_bias: Floats,
    outside: Floats,
    outside_bias: Floats,
    bits: Floats,
    bits_bias: Floats,
    least: float,
    total: Floats,
) -> None:
    """Fill the log ratios of eight particles whose memory begins with h, drawn from an encoder with noise and scale."""
    span, width = inside_bias.shape[0] * LANES, read_of_z.shape[0]
    code, raw = np.empty(span, z.dtype), np.empty(2 * z.shape[0], z.dtype)
    joined, logits = np.empty(width + span, z.dtype), np.empty(x.shape[0], z.dtype)
    clear(total)
    rectified(inside, inside_bias, h, code)
    affine(prior, prior_bias, code, raw)
    _add_state(z, raw, noise, scale, least, total)
    copy(read_of_z, joined)
    copy(h[:span], joined[width:])
    rectified(outside, outside_bias, joined, code)
    affine(bits, bits_bias, code, logits)
    _add_bits(logits, x, total)


@jit
def encoder_step(
    features: Floats,
    x: Floats,
    noise: Floats,
    places: Integers,
    recurrent: Floats,
    recurrent_bias: Floats,
    head: Floats,
    head_bias: Floats,
    extract: Floats,
    extract_bias: Floats,
    from_state: Floats,
    inside: Floats,
    inside_bias: Floats,
    prior: Floats,
    prior_bias: Floats,
    outside: Floats,
    outside_bias: Floats,
    bits: Floats,
    bits_bias: Floats,
    memory: Floats,
    z: Floats,
    h: Floats,
    log_ratios: Floats,
    num_rows: int,
    kin: int,
    t: int,
    least: float,
) -> None:
    """Step t, counted from 0, along an encoder and its cell; `memory`, (groups, S, 8), is h_t and becomes h_{t+1}.

    Read are features (B, T, G H), x (B, T, M), noise (N, B, D), and places (N, B) of the ancestors, or none; filled are
    z (N, B, D), h (N, B, S) and log_ratios (N, B). Sizes are those of `encoder_draws_compiled`.
    """
    size, dim, width = inside_bias.shape[0], head_bias.shape[0] // 2, extract_bias.shape[0]
    outputs, batch = bits_bias.shape[0], num_rows // kin
    num_steps, num_groups = x.shape[0] // (batch * outputs), (num_rows + LANES - 1) // LANES
    gates, of_memory = recurrent_bias.shape[0], memory.shape[0] // (num_groups * LANES)
    groups, span, small = groups_of_block(kin), of_memory * LANES, dim * LANES
    for block in numba.prange((num_groups + groups - 1) // groups):
        begin, dtype = block * groups, z.dtype
        here = min(groups, num_groups - begin)
        states = memory[begin * span : (begin + here) * span]
        if places.shape[0] > 0:
            before = np.empty(here * LANES, np.int64)
            _ancestors(places, begin * LANES, num_rows, kin, before)
            succeed(before, 0, 0, here * LANES, states, np.empty(here * span, dtype), of_memory)
        by_row, by_sequence = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
        given, sums, code = (
            np.empty(gates * LANES, dtype),
            np.empty(gates * LANES, dtype),
            np.empty(size * LANES, dtype),
        )
        kept, raw = np.empty(gates * LANES + small, dtype), np.empty(2 * small, dtype)
        eps, scale, drawn = np.empty(small, dtype), np.empty(small, dtype), np.empty(small, dtype)
        seen, read_of_z = np.empty(outputs * LANES, dtype), np.empty(width * LANES, dtype)
        total = np.empty(LANES, dtype)
        for j in range(here):
            state = states[j * span : (j + 1) * span]
            _places((begin + j) * LANES, num_rows, kin, by_row, by_sequence)
            at = by_sequence * num_steps + t
            read(features, at * gates, 0, gates, given)
            read(x, at * outputs, 0, outputs, seen)
            read(noise, by_row * dim, 0, dim, eps)
            write(h, by_row * of_memory, 0, of_memory, state, 0)
            encode(given, state, recurrent, recurrent_bias, head, head_bias, sums, code, raw)
            draw(raw, eps, least, scale, drawn, kept, gates * LANES)
            write(z, by_row * dim, 0, dim, drawn, 0)
            rectified(extract, extract_bias, drawn, read_of_z)
            encoder_ratio(
                state,
                drawn,
                read_of_z,
                eps,
                scale,
                seen,
                inside,
                inside_bias,
                prior,
                prior_bias,
                outside,
                outside_bias,
                bits,
                bits_bias,
                least,
                total,
            )
            write(log_ratios, by_row, 0, 1, total, 0)
            add_product(from_state, width, read_of_z, given[size * LANES :])
            turn(given, sums, size * LANES, state, kept, 0)


@inner
def combiner_ratio(
    last: Floats,
    z: Floats,
    noise: Floats,
    scale: Floats,
    x: Floats,
    gate_inside: Floats,
    gate_inside_bias: Floats,
    gate: Floats,
    gate_bias: Floats,
    proposed_inside: Floats,
    proposed_inside_bias: Floats,
    proposed: Floats,
    proposed_bias: Floats,
    linear: Floats,
    linear_bias: Floats,
    deviation: Floats,
    deviation_bias: Floats,
    outside: Floats,
    outside_bias: Floats,
    second: Floats,
    second_bias: Floats,
    bits: Floats,
    bits_bias: Floats,
    least: float,
    total: Floats,
) -> None:
    """Fill the log ratios of eight particles that moved from `last`, drawn from a combiner with noise and scale."""
    span, wide = z.shape[0], outside_bias.shape[0] * LANES
    hidden, deeper, logits = np.empty(wide, z.dtype), np.empty(wide, z.dtype), np.empty(x.shape[0], z.dtype)
    gates, suggested, law = np.empty(span, z.dtype), np.empty(span, z.dtype), np.empty(2 * span, z.dtype)
    clear(total)
    rectified(gate_inside, gate_inside_bias, last, hidden)
    affine(gate, gate_bias, hidden, gates)
    rectified(proposed_inside, proposed_inside_bias, last, hidden)
    affine(proposed, proposed_bias, hidden, suggested)
    affine(linear, linear_bias, last, law[:span])
    _mix(gates, suggested, law)
    rectify(suggested)
    affine(deviation, deviation_bias, suggested, law[span:])
    _add_state(z, law, noise, scale, least, total)
    rectified(outside, outside_bias, z, hidden)
    rectified(second, second_bias, hidden, deeper)
    affine(bits, bits_bias, deeper, logits)
    _add_bits(logits, x, total)


@jit
def combiner_step(
    features: Floats,
    x: Floats,
    noise: Floats,
    places: Integers,
    combiner: Floats,
    combiner_bias: Floats,
    head: Floats,
    head_bias: Floats,
    gate_inside: Floats,
    gate_inside_bias: Floats,
    gate: Floats,
    gate_bias: Floats,
    proposed_inside: Floats,
    proposed_inside_bias: Floats,
    proposed: Floats,
    proposed_bias: Floats,
    linear: Floats,
    linear_bias: Floats,
    deviation: Floats,
    deviation_bias: Floats,
    outside: Floats,
    outside_bias: Floats,
    second: Floats,
    second_bias: Floats,
    bits: Floats,
    bits_bias: Floats,
    start: Floats,
    memory: Floats,
    z: Floats,
    log_ratios: Floats,
    num_rows: int,
    kin: int,
    t: int,
    least: float,
) -> None:
    """Step t, counted from 0, along a combiner; `memory`, (groups, D, 8), is z_{t-1} and becomes z_t.

    `start`, (D,), is the state before the first one as the model's transition reads it; `memory` has the guide's. The
    other arrays are as in `encoder_step`, features (B, T, G).
    """
    width, dim = combiner_bias.shape[0], head_bias.shape[0] // 2
    outputs, batch = bits_bias.shape[0], num_rows // kin
    num_steps, num_groups = x.shape[0] // (batch * outputs), (num_rows + LANES - 1) // LANES
    groups, span = groups_of_block(kin), dim * LANES
    for block in numba.prange((num_groups + groups - 1) // groups):
        begin, dtype = block * groups, z.dtype
        here = min(groups, num_groups - begin)
        states = memory[begin * span : (begin + here) * span]
        if places.shape[0] > 0:
            before = np.empty(here * LANES, np.int64)
            _ancestors(places, begin * LANES, num_rows, kin, before)
            succeed(before, 0, 0, here * LANES, states, np.empty(here * span, dtype), dim)
        by_row, by_sequence = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
        given, code = np.empty(width * LANES, dtype), np.empty(width * LANES, dtype)
        kept, raw = np.empty((width + dim) * LANES, dtype), np.empty(2 * span, dtype)
        eps, scale, last = np.empty(span, dtype), np.empty(span, dtype), np.empty(span, dtype)
        seen, total = np.empty(outputs * LANES, dtype), np.empty(LANES, dtype)
        for j in range(here):
            state = states[j * span : (j + 1) * span]
            _places((begin + j) * LANES, num_rows, kin, by_row, by_sequence)
            at = by_sequence * num_steps + t
            read(features, at * width, 0, width, given)
            read(x, at * outputs, 0, outputs, seen)
            read(noise, by_row * dim, 0, dim, eps)
            copy(state, last)
            if t == 0:
                fill(start, last)
            affine(combiner, combiner_bias, state, code)
            combine(code, given, kept, 0)
            affine(head, head_bias, code, raw)
            draw(raw, eps, least, scale, state, kept, width * LANES)
            write(z, by_row * dim, 0, dim, state, 0)
            combiner_ratio(
                last,
                state,
                eps,
                scale,
                seen,
                gate_inside,
                gate_inside_bias,
                gate,
                gate_bias,
                proposed_inside,
                proposed_inside_bias,
                proposed,
                proposed_bias,
                linear,
                linear_bias,
                deviation,
                deviation_bias,
                outside,
                outside_bias,
                second,
                second_bias,
                bits,
                bits_bias,
                least,
                total,
            )
            write(log_ratios, by_row, 0, 1, total, 0)


@inner
def _mix(gates: Floats, suggested: Floats, loc: Floats) -> None:
    """loc += sigmoid(gates) (suggested - loc)."""
    dtype = gates.dtype.type
    one, minus = splat(dtype(1)), splat(dtype(-1))
    for k in range(0, gates.shape[0], LANES):
        part = inverse_or_zero(add(one, exponential(multiply(minus, load(gates, k)))))
        mean = load(loc, k)
        store(loc, k, multiply_add(part, subtract(load(suggested, k), mean), mean))
