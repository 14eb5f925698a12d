"""Forward and backward recursions in numbers of any size, compiled by numba, parallel over sequences.

A number is a float64 m and a level L, a whole number that is kept as a float:

    value = m 2^(192 L) / one        2^532 <= m < 2^724

so that no product with a transition probability, however small, leaves the range of float64, and a belief of 1e-5000
is as exact as one of 0.5. A matrix product adds up the states of one level at a time, in ascending order; while all of
them lie in level 0 ("flat"), a step is the ordinary product.

Arrays are those of `pgm_rnn.kernels.hmm`, but tables are float64; stored mantissas are m / 2^628, which fits float32.

The module is imported when it is first used.
"""

import math

import numba
import numpy as np

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.hmm_compiled import Floats, Integers

BITS = 192
LOW, HIGH = 2.0**532, 2.0**724
"""The window in which every positive m is kept."""

DOWN, UP = 2.0**-BITS, 2.0**BITS

CENTRE = 2.0**628
"""m of the value one in backward numbers, which lie on both sides of one."""

TOP = 2.0**700
"""m of the value one in beliefs, which lie below it: level 0 reaches down to 2^-168."""

SPARE = 2.0**-500
"""Factor that keeps sums of pairs in range: divided by a transition probability, they may be as large as 2^1074."""

NATS = BITS * math.log(2.0)
"""One level, in nats."""

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
plain = jitted(error_model="numpy", fastmath={"contract", "nsz"})  # reordered products would overflow


@plain
def _shifted(m: float, levels: float) -> float:
    """m 2^(192 levels) for a whole number of levels; 0 below -8 levels, where it is too small to change any sum."""
    if m == 0 or levels < -8:
        return m * 0.0
    while levels < 0:
        m *= DOWN
        levels += 1
    while levels > 0 and m < np.inf:
        m *= UP
        levels -= 1
    return m


@plain
def _place(values: Floats, levels: Floats, k: int) -> None:
    """Move entry k into the window; zero has level 0."""
    m, level = values[k], levels[k]
    if m == 0:
        levels[k] = 0
        return
    while m < LOW:
        m *= UP
        level -= 1
    while HIGH <= m < np.inf:
        m *= DOWN
        level += 1
    values[k], levels[k] = m, level


@plain
def _times_matrix(values: Floats, matrix: Floats, p: int, q: int, results: Floats) -> None:
    """results = values @ matrix[p, q], four rows at a time."""
    num_states = len(values)
    results[:] = 0
    blocked = num_states - num_states % 4
    for i in range(0, blocked, 4):
        a, b, c, d = values[i], values[i + 1], values[i + 2], values[i + 3]
        if a == 0 and b == 0 and c == 0 and d == 0:
            continue
        for j in range(num_states):
            first = a * matrix[p, q, i, j] + b * matrix[p, q, i + 1, j]
            results[j] += first + (c * matrix[p, q, i + 2, j] + d * matrix[p, q, i + 3, j])
    for i in range(blocked, num_states):
        for j in range(num_states):
            results[j] += values[i] * matrix[p, q, i, j]


@plain
def _product(
    values: Floats,
    levels: Floats,
    matrix: Floats,
    p: int,
    q: int,
    part: Floats,
    results: Floats,
    result_levels: Floats,
) -> None:
    """results = values @ matrix[p, q], placed; the levels in ascending order, each added to what is below."""
    num_states = len(values)
    results[:] = 0
    result_levels[:] = 0
    current = _next_level(values, levels, -np.inf)
    while current < np.inf:
        part[:] = 0
        for i in range(num_states):
            if levels[i] == current and values[i] != 0:
                for j in range(num_states):
                    part[j] += values[i] * matrix[p, q, i, j]
        for j in range(num_states):
            if part[j] != 0:
                results[j] = part[j] + _shifted(results[j], result_levels[j] - current)
                result_levels[j] = current
        current = _next_level(values, levels, current)
    for j in range(num_states):
        _place(results, result_levels, j)


@plain
def _next_level(values: Floats, levels: Floats, current: float) -> float:
    """The lowest level above `current` that a number other than zero has, inf if there is none."""
    following = np.inf
    for i in range(len(values)):
        if values[i] != 0 and current < levels[i] < following:
            following = levels[i]
    return following


@plain
def _in_window(values: Floats) -> bool:
    """Whether every number is zero or in the window of level 0; NaN is not."""
    outside = 0
    for k in range(len(values)):
        outside += values[k] != 0 and not LOW <= values[k] < HIGH
    return outside == 0


@plain
def _rough(values: Floats, emission: Floats, b: int, t: int, tiny: float) -> bool:
    """Whether an emission that is needed is below `tiny`, where rounding has made it inexact."""
    small = 0
    for j in range(len(values)):
        small += values[j] != 0 and emission[b, t, j] < tiny
    return small > 0


