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
IDENTITY, TANH, RELU = 0, 1, 3
"""Functions of each entry, besides the sigmoid: their places in `particle_runs.FUNCTIONS`."""

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
        # one more if u is below, where a comparison would branch; rounding may leave `reached` above N
        end = np.int32(min(whole + np.ceil(reached - whole - u), most + 1))
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
def exponentials(values: Floats) -> None:
    """Replace values by exp(values)."""
    whole = values.shape[0] // LANES * LANES
    for place in range(0, whole, LANES):
        store(values, place, exponential(load(values, place)))
    for n in range(whole, values.shape[0]):
        values[n] = math.exp(values[n])


@part
def logarithms(values: Floats) -> None:
    """Replace values, positive and normal, by log(values)."""
    whole = values.shape[0] // LANES * LANES
    for place in range(0, whole, LANES):
        store(values, place, logarithm(load(values, place)))
    for n in range(whole, values.shape[0]):
        values[n] = math.log(values[n])


@part
def bend(function: int, values: Floats) -> None:
    """Replace values by a function of them: tanh is 1 - 2 / (exp(2 v) + 1)."""
    one, two = values.dtype.type(1), values.dtype.type(2)
    if function == RELU:
        for n in range(values.shape[0]):
            if values[n] < 0:
                values[n] = 0
        return
    factor = two if function == TANH else -one
    for n in range(values.shape[0]):
        values[n] = factor * values[n]
    exponentials(values)
    if function == TANH:
        for n in range(values.shape[0]):
            values[n] = one - two / (values[n] + one)
    else:
        for n in range(values.shape[0]):
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


@part
def move_numbers(
    function: int,
    a: float,
    c: float,
    scale: float,
    normal: Floats,
    origins: Places,
    again: bool,
    z: Floats,
    space: Floats,
) -> None:
    """z = g(a z + c) + scale e of single numbers, each taken from its origin first; `space` is as long as z."""
    num = z.shape[0]
    if again:
        for n in range(num):
            space[n] = z[origins[n]]
        for n in range(num):
            z[n] = space[n]
    if function == IDENTITY:
        for n in range(num):
            z[n] = a * z[n] + c + scale * normal[n]
    else:
        for n in range(num):
            z[n] = a * z[n] + c
        bend(function, z)
        for n in range(num):
            z[n] += scale * normal[n]


@part
def weigh_numbers(
    function: int, w: float, white: float, y: float, z: Floats, seen: Floats, equal: bool, high: float, joint: Floats
) -> None:
    """l = l + high - (y - white f(w z))^2 / 2, or without l on the right where all are equal; `seen` is space for f."""
    half, mapped = z.dtype.type(0.5), z
    if function != IDENTITY:
        for n in range(z.shape[0]):
            seen[n] = w * z[n]
        bend(function, seen)
        mapped, w = seen, white
    if equal:
        for n in range(z.shape[0]):
            deviation = y - w * mapped[n]
            joint[n] = high - half * deviation * deviation
    else:
        for n in range(z.shape[0]):
            deviation = y - w * mapped[n]
            joint[n] += high - half * deviation * deviation


@part
def move_vectors(
    function: int,
    matrix: Floats,
    offset: Floats,
    root: Floats,
    normal: Floats,
    origins: Places,
    again: bool,
    z: Floats,
    space: Floats,
) -> None:
    """z = g(A z + b) + L e of rows (N, D), each taken from its origin first; `space` is (N D,)."""
    num, dim = z.shape
    for n in range(num):
        origin = origins[n] if again else n
        for i in range(dim):
            value = offset[i]
            for j in range(dim):
                value += matrix[i, j] * z[origin, j]
            space[n * dim + i] = value
    if function != IDENTITY:
        bend(function, space)
    for n in range(num):
        for i in range(dim):
            value = space[n * dim + i]
            for j in range(i + 1):
                value += root[i, j] * normal[n, j]
            z[n, i] = value


@part
def start_vectors(mean: Floats, root: Floats, normal: Floats, z: Floats) -> None:
    """z = m + L e of rows (N, D)."""
    for n in range(z.shape[0]):
        for i in range(z.shape[1]):
            value = mean[i]
            for j in range(i + 1):
                value += root[i, j] * normal[n, j]
            z[n, i] = value


