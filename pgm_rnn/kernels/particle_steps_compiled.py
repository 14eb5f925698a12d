"""One step of the weights of a particle filter, compiled by numba, parallel over sequences.

The weights are those of `pgm_rnn.kernels.particle_runs_compiled`: P of them for each sequence, beside each other, where
the log weight is the joint l_t less the log of its sum. The states and their densities are the caller's, particles
first, (N, B). The module is imported when it is first used.
"""

import math

import numba

from pgm_rnn.kernels.particle_runs_compiled import (
    Doubles,
    Floats,
    Integers,
    Places,
    Truths,
    choose,
    jit,
    normalize,
)


@jit
def weigh(
    t: int,
    log_ratios: Floats,
    lengths: Integers,
    threshold: float,
    least: float,
    joint: Floats,
    weights: Floats,
    offset: Doubles,
    log_normalizers: Floats,
    ess: Floats,
    resampled: Truths,
    lost: Integers,
    found: Truths,
) -> None:
    """Weights after step t, counted from 0, from log p(x_t | z_t) p(z_t | ...) / q(z_t | ...), (N, B).

    Changed in place: joint and weights (B P,), offset (B, 2), results (B, T), lost (B, 2), and found (2,): whether a
    sequence is to be resampled before the next step, and whether one was lost in this step.
    """
    num, batch = log_ratios.shape
    size = joint.shape[0] // batch
    for b in numba.prange(batch):
        start = b * size
        if t >= lengths[b]:
            ess[b, t] = ess[b, t - 1]
            continue
        again = t > 0 and ess[b, t - 1] <= threshold
        resampled[b, t] = again
        if again or t == 0:
            left = joint.dtype.type(-math.log(num))
            for n in range(num):
                joint[start + n] = left + log_ratios[n, b]
        else:
            left = joint.dtype.type(-offset[b, 0])
            for n in range(num):
                joint[start + n] += left + log_ratios[n, b]
        normalize(b, t, joint, weights, num, least, offset, ess, log_normalizers, lost)
    found[0] = found[1] = False
    for b in range(batch):
        found[0] |= ess[b, t] <= threshold
        found[1] |= lost[b, 0] == t + 1


@jit
def draw(
    t: int,
    uniforms: Doubles,
    lengths: Integers,
    threshold: float,
    weights: Floats,
    offset: Doubles,
    ess: Floats,
    ancestors: Places,
    places: Integers,
) -> None:
    """Fill places (N, B): where the particles before step t come from, n' B + b for ancestor n' of sequence b.

    Uniforms (B, 1) for systematic resampling, (B, N) for stratified; a sequence that keeps its particles, or has ended,
    is its own ancestor. ancestors (B, P + 1) is space to work in.
    """
    num, batch = places.shape
    size = weights.shape[0] // batch
    for b in numba.prange(batch):
        start = b * size
        if t < lengths[b] and ess[b, t - 1] <= threshold:
            choose(weights, start, num, offset[b, 1], uniforms[b], ancestors[b])
            for n in range(num):
                places[n, b] = ancestors[b, n] * batch + b
        else:
            for n in range(num):
                places[n, b] = n * batch + b