@plain
def _times_emission(
    values: Floats, levels: Floats, log_emission: Floats, emission: Floats, shift: Floats, b: int, t: int, tiny: float
) -> None:
    """Multiply by p(x_t | j) / exp(shift[t]), placed; if `emission` is below `tiny`, from its logarithm."""
    for j in range(len(values)):
        if values[j] == 0:
            continue
        if emission[b, t, j] < tiny:
            nats = np.float64(log_emission[b, t, j]) - np.float64(shift[b, t])
            down = np.ceil(nats / NATS) if nats > -np.inf else 0.0
            rest = max(nats - down * NATS, -NATS) if nats > -np.inf else nats  # 1e16 nats are all rounding
            values[j] *= math.exp(min(rest, 0.0))
            levels[j] += down
        else:
            values[j] *= emission[b, t, j]
        _place(values, levels, j)


@plain
def _sum(values: Floats, levels: Floats) -> tuple[float, float]:
    """The sum of placed numbers, as a mantissa and a level."""
    largest = -np.inf
    for j in range(len(values)):
        if values[j] != 0 and levels[j] > largest:
            largest = levels[j]
    total = 0.0
    for j in range(len(values)):
        total += _shifted(values[j], levels[j] - largest)
    return total, largest


@plain
def _scale(values: Floats, levels: Floats, factor: float, level: float) -> None:
    """Multiply by factor 2^(-192 level), placed."""
    for j in range(len(values)):
        values[j] *= factor
        levels[j] -= level
        _place(values, levels, j)


@plain
def _is_flat(levels: Floats) -> bool:
    return not np.any(levels != 0)


@jit
def forward(
    initial: Floats,
    transition: Floats,
    log_emission: Floats,
    emission: Floats,
    shift: Floats,
    lengths: Integers,
    log_normalizers: Floats,
    mantissa: Floats,
    level: Floats,
    tiny: float,
) -> None:
    """Fill log c_t, `log_normalizers` (B, T), and the beliefs, `mantissa` and `level` (B, T or 1, K).

    `emission` is exp(log_emission - shift), exact from `tiny` up. The arrays to fill must hold zeros. From the first
    impossible observation on, log c_t is -inf and every belief zero. Sources: Rabiner (1989), eq. (19)-(20), scaled by
    eq. (91)-(93); Choe, Shin & Spencer (2017), sec. 3.2.
    """
    num_states = emission.shape[2]
    kept, varying = mantissa.shape[1] == emission.shape[1], transition.shape[1] > 1
    for b in numba.prange(emission.shape[0]):
        belief, levels = np.zeros(num_states), np.zeros(num_states)
        ahead, ahead_levels = np.zeros(num_states), np.zeros(num_states)
        part = np.zeros(num_states)
        flat = True
        for t in range(lengths[b]):
            p, q, s = b % transition.shape[0], t - 1 if varying else 0, t if kept else 0
            if t == 0:
                for j in range(num_states):
                    ahead[j] = initial[b % initial.shape[0], j] * TOP
                    _place(ahead, ahead_levels, j)
                flat = _is_flat(ahead_levels)
            elif flat:
                _times_matrix(belief, transition, p, q, ahead)
                ahead_levels[:] = 0
            else:
                _product(belief, levels, transition, p, q, part, ahead, ahead_levels)
                flat = _is_flat(ahead_levels)
            total, largest = 0.0, 0.0
            if flat and not _rough(ahead, emission, b, t, tiny):
                for j in range(num_states):
                    belief[j] = ahead[j] * emission[b, t, j]
                    total += belief[j]
            if total > 0:
                factor = TOP / total
                for j in range(num_states):
                    belief[j] *= factor
                    mantissa[b, s, j] = belief[j] / CENTRE
                flat = _in_window(belief)
                log_normalizers[b, t] = math.log(total / TOP) + np.float64(shift[b, t])
                if flat:
                    continue
                levels[:] = 0
                _scale(belief, levels, 1.0, 0.0)
            else:
                belief[:], levels[:] = ahead, ahead_levels
                _scale(belief, levels, 1.0, 0.0)
                _times_emission(belief, levels, log_emission, emission, shift, b, t, tiny)
                total, largest = _sum(belief, levels)
                if total == 0:
                    log_normalizers[b, t : lengths[b]] = -np.inf
                    break
                _scale(belief, levels, TOP / total, largest)
                log_normalizers[b, t] = math.log(total / TOP) + largest * NATS + np.float64(shift[b, t])
            flat = _is_flat(levels)
            for j in range(num_states):
                mantissa[b, s, j], level[b, s, j] = belief[j] / CENTRE, levels[j]


