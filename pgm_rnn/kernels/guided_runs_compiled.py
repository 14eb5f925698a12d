"""All steps of a particle filter along a guide, compiled by numba, with what the gradient of the guide's draws reads.

A block of rows holds all particles of some sequences (`draws_compiled`), so that it runs through all steps by itself:
its ancestors are chosen (`particle_runs_compiled`), its states drawn as in `encoder_draws_compiled` and
`combiner_draws_compiled`, and weighed as in `guided_steps_compiled`. The n-th particle of sequence b is row b N + n.
Arrays are flat, but for those of sequences and steps, (B, T), and what a filter carries, (B, ...). The module is
imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.combiner_draws_compiled import combine
from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.draws_compiled import copy, draw, fill, groups_of_block, rows, succeed
from pgm_rnn.kernels.encoder_draws_compiled import affine, encode, rectified, turn
from pgm_rnn.kernels.gated_compiled import add_product, read, write
from pgm_rnn.kernels.guided_steps_compiled import combiner_ratio, encoder_ratio
from pgm_rnn.kernels.lanes_compiled import LANES
from pgm_rnn.kernels.particle_runs_compiled import begin, normalize

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.int32]
Truths = NDArray[np.bool_]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@inner
def _resample(
    t: int,
    first: int,
    kin: int,
    lengths: Integers,
    threshold: float,
    uniforms: Doubles,
    weights: Floats,
    chosen: Places,
    offset: Doubles,
    ess: Floats,
    resampled: Truths,
    ancestors: Integers,
    added: Doubles,
) -> bool:
    """Choose the ancestors of the sequences from `first` on before step t; whether there are new ones.

    Filled are their part of ancestors (B N, T), and what is added to each one's l_{t-1}.
    """
    num_steps, some = ess.shape[1], False
    for i in range(added.shape[0]):
        b, again = first + i, False
        if t < lengths[b]:
            again, added[i] = begin(b, t, kin, threshold, uniforms, weights, chosen, offset, ess, resampled)
        for n in range(kin):
            ancestors[(b * kin + n) * num_steps + t] = b * kin + (chosen[b, n] if again else n)
        some |= again
    return some


@inner
def _weigh(
    t: int,
    first: int,
    kin: int,
    lengths: Integers,
    least: float,
    added: Doubles,
    ratios: Floats,
    joint: Floats,
    weights: Floats,
    offset: Doubles,
    ess: Floats,
    log_normalizers: Floats,
    resampled: Truths,
    lost: Integers,
) -> None:
    """Weights of the sequences from `first` on after step t, from the log ratios of their rows."""
    size = joint.shape[0] // ess.shape[0]
    for i in range(added.shape[0]):
        b = first + i
        if t >= lengths[b]:
            ess[b, t] = ess[b, t - 1]
            continue
        start, more = b * size, joint.dtype.type(added[i])
        if t == 0 or resampled[b, t]:
            for n in range(kin):
                joint[start + n] = more + ratios[i * kin + n]
        else:
            for n in range(kin):
                joint[start + n] += more + ratios[i * kin + n]
        normalize(b, t, joint, weights, kin, least, offset, ess, log_normalizers, lost)


@jit
def along_encoder(
    features: Floats,
    x: Floats,
    noise: Floats,
    uniforms: Doubles,
    lengths: Integers,
    start: Floats,
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
    z: Floats,
    h: Floats,
    scale: Floats,
    phi: Floats,
    hidden: Floats,
    kept: Floats,
    ancestors: Integers,
    joint: Floats,
    weights: Floats,
    chosen: Places,
    offset: Doubles,
    ess: Floats,
    log_normalizers: Floats,
    resampled: Truths,
    lost: Integers,
    kin: int,
    threshold: float,
    least_weight: float,
    least: float,
) -> None:
    """A filter along an encoder: fill what `encoder_draws_compiled.draws` fills, of R = B N rows, and ancestors (R, T).

    Read are features (B, T, G H), x (B, T, M), noise (R, T, D), uniforms (B, T), lengths (B,) and start (S,). Arrays of
    the weights are those of `particle_runs_compiled`.
    """
    gates, dim, width = recurrent_bias.shape[0], head_bias.shape[0] // 2, extract_bias.shape[0]
    size, of_memory, outputs = inside_bias.shape[0], start.shape[0], bits_bias.shape[0]
    (num, num_steps), room = ess.shape, (gates + dim) * LANES
    batch = num * kin
    num_groups, groups = (batch + LANES - 1) // LANES, groups_of_block(kin)
    steps = kept.shape[0] // (num_groups * room)
    for block in numba.prange((num_groups + groups - 1) // groups):
        front = block * groups
        here, dtype, span, small = min(groups, num_groups - front), z.dtype, of_memory * LANES, dim * LANES
        first = front * LANES // kin
        added, ratios = np.zeros(min(here * LANES // kin, num - first)), np.empty(here * LANES, dtype)
        by_row = rows(front, here, batch, num_steps)
        by_sequence = by_row // (kin * num_steps) * num_steps
        states, spare = np.empty(here * span, dtype), np.empty(here * span, dtype)
        given, sums = np.empty(gates * LANES, dtype), np.empty(gates * LANES, dtype)
        code, raw, read_of_z = np.empty(size * LANES, dtype), np.empty(2 * small, dtype), np.empty(width * LANES, dtype)
        eps, deviation, drawn = np.empty(small, dtype), np.empty(small, dtype), np.empty(small, dtype)
        seen = np.empty(outputs * LANES, dtype)
        for j in range(here):
            fill(start, states[j * span : (j + 1) * span])
        for t in range(num_steps):
            if _resample(
                t,
                first,
                kin,
                lengths,
                threshold,
                uniforms,
                weights,
                chosen,
                offset,
                ess,
                resampled,
                ancestors,
                added,
            ):
                succeed(ancestors, t, front * LANES, batch, states, spare, of_memory)
            for j in range(here):
                lanes, state = slice(j * LANES, (j + 1) * LANES), states[j * span : (j + 1) * span]
                at, of = by_row[lanes], by_sequence[lanes]
                now = ((front + j) * steps + (t if steps > 1 else 0)) * room
                read(features, of * gates, t * gates, gates, given)
                read(x, of * outputs, t * outputs, outputs, seen)
                read(noise, at * dim, t * dim, dim, eps)
                write(h, at * of_memory, t * of_memory, of_memory, state, 0)
                encode(given, state, recurrent, recurrent_bias, head, head_bias, sums, code, raw)
                write(hidden, at * size, t * size, size, code, 0)
                draw(raw, eps, least, deviation, drawn, kept, now + gates * LANES)
                write(z, at * dim, t * dim, dim, drawn, 0)
                write(scale, at * dim, t * dim, dim, deviation, 0)
                rectified(extract, extract_bias, drawn, read_of_z)
                write(phi, at * width, t * width, width, read_of_z, 0)
                encoder_ratio(
                    state,
                    drawn,
                    read_of_z,
                    eps,
                    deviation,
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
                    ratios[lanes],
                )
                add_product(from_state, width, read_of_z, given[size * LANES :])
                turn(given, sums, size * LANES, state, kept, now)
            _weigh(
                t,
                first,
                kin,
                lengths,
                least_weight,
                added,
                ratios,
                joint,
                weights,
                offset,
                ess,
                log_normalizers,
                resampled,
                lost,
            )


@jit
def along_combiner(
    features: Floats,
    x: Floats,
    noise: Floats,
    uniforms: Doubles,
    lengths: Integers,
    start: Floats,
    start_of_model: Floats,
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
    z: Floats,
    scale: Floats,
    combined: Floats,
    kept: Floats,
    ancestors: Integers,
    joint: Floats,
    weights: Floats,
    chosen: Places,
    offset: Doubles,
    ess: Floats,
    log_normalizers: Floats,
    resampled: Truths,
    lost: Integers,
    kin: int,
    threshold: float,
    least_weight: float,
    least: float,
) -> None:
    """A filter along a combiner: fill what `combiner_draws_compiled.draws` fills, of R rows, and ancestors (R, T).

    Read are features (B, T, G), the guide's z_0 and the model's, (D,) each, and the other arrays of `along_encoder`.
    """
    width, dim = combiner_bias.shape[0], head_bias.shape[0] // 2
    outputs, room = bits_bias.shape[0], (width + dim) * LANES
    num, num_steps = ess.shape
    batch = num * kin
    num_groups, groups = (batch + LANES - 1) // LANES, groups_of_block(kin)
    steps = kept.shape[0] // (num_groups * room)
    for block in numba.prange((num_groups + groups - 1) // groups):
        front = block * groups
        here, dtype, span = min(groups, num_groups - front), z.dtype, dim * LANES
        first = front * LANES // kin
        added, ratios = np.zeros(min(here * LANES // kin, num - first)), np.empty(here * LANES, dtype)
        by_row = rows(front, here, batch, num_steps)
        by_sequence = by_row // (kin * num_steps) * num_steps
        states, spare = np.empty(here * span, dtype), np.empty(here * span, dtype)
        given, code = np.empty(width * LANES, dtype), np.empty(width * LANES, dtype)
        eps, spread, raw = np.empty(span, dtype), np.empty(span, dtype), np.empty(2 * span, dtype)
        seen, last = np.empty(outputs * LANES, dtype), np.empty(span, dtype)
        for j in range(here):
            fill(start, states[j * span : (j + 1) * span])
        for t in range(num_steps):
            if _resample(
                t,
                first,
                kin,
                lengths,
                threshold,
                uniforms,
                weights,
                chosen,
                offset,
                ess,
                resampled,
                ancestors,
                added,
            ):
                succeed(ancestors, t, front * LANES, batch, states, spare, dim)
            for j in range(here):
                lanes, state = slice(j * LANES, (j + 1) * LANES), states[j * span : (j + 1) * span]
                at, of = by_row[lanes], by_sequence[lanes]
                now = ((front + j) * steps + (t if steps > 1 else 0)) * room
                read(features, of * width, t * width, width, given)
                read(x, of * outputs, t * outputs, outputs, seen)
                read(noise, at * dim, t * dim, dim, eps)
                copy(state, last)
                if t == 0:
                    fill(start_of_model, last)
                affine(combiner, combiner_bias, state, code)
                combine(code, given, kept, now)
                write(combined, at * width, t * width, width, code, 0)
                affine(head, head_bias, code, raw)
                draw(raw, eps, least, spread, state, kept, now + width * LANES)
                write(z, at * dim, t * dim, dim, state, 0)
                write(scale, at * dim, t * dim, dim, spread, 0)
                combiner_ratio(
                    last,
                    state,
                    eps,
                    spread,
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
                    ratios[lanes],
                )
            _weigh(
                t,
                first,
                kin,
                lengths,
                least_weight,
                added,
                ratios,
                joint,
                weights,
                offset,
                ess,
                log_normalizers,
                resampled,
                lost,
            )
