"""Whole bootstrap filters, compiled by numba, parallel over sequences: Gaussian chains, finite ones, volatilities.

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
    logarithm,
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
FEW = 512
"""Most states among which one is found by looking at all, without a branch."""
IDENTITY, TANH, SIGMOID, RELU = range(4)
"""Functions of each entry."""

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
    """Fill ancestors[:num], which has one more entry, from the points (n + u_n) / N of the running sums.

    One uniform for all parts is systematic resampling, one for each is stratified. It is
    `pgm_rnn.kernels.inverse_cdf` without a branch that depends on the weights: a point's index is the number of sums
    that end before it.
    """
    of_each = uniforms.shape[0] > 1
    end, until, scale, most = np.int32(0), 0.0, num / total, float(num - 1)
    for n in range(num + 1):
        ancestors[n] = 0
    for n in range(num):
        until += weights[start + n]
        reached = until * scale
        whole = min(np.floor(reached), most)
        u = uniforms[np.int32(whole) if of_each else 0]
        end = np.int32(whole + np.ceil(reached - whole - u))  # one more if u is below; a comparison would branch
        ancestors[end] += 1
    number = 0
    for n in range(end):
        number += ancestors[n]
        ancestors[n] = number
    last = num - 1
    while last > 0 and not weights[start + last] > 0:
        last -= 1
    for n in range(end, num):  # rounding may leave the last points beyond the last sum
        ancestors[n] = last


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


@part
def exponentials(values: Floats, start: int, size: int) -> None:
    """Replace values[start : start + size] by exp(values)."""
    vectors = start + size // LANES * LANES
    for place in range(start, vectors, LANES):
        store(values, place, exponential(load(values, place)))
    for n in range(vectors, start + size):
        values[n] = math.exp(values[n])


@part
def logarithms(values: Floats, start: int, size: int) -> None:
    """Replace values[start : start + size], positive and normal, by log(values)."""
    vectors = start + size // LANES * LANES
    for place in range(start, vectors, LANES):
        store(values, place, logarithm(load(values, place)))
    for n in range(vectors, start + size):
        values[n] = math.log(values[n])


@part
def bend(function: int, values: Floats, start: int, size: int) -> None:
    """Replace values[start : start + size] by a function of them: tanh is 1 - 2 / (exp(2 v) + 1)."""
    one, two = values.dtype.type(1), values.dtype.type(2)
    if function == RELU:
        for n in range(start, start + size):
            if values[n] < 0:
                values[n] = 0
        return
    factor = two if function == TANH else -one
    for n in range(start, start + size):
        values[n] = factor * values[n]
    exponentials(values, start, size)
    if function == TANH:
        for n in range(start, start + size):
            values[n] = one - two / (values[n] + one)
    else:
        for n in range(start, start + size):
            values[n] = one / (values[n] + one)


@part
def begin(
    b: int,
    t: int,
    num: int,
    threshold: float,
    uniforms: Doubles,
    weights: Floats,
    ancestors: Places,
    offset: Doubles,
    ess: Floats,
    resampled: Truths,
) -> tuple[bool, float]:
    """Whether a step of a sequence begins with resampling, which is then done, and what is added to l_{t-1}."""
    again = t > 0 and ess[b, t - 1] <= threshold
    resampled[b, t] = again
    if again:
        start = b * (weights.shape[0] // ess.shape[0])
        choose(weights, start, num, offset[b, 1], uniforms[b, t : t + 1], ancestors[b])
    return again, -math.log(num) if again or t == 0 else -offset[b, 0]


@jit
def gaussian(
    first: int,
    noise: Floats,
    uniforms: Doubles,
    threshold: float,
    least: float,
    functions: Integers,
    mean: Floats,
    initial_root: Floats,
    matrix: Floats,
    root: Floats,
    state_offset: Floats,
    weighing: Floats,
    whitening: Floats,
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
    """S steps from `first` of a chain with Gaussian noise.

        z_t = g(A_t z_{t-1} + b_t) + L_t e_t,   log p(x_t | z_t) = c_t - |y_t - V_t f(W_t z_t)|^2 / 2

    Functions are g and f. y_t = V_t x_t, where V_t = S^-1 of R_t = S S' and W_t = C_t; if f is the identity, V_t is not
    read and W_t = S^-1 C_t. Arrays: noise e (B, S, N, D), uniforms (B, T); mean (B or 1, D), initial_root
    (B or 1, D, D); those of steps (B or 1, T or 1, ...), transitions counted from the second; x is y (B, T, M) and peak
    is c. State, changed in place: z (B, N, D), joint and weights (B P,), ancestors
    (B, P + 1), offset (B, 2). Results (B, T).
    """
    batch, num_steps, num, dim = noise.shape
    size, outputs = joint.shape[0] // batch, x.shape[2]
    bent, seen_through = functions[0] != IDENTITY, functions[1] != IDENTITY
    flat_z, flat, flat_noise, half = z.reshape(-1), other.reshape(-1), noise.reshape(-1), joint.dtype.type(0.5)
    for b in numba.prange(batch):
        start = b * size
        seen = np.empty(num * outputs if seen_through else 0, joint.dtype)
        mean_b, initial_b = b % mean.shape[0], b % initial_root.shape[0]
        matrix_b, root_b, offset_b = b % matrix.shape[0], b % root.shape[0], b % state_offset.shape[0]
        origins = ancestors[b]
        weighing_b, white_b, peak_b = b % weighing.shape[0], b % whitening.shape[0], b % peak.shape[0]
        for s in range(num_steps):
            t = first + s
            if t >= lengths[b]:
                ess[b, t] = ess[b, t - 1]
                continue
            again, added = begin(b, t, num, threshold, uniforms, weights, ancestors, offset, ess, resampled)
            equal = again or t == 0
            tm, tr = (t - 1) % matrix.shape[1], (t - 1) % root.shape[1]
            to, tw, tp = (t - 1) % state_offset.shape[1], t % weighing.shape[1], t % peak.shape[1]
            tv = t % whitening.shape[1]
            high = peak[peak_b, tp] + joint.dtype.type(added)
            if dim == 1 and outputs == 1:
                w, y = weighing[weighing_b, tw, 0, 0], x[b, t, 0]
                if t == 0:
                    a, c, scale = joint.dtype.type(0), mean[mean_b, 0], initial_root[initial_b, 0, 0]
                else:
                    a, c = matrix[matrix_b, tm, 0, 0], state_offset[offset_b, to, 0]
                    scale = root[root_b, tr, 0, 0]
                row, drawn = b * num, (b * num_steps + s) * num
                before, now = flat_z[row : row + num], flat[row : row + num]
                normal = flat_noise[drawn : drawn + num]
                if again:
                    for n in range(num):
                        now[n] = before[origins[n]]
                    source = now
                else:
                    source = before
                if bent and t > 0:
                    for n in range(num):
                        now[n] = a * source[n] + c
                    bend(functions[0], now, 0, num)
                    for n in range(num):
                        now[n] += scale * normal[n]
                else:
                    for n in range(num):
                        now[n] = a * source[n] + c + scale * normal[n]
                mapped = now
                if seen_through:
                    for n in range(num):
                        seen[n] = w * now[n]
                    bend(functions[1], seen, 0, num)
                    mapped, w = seen, whitening[white_b, tv, 0, 0]
                goal = joint[start : start + num]
                if equal:
                    for n in range(num):
                        deviation = y - w * mapped[n]
                        goal[n] = high - half * deviation * deviation
                else:
                    for n in range(num):
                        deviation = y - w * mapped[n]
                        goal[n] += high - half * deviation * deviation
                for n in range(num):
                    before[n] = now[n]
            else:
                for n in range(num):
                    origin = origins[n] if again else n
                    for i in range(dim):
                        if t == 0:
                            other[b, n, i] = mean[mean_b, i]
                        else:
                            value = state_offset[offset_b, to, i]
                            for j in range(dim):
                                value += matrix[matrix_b, tm, i, j] * z[b, origin, j]
                            other[b, n, i] = value
                if bent and t > 0:
                    bend(functions[0], flat, b * num * dim, num * dim)
                for n in range(num):
                    for i in range(dim):
                        value = other[b, n, i]
                        for j in range(i + 1):
                            factor = initial_root[initial_b, i, j] if t == 0 else root[root_b, tr, i, j]
                            value += factor * noise[b, s, n, j]
                        z[b, n, i] = value
                if seen_through:
                    for n in range(num):
                        for i in range(outputs):
                            value = joint.dtype.type(0)
                            for j in range(dim):
                                value += weighing[weighing_b, tw, i, j] * z[b, n, j]
                            seen[n * outputs + i] = value
                    bend(functions[1], seen, 0, num * outputs)
                for n in range(num):
                    squares = joint.dtype.type(0)
                    for i in range(outputs):
                        deviation = x[b, t, i]
                        if seen_through:
                            for j in range(i + 1):
                                deviation -= whitening[white_b, tv, i, j] * seen[n * outputs + j]
                        else:
                            for j in range(dim):
                                deviation -= weighing[weighing_b, tw, i, j] * z[b, n, j]
                        squares += deviation * deviation
                    known = joint.dtype.type(0) if equal else joint[start + n]
                    joint[start + n] = known + high - half * squares
            normalize(b, t, joint, weights, num, least, offset, ess, log_normalizers, lost)


@jit
def volatility(
    first: int,
    noise: Floats,
    uniforms: Doubles,
    threshold: float,
    least: float,
    numbers: Doubles,
    x: Floats,
    there: Truths,
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
    """S steps from `first` of a stochastic volatility whose errors w_t are normal or of Student's law.

        z_t = c + f z_{t-1} + r w_{t-1} + s e_t,   w_t = x_t exp(-z_t / 2)
        log p(x_t | z_t) = k - z_t / 2 - w_t^2 / 2   or   k - z_t / 2 - (v + 1) / 2 log(1 + w_t^2 / v)

    The numbers are the mean and scale of z_1, c, f, r, s, k and v, which is 0 for normal w_t. Arrays: noise e
    (B, S, N, 1), x (B, T), and there, whether x_t was observed. The rest is as in `gaussian`.
    """
    batch, num_steps, num, _ = noise.shape
    size, dtype = joint.shape[0] // batch, joint.dtype.type
    one, half = dtype(1), dtype(0.5)
    flat_z, flat, flat_noise = z.reshape(-1), other.reshape(-1), noise.reshape(-1)
    for b in numba.prange(batch):
        start, row = b * size, b * num
        origins, errors = ancestors[b], np.empty(num, joint.dtype)
        before, now = flat_z[row : row + num], flat[row : row + num]
        r, df = dtype(numbers[4]), dtype(numbers[7])
        for s in range(num_steps):
            t = first + s
            if t >= lengths[b]:
                ess[b, t] = ess[b, t - 1]
                continue
            again, added = begin(b, t, num, threshold, uniforms, weights, ancestors, offset, ess, resampled)
            equal = again or t == 0
            if again:
                for n in range(num):
                    now[n] = before[origins[n]]
                for n in range(num):
                    before[n] = now[n]
            if t == 0:
                c, f, scale = dtype(numbers[0]), dtype(0), dtype(numbers[1])
            else:
                c, f, scale = dtype(numbers[2]), dtype(numbers[3]), dtype(numbers[5])
            drawn = (b * num_steps + s) * num
            normal = flat_noise[drawn : drawn + num]
            for n in range(num):
                now[n] = c + f * before[n] + scale * normal[n]
            if r != 0 and t > 0:
                for n in range(num):
                    errors[n] = -half * before[n]
                exponentials(errors, 0, num)
                slope = r * x[b, t - 1]
                for n in range(num):
                    now[n] += slope * errors[n]
            for n in range(num):
                before[n] = now[n]
            goal, left = joint[start : start + num], dtype(added)
            if equal:
                goal[:] = left
            else:
                for n in range(num):
                    goal[n] += left
            if there[b, t]:
                value, k = x[b, t], dtype(numbers[6])
                for n in range(num):
                    errors[n] = -half * now[n]
                exponentials(errors, 0, num)
                if df == 0:
                    for n in range(num):
                        error = value * errors[n]
                        goal[n] += k - half * (now[n] + error * error)
                else:
                    for n in range(num):
                        error = value * errors[n]
                        errors[n] = one + error * error / df
                    logarithms(errors, 0, num)
                    power = half * (df + one)
                    for n in range(num):
                        goal[n] += k - half * now[n] - power * errors[n]
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
    `gaussian`, with z (B, N).
    """
    batch, num_steps, num = noise.shape
    size, num_states = joint.shape[0] // batch, log_emission.shape[2]
    few = num_states <= FEW
    for b in numba.prange(batch):
        start, initial_b, moves_b = b * size, b % initial.shape[0], b % moves.shape[0]
        origins = ancestors[b]
        for s in range(num_steps):
            t = first + s
            if t >= lengths[b]:
                ess[b, t] = ess[b, t - 1]
                continue
            again, added = begin(b, t, num, threshold, uniforms, weights, ancestors, offset, ess, resampled)
            equal, left = again or t == 0, joint.dtype.type(added)
            step = (t - 1) % moves.shape[1]
            for n in range(num):
                origin = origins[n] if again else n
                sums = initial[initial_b] if t == 0 else moves[moves_b, step, z[b, origin]]
                u, low = noise[b, s, n], 0
                if few:  # the first state whose running sum exceeds u
                    for k in range(num_states):
                        low += sums[k] <= u
                else:
                    high = num_states - 1
                    while low < high:
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