@jit
def backward(
    initial: Floats,
    transposed: Floats,
    log_emission: Floats,
    emission: Floats,
    shift: Floats,
    lengths: Integers,
    mantissa: Floats,
    level: Floats,
    smoothed: Floats,
    future: Floats,
    future_level: Floats,
    tiny: float,
) -> None:
    """Fill p(z_t | x_{1:T}), `smoothed`, and p(x_t | z_t) b_t(z_t) / c_t, `future` with its levels, all (B, T, K).

    `mantissa` and `level` come from `forward`; `transposed` is the transition with its last axes swapped. Each step is
    divided by sum_i a_t(i) b_t(i), which is one but for rounding. The arrays to fill must hold zeros. Source: Rabiner
    (1989), eq. (24)-(25) and (27), scaled.
    """
    num_states = emission.shape[2]
    varying = transposed.shape[1] > 1
    for b in numba.prange(emission.shape[0]):
        beta, levels = np.zeros(num_states), np.zeros(num_states)
        after, after_levels = np.zeros(num_states), np.zeros(num_states)
        both, both_levels = np.zeros(num_states), np.zeros(num_states)
        part = np.zeros(num_states)
        flat, last = True, lengths[b] - 1
        for t in range(last, -1, -1):
            p, q = b % transposed.shape[0], t if varying else 0
            if t == last:
                beta[:] = CENTRE
                levels[:] = 0
            elif flat:
                levels[:] = 0
                _times_matrix(after, transposed, p, q, beta)
            else:
                _product(after, after_levels, transposed, p, q, part, beta, levels)
            total, largest, even = 0.0, 0.0, flat
            if flat:
                even = not np.any(level[b, t] != 0)
            if even:
                for j in range(num_states):
                    total += mantissa[b, t, j] * beta[j]
                total *= CENTRE / TOP
                even = _in_window(beta)
            if even and total > 0:
                factor = CENTRE / total
                for j in range(num_states):
                    beta[j] *= factor
                    smoothed[b, t, j] = mantissa[b, t, j] * (beta[j] / TOP)
                _scale(beta, levels, 1.0, 0.0)
            else:
                for j in range(num_states):
                    _place(beta, levels, j)
                    both[j] = mantissa[b, t, j] * (CENTRE / TOP) * beta[j]
                    both_levels[j] = level[b, t, j] + levels[j]
                    _place(both, both_levels, j)
                total, largest = _sum(both, both_levels)
                if total == 0:
                    break
                factor = CENTRE / total
                for j in range(num_states):
                    smoothed[b, t, j] = _shifted(both[j] * factor / CENTRE, both_levels[j] - largest)
                _scale(beta, levels, factor, largest)
            if t < last:
                _store(after, after_levels, factor, largest, future, future_level, b, t + 1)
            after[:], after_levels[:] = beta, levels
            _times_emission(after, after_levels, log_emission, emission, shift, b, t, tiny)
            flat = _is_flat(after_levels)
        if total > 0:
            for j in range(num_states):
                both[j], both_levels[j] = initial[b % initial.shape[0], j] * after[j], after_levels[j]
                _place(both, both_levels, j)
            total, largest = _sum(both, both_levels)
            _store(after, after_levels, CENTRE / total, largest, future, future_level, b, 0)


@plain
def _store(
    values: Floats,
    levels: Floats,
    factor: float,
    level: float,
    future: Floats,
    future_level: Floats,
    b: int,
    t: int,
) -> None:
    """Write values times factor 2^(-192 level), placed."""
    _scale(values, levels, factor, level)
    for j in range(len(values)):
        future[b, t, j], future_level[b, t, j] = values[j] / CENTRE, levels[j]


@jit
def pairs(
    lengths: Integers,
    mantissa: Floats,
    level: Floats,
    future: Floats,
    future_level: Floats,
    weights: Floats,
    sums: Floats,
) -> None:
    """Add 2^-500 weights[b] a_t(i) future_{t+1}(j) to sums[b % P, t % S, i, j], (P, 1 or T - 1, K, K), float64.

    Multiplied by 2^500 and a transition probability, they are weights[b] p(z_t = i, z_{t+1} = j | x_{1:T}): Rabiner
    (1989), eq. (37).
    """
    num_states = mantissa.shape[2]
    for row in numba.prange(sums.shape[0]):
        beliefs, ahead = np.zeros(num_states), np.zeros(num_states)
        for b in range(row, mantissa.shape[0], sums.shape[0]):
            weight = weights[b] * SPARE * (CENTRE / TOP)
            for t in range(lengths[b] - 1):
                s = t % sums.shape[1]
                for i in range(num_states):
                    beliefs[i] = mantissa[b, t, i]
                current = _next_level(beliefs, level[b, t], -np.inf)
                while current < np.inf:
                    for j in range(num_states):
                        up = min(current + future_level[b, t + 1, j], 7.0)
                        ahead[j] = _shifted(future[b, t + 1, j] * weight, up)
                    for i in range(num_states):
                        if level[b, t, i] == current:
                            for j in range(num_states):
                                sums[row, s, i, j] += beliefs[i] * ahead[j]
                    current = _next_level(beliefs, level[b, t], current)