@part
def weigh_vectors(
    function: int,
    matrix: Floats,
    white: Floats,
    y: Floats,
    z: Floats,
    seen: Floats,
    equal: bool,
    high: float,
    joint: Floats,
) -> None:
    """l = l + high - |y - V f(W z)|^2 / 2 as in `weigh_numbers`, of rows (N, D); without V if f is the identity."""
    (num, dim), outputs, half = z.shape, y.shape[0], z.dtype.type(0.5)
    if function != IDENTITY:
        for n in range(num):
            for i in range(outputs):
                value = z.dtype.type(0)
                for j in range(dim):
                    value += matrix[i, j] * z[n, j]
                seen[n * outputs + i] = value
        bend(function, seen)
    for n in range(num):
        squares = z.dtype.type(0)
        for i in range(outputs):
            deviation = y[i]
            if function == IDENTITY:
                for j in range(dim):
                    deviation -= matrix[i, j] * z[n, j]
            else:
                for j in range(i + 1):
                    deviation -= white[i, j] * seen[n * outputs + j]
            squares += deviation * deviation
        known = z.dtype.type(0) if equal else joint[n]
        joint[n] = known + high - half * squares


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
    is c. State, changed in place: z (B, N, D), joint and weights (B P,), ancestors (B, P + 1), offset (B, 2). Results
    (B, T).
    """
    batch, num_steps, num, dim = noise.shape
    size, outputs, dtype = joint.shape[0] // batch, x.shape[2], joint.dtype.type
    move, see = functions[0], functions[1]
    flat_z, flat, flat_noise = z.reshape(-1), other.reshape(-1), noise.reshape(-1)
    for b in numba.prange(batch):
        start, row = b * size, b * num * dim
        origins, seen = ancestors[b], np.empty(num * outputs if see != IDENTITY else 0, joint.dtype)
        m, L_1 = mean[b % mean.shape[0]], initial_root[b % initial_root.shape[0]]
        As, Ls, bs = matrix[b % matrix.shape[0]], root[b % root.shape[0]], state_offset[b % state_offset.shape[0]]
        Ws, Vs, cs = weighing[b % weighing.shape[0]], whitening[b % whitening.shape[0]], peak[b % peak.shape[0]]
        space, goal = flat[row : row + num * dim], joint[start : start + num]
        for s in range(num_steps):
            t = first + s
            if t >= lengths[b]:
                ess[b, t] = ess[b, t - 1]
                continue
            again, added = begin(b, t, num, threshold, uniforms, weights, ancestors, offset, ess, resampled)
            equal = again or t == 0
            A, L, shift = As[(t - 1) % As.shape[0]], Ls[(t - 1) % Ls.shape[0]], bs[(t - 1) % bs.shape[0]]
            W, V, high = Ws[t % Ws.shape[0]], Vs[t % Vs.shape[0]], cs[t % cs.shape[0]] + dtype(added)
            if dim == 1 and outputs == 1:
                drawn = (b * num_steps + s) * num
                now, normal = flat_z[row : row + num], flat_noise[drawn : drawn + num]
                if t == 0:
                    move_numbers(IDENTITY, dtype(0), m[0], L_1[0, 0], normal, origins, False, now, space)
                else:
                    move_numbers(move, A[0, 0], shift[0], L[0, 0], normal, origins, again, now, space)
                weigh_numbers(see, W[0, 0], V[0, 0], x[b, t, 0], now, seen, equal, high, goal)
            else:
                if t == 0:
                    start_vectors(m, L_1, noise[b, s], z[b])
                else:
                    move_vectors(move, A, shift, L, noise[b, s], origins, again, z[b], space)
                weigh_vectors(see, W, V, x[b, t], z[b], seen, equal, high, goal)
            normalize(b, t, joint, weights, num, least, offset, ess, log_normalizers, lost)


@part
def errors_of(value: float, z: Floats, errors: Floats) -> None:
    """errors = value exp(-z / 2)."""
    for n in range(z.shape[0]):
        errors[n] = z.dtype.type(-0.5) * z[n]
    exponentials(errors)
    for n in range(z.shape[0]):
        errors[n] *= value


@part
def weigh_returns(value: float, constant: float, df: float, z: Floats, errors: Floats, joint: Floats) -> None:
    """Add log p(x | z), k - z / 2 - w^2 / 2 or k - z / 2 - (v + 1) / 2 log(1 + w^2 / v); `errors` is space for w."""
    num, one, half = z.shape[0], z.dtype.type(1), z.dtype.type(0.5)
    errors_of(value, z, errors)
    if df == 0:
        for n in range(num):
            joint[n] += constant - half * (z[n] + errors[n] * errors[n])
        return
    for n in range(num):
        errors[n] = one + errors[n] * errors[n] / df
    logarithms(errors)
    power = half * (df + one)
    for n in range(num):
        joint[n] += constant - half * z[n] - power * errors[n]


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
    leverage, constant, df = dtype(numbers[4]), dtype(numbers[6]), dtype(numbers[7])
    flat_z, flat, flat_noise = z.reshape(-1), other.reshape(-1), noise.reshape(-1)
    for b in numba.prange(batch):
        start, row = b * size, b * num
        origins, errors = ancestors[b], np.empty(num, joint.dtype)
        now, space, goal = flat_z[row : row + num], flat[row : row + num], joint[start : start + num]
        for s in range(num_steps):
            t, drawn = first + s, (b * num_steps + s) * num
            if t >= lengths[b]:
                ess[b, t] = ess[b, t - 1]
                continue
            again, added = begin(b, t, num, threshold, uniforms, weights, ancestors, offset, ess, resampled)
            normal = flat_noise[drawn : drawn + num]
            if t == 0:
                c, scale = dtype(numbers[0]), dtype(numbers[1])
                move_numbers(IDENTITY, dtype(0), c, scale, normal, origins, False, now, space)
            else:
                c, f, scale = dtype(numbers[2]), dtype(numbers[3]), dtype(numbers[5])
                if leverage != 0:
                    errors_of(leverage * x[b, t - 1], now, errors)
                move_numbers(IDENTITY, f, c, scale, normal, origins, again, now, space)
                if leverage != 0:
                    for n in range(num):
                        now[n] += errors[origins[n]] if again else errors[n]
            for n in range(num):
                goal[n] = dtype(added) + (dtype(0) if again or t == 0 else goal[n])
            if there[b, t]:
                weigh_returns(x[b, t], constant, df, now, errors, goal)
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
