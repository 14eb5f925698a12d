"""Whole bootstrap filters, compiled by numba, parallel over sequences: a linear-Gaussian chain and a finite one.

A block of steps is run at a time, from noise that torch has drawn, so that results depend on no number of threads. The
weights of a sequence stand beside each other, P of them, which is N rounded up to whole vectors; those beyond N are
zero. log W_t is kept as the joint log l_t and the log of its sum, which is taken off when it is next needed:

    l_t^n = l_{t-1}^n - log sum_m exp(l_{t-1}^m) + log p(x_t | z_t^n),      -log N + log p(x_t | z_t^n) after resampling

The module is imported when it is first used.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.lanes_compiled import (
    LANES,
    add,
    exponential,
    in_double,
    larger,
    load,
    multiply_add,
    splat,
    store,
    subtract,
)

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Places = NDArray[np.int32]
Truths = NDArray[np.bool_]

CHUNK = 64
"""Vectors that are summed in the dtype of the weights; sums of chunks are in double precision."""

part = jitted(error_model="numpy", fastmath={"contract", "nsz"}, inline="never")
jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})


@part
def weigh(joint: Floats, weights: Floats, start: int, size: int, least: float) -> tuple[float, float, float]:
    """Fill weights[start : start + size] with exp(joint - shift); return shift, their sum and that of their squares.

    Weights below `least` of the largest are zero, as in `pgm_rnn.kernels.weights`. `size` is a multiple of `LANES`.
    Where no weight is positive, shift is minus infinity and weights are undefined.
    """
    dtype = joint.dtype.type
    lanes = np.empty(LANES, joint.dtype)
    most = splat(dtype(-np.inf))
    for place in range(start, start + size, LANES):
        most = larger(most, load(joint, place))
    store(lanes, 0, most)
    shift = lanes.max()
    if shift == -np.inf:
        return shift, 0.0, 0.0
    double = np.empty(LANES)
    total, squares, top, floor = splat(0.0), splat(0.0), splat(dtype(shift)), splat(dtype(least))
    for begin in range(start, start + size, CHUNK * LANES):
        some, some_squares = splat(dtype(0)), splat(dtype(0))
        for place in range(begin, min(begin + CHUNK * LANES, start + size), LANES):
            weight = exponential(subtract(load(joint, place), top))
            weight = subtract(larger(weight, floor), floor)
            store(weights, place, weight)
            some, some_squares = add(some, weight), multiply_add(weight, weight, some_squares)
        total, squares = add(total, in_double(some)), add(squares, in_double(some_squares))
    store(double, 0, total)
    sum_of_all = double.sum()
    store(double, 0, squares)
    return shift, sum_of_all, double.sum()


@part
def choose(weights: Floats, start: int, num: int, total: float, uniforms: Doubles, ancestors: Places) -> None:
    """Fill ancestors[start : start + num] from the points (n + u_n) / N of the running sums.

    One uniform for all parts is systematic resampling, one for each is stratified. It is
    `pgm_rnn.kernels.inverse_cdf`, each index written wherever its points are.
    """
    of_each = uniforms.shape[0] > 1
    begin, until, last = 0, 0.0, 0
    scale = num / total
    for n in range(num):
        weight = weights[start + n]
        if weight > 0:
            last = n
        until += weight
        reached = until * scale
        whole = min(int(reached), num - 1)
        end = whole + (uniforms[whole if of_each else 0] < reached - whole)
        while begin < end:
            ancestors[start + begin] = n
            begin += 1
    while begin < num:  # rounding may leave the last points beyond the last sum
        ancestors[start + begin] = last
        begin += 1


@part
def normalize(
    b: int,
    t: int,
    joint: Floats,
    weights: Floats,
    num: int,
    least: float,
    offset: Doubles,
    ess: Floats,
    log_normalizers: Floats,
    lost: Integers,
) -> None:
    """What follows from l_t of a sequence: weights, log of their sum, effective sample size, log p(x_t | x_{1:t-1}).

    A sequence without a positive weight, or with NaN or an infinite one, is noted in `lost` (B, 2): the step, from 1,
    and 0, 1 or 2. It goes on with equal weights.
    """
    size = joint.shape[0] // log_normalizers.shape[0]
    start = b * size
    shift, total, squares = weigh(joint, weights, start, size, least)
    log_total = shift + math.log(total) if total > 0 else -np.inf
    if not (abs(log_total) < np.inf):
        kind = 0
        for n in range(num):
            if joint[start + n] == np.inf:
                kind = max(kind, 1)
            if math.isnan(joint[start + n]):
                kind = 2
        if lost[b, 0] == 0 or kind > lost[b, 1]:
            lost[b, 0], lost[b, 1] = t + 1, kind
        log_normalizers[b, t] = -np.inf
        for n in range(num):
            joint[start + n], weights[start + n] = 0, 1
        log_total, total, squares = math.log(num), float(num), float(num)
    else:
        log_normalizers[b, t] = log_total
    offset[b, 0], offset[b, 1] = log_total, total
    ess[b, t] = total * total / squares


@jit
def linear_gaussian(
    first: int,
    noise: Floats,
    uniforms: Doubles,
    threshold: float,
    least: float,
    mean: Floats,
    initial_root: Floats,
    matrix: Floats,
    root: Floats,
    state_offset: Floats,
    weighing: Floats,
    x: Floats,
    peak: Floats,
    lengths: Integers,
    z: Floats,
    other: Floats,
    joint: Floats,
    weights: Floats,
    ancestors: Places,
    offset: Doubles,
    log_normalizers: Floats,
    ess: Floats,
    resampled: Truths,
    lost: Integers,
) -> None:
    """S steps from `first` of z_t = A_t z_{t-1} + b_t + L_t e_t, where log p(x_t | z_t) = c_t - |y_t - W_t z_t|^2 / 2.

    y_t = S^-1 x_t and W_t = S^-1 C_t, with R_t = S S'. Arrays: noise e (B, S, N, D), uniforms (B, T); mean (B or 1, D),
    initial_root (B or 1, D, D); those of steps (B or 1, T or 1, ...), transitions counted from the second; x is y
    (B, T, M) and peak is c. State, changed in place: z (B, N, D), joint and weights (B P,), offset (B, 2). Results
    (B, T).
    """
    batch, num_steps, num, dim = noise.shape
    size, outputs = joint.shape[0] // batch, x.shape[2]
    for b in numba.prange(batch):
        start = b * size
        mean_b, initial_b = b % mean.shape[0], b % initial_root.shape[0]
        matrix_b, root_b, offset_b = b % matrix.shape[0], b % root.shape[0], b % state_offset.shape[0]
        weighing_b, peak_b = b % weighing.shape[0], b % peak.shape[0]
        for s in range(num_steps):
            t = first + s
            if t >= lengths[b]:
                ess[b, t] = ess[b, t - 1]
                continue
            again = t > 0 and ess[b, t - 1] <= threshold
            resampled[b, t] = again
            if again:
                choose(weights, start, num, offset[b, 1], uniforms[b, t : t + 1], ancestors)
            left = joint.dtype.type(-math.log(num) if again or t == 0 else -offset[b, 0])
            equal = again or t == 0
            tm, tr = (t - 1) % matrix.shape[1], (t - 1) % root.shape[1]
            to, tw, tp = (t - 1) % state_offset.shape[1], t % weighing.shape[1], t % peak.shape[1]
            high = peak[peak_b, tp] + left
            if dim == 1 and outputs == 1:
                w, y, half = weighing[weighing_b, tw, 0, 0], x[b, t, 0], joint.dtype.type(0.5)
                if t == 0:
                    a, c, scale = joint.dtype.type(0), mean[mean_b, 0], initial_root[initial_b, 0, 0]
                else:
                    a, c = matrix[matrix_b, tm, 0, 0], state_offset[offset_b, to, 0]
                    scale = root[root_b, tr, 0, 0]
                before, now, normal = z[b, :, 0], other[b, :, 0], noise[b, s, :, 0]
                if again:
                    for n in range(num):
                        now[n] = before[ancestors[start + n]]
                    for n in range(num):
                        now[n] = a * now[n] + c + scale * normal[n]
                else:
                    for n in range(num):
                        now[n] = a * before[n] + c + scale * normal[n]
                goal = joint[start : start + num]
                if equal:
                    for n in range(num):
                        deviation = y - w * now[n]
                        goal[n] = high - half * deviation * deviation
                else:
                    for n in range(num):
                        deviation = y - w * now[n]
                        goal[n] += high - half * deviation * deviation
                for n in range(num):
                    before[n] = now[n]
            else:
                for n in range(num):
                    origin = ancestors[start + n] if again else n
                    for i in range(dim):
                        if t == 0:
                            value = mean[mean_b, i]
                            for j in range(i + 1):
                                value += initial_root[initial_b, i, j] * noise[b, s, n, j]
                        else:
                            value = state_offset[offset_b, to, i]
                            for j in range(dim):
                                value += matrix[matrix_b, tm, i, j] * z[b, origin, j]
                            for j in range(i + 1):
                                value += root[root_b, tr, i, j] * noise[b, s, n, j]
                        other[b, n, i] = value
                    squares = joint.dtype.type(0)
                    for i in range(outputs):
                        deviation = x[b, t, i]
                        for j in range(dim):
                            deviation -= weighing[weighing_b, tw, i, j] * other[b, n, j]
                        squares += deviation * deviation
                    known = joint.dtype.type(0) if equal else joint[start + n]
                    joint[start + n] = known + high - joint.dtype.type(0.5) * squares
                for n in range(num):
                    for i in range(dim):
                        z[b, n, i] = other[b, n, i]
            normalize(b, t, joint, weights, num, least, offset, ess, log_normalizers, lost)


@jit
def finite(
    first: int,
    noise: Floats,
    uniforms: Doubles,
    threshold: float,
    least: float,
    initial: Floats,
    moves: Floats,
    log_emission: Floats,
    lengths: Integers,
    z: Places,
    other: Places,
    joint: Floats,
    weights: Floats,
    ancestors: Places,
    offset: Doubles,
    log_normalizers: Floats,
    ess: Floats,
    resampled: Truths,
    lost: Integers,
) -> None:
    """S steps from `first` of a chain with K states, drawn by inverting distribution functions.

    Arrays: noise (B, S, N), uniforms in [0, 1); initial (B or 1, K) and moves (B or 1, T - 1 or 1, K, K), running sums
    of probabilities that are infinite from the last positive one on; log_emission (B, T, K). The rest is as in
    `linear_gaussian`, with z (B, N).
    """
    batch, num_steps, num = noise.shape
    size, num_states = joint.shape[0] // batch, log_emission.shape[2]
    for b in numba.prange(batch):
        start, initial_b, moves_b = b * size, b % initial.shape[0], b % moves.shape[0]
        for s in range(num_steps):
            t = first + s
            if t >= lengths[b]:
                ess[b, t] = ess[b, t - 1]
                continue
            again = t > 0 and ess[b, t - 1] <= threshold
            resampled[b, t] = again
            if again:
                choose(weights, start, num, offset[b, 1], uniforms[b, t : t + 1], ancestors)
            equal = again or t == 0
            left = joint.dtype.type(-math.log(num) if equal else -offset[b, 0])
            step = (t - 1) % moves.shape[1]
            for n in range(num):
                origin = ancestors[start + n] if again else n
                sums = initial[initial_b] if t == 0 else moves[moves_b, step, z[b, origin]]
                u, low = noise[b, s, n], 0
                high = num_states - 1
                while low < high:  # the first state whose running sum exceeds u
                    middle = (low + high) // 2
                    if sums[middle] > u:
                        high = middle
                    else:
                        low = middle + 1
                other[b, n] = low
                known = joint.dtype.type(0) if equal else joint[start + n]
                joint[start + n] = known + left + log_emission[b, t, low]
            for n in range(num):
                z[b, n] = other[b, n]
            normalize(b, t, joint, weights, num, least, offset, ess, log_normalizers, lost)
