"""Forward and backward recursions in numbers of any size, compiled by numba, parallel over sequences.

A number is a float64 m and a level L, a whole number that is kept as a float:

    value = m 2^(192 L) / one        2^532 <= m < 2^724

so that no product with a transition probability, however small, leaves the range of float64, and a belief of 1e-5000 is
as exact as one of 0.5. A matrix product adds up the states of one level at a time, in ascending order; while all of them
lie in level 0 ("flat"), a step is the ordinary product. Arrays as in `pgm_rnn.kernels.hmm`, all of one dtype; stored
mantissas are m / 2^628, which float32 holds.

Imported only when it is first used.
"""

import math

import numba
import numpy as np

from pgm_rnn.kernels.hmm_compiled import FASTMATH, Floats, Integers

BITS = 192
LOW, HIGH = 2.0**532, 2.0**724
"""The window in which every positive m is kept."""

DOWN, UP = 2.0**-BITS, 2.0**BITS

CENTRE = 2.0**628
"""m of the value one in backward numbers, which lie on both sides of one."""

TOP = 2.0**700
"""m of the value one in beliefs, which lie below it: level 0 reaches down to 2^-168."""

NATS = BITS * math.log(2.0)
"""One level, in nats."""

jit = numba.njit(parallel=True, cache=True, error_model="numpy", fastmath=FASTMATH)
plain = numba.njit(cache=True, error_model="numpy", fastmath=FASTMATH)


@plain
def _shifted(m: float, levels: float) -> float:
    """m 2^(192 levels) for a whole number of levels; 0 from eight levels down, where nothing else is left to add to."""
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
def _product(
    values: Floats,
    levels: Floats,
    flat: bool,
    matrix: Floats,
    p: int,
    q: int,
    part: Floats,
    results: Floats,
    result_levels: Floats,
) -> None:
    """results = values @ matrix[p, q], not yet placed; the levels in ascending order, each added to what is below."""
    num_states = len(values)
    results[:] = 0
    result_levels[:] = 0
    if flat:
        for i in range(num_states):
            value = values[i]
            if value != 0:
                for j in range(num_states):
                    results[j] += value * matrix[p, q, i, j]
        return
    current = np.inf
    for i in range(num_states):
        if values[i] != 0 and levels[i] < current:
            current = levels[i]
    while current < np.inf:
        part[:] = 0
        following = np.inf
        for i in range(num_states):
            value = values[i]
            if value == 0:
                continue
            if levels[i] == current:
                for j in range(num_states):
                    part[j] += value * matrix[p, q, i, j]
            elif current < levels[i] < following:
                following = levels[i]
        for j in range(num_states):
            if part[j] != 0:
                if results[j] != 0:
                    part[j] += _shifted(results[j], result_levels[j] - current)
                results[j], result_levels[j] = part[j], current
        current = following


@plain
def _times_emission(
    values: Floats, levels: Floats, log_emission: Floats, emission: Floats, shift: Floats, b: int, t: int, tiny: float
) -> None:
    """values[j] p(x_t | j) / exp(shift[t]), placed; where the rounded `emission` is below `tiny`, from its logarithm."""
    for j in range(len(values)):
        if values[j] != 0:
            if emission[b, t, j] < tiny:
                nats = np.float64(log_emission[b, t, j]) - np.float64(shift[b, t])
                down = math.ceil(nats / NATS) if nats > -np.inf else 0.0
                values[j] *= math.exp(nats - down * NATS)
                levels[j] += down
            else:
                values[j] *= emission[b, t, j]
        _place(values, levels, j)


@plain
def _largest_level(values: Floats, levels: Floats) -> float:
    largest = -np.inf
    for j in range(len(values)):
        if values[j] != 0 and levels[j] > largest:
            largest = levels[j]
    return largest


@plain
def _rescale(values: Floats, levels: Floats, factor: float, level: float) -> bool:
    """Multiply by factor 2^(-192 level), placed; whether all of it lies in level 0."""
    flat = True
    for j in range(len(values)):
        values[j] *= factor
        levels[j] -= level
        _place(values, levels, j)
        flat = flat and levels[j] == 0
    return flat


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

    Choe, Shin & Spencer (2017), sec. 3.2. `emission` is exp(log_emission - shift), exact from `tiny` up. What is filled
    must hold zeros; log c_t is -inf, and a belief zero, from the first impossible observation on.
    """
    num_states = emission.shape[2]
    kept, varying = mantissa.shape[1] == emission.shape[1], transition.shape[1] > 1
    for b in numba.prange(emission.shape[0]):
        belief, levels = np.zeros(num_states), np.zeros(num_states)
        ahead, ahead_levels, part = np.zeros(num_states), np.zeros(num_states), np.zeros(num_states)
        flat = True
        for t in range(lengths[b]):
            if t == 0:
                for j in range(num_states):
                    ahead[j] = initial[b % initial.shape[0], j] * TOP
            else:
                p, q = b % transition.shape[0], t - 1 if varying else 0
                _product(belief, levels, flat, transition, p, q, part, ahead, ahead_levels)
            total, rough = 0.0, not flat
            for j in range(num_states):
                belief[j] = ahead[j] * emission[b, t, j]
                total += belief[j]
                rough |= emission[b, t, j] < tiny and ahead[j] != 0
            largest = 0.0
            if rough or not total > 0:
                belief[:], levels[:] = ahead, ahead_levels
                _times_emission(belief, levels, log_emission, emission, shift, b, t, tiny)
                largest = _largest_level(belief, levels)
                total = 0.0
                for j in range(num_states):
                    total += _shifted(belief[j], levels[j] - largest)
            if total == 0:
                log_normalizers[b, t : lengths[b]] = -np.inf
                break
            log_normalizers[b, t] = math.log(total / TOP) + largest * NATS + np.float64(shift[b, t])
            flat = _rescale(belief, levels, TOP / total, largest)
            s = t if kept else 0
            for j in range(num_states):
                mantissa[b, s, j] = belief[j] / CENTRE
                level[b, s, j] = levels[j]


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

    `mantissa` and `level` are of `forward`; `transposed` is the transition with its last axes swapped. Each step is
    divided by sum_i a_t(i) b_t(i), which is one but for rounding. What is filled must hold zeros.
    """
    num_states = emission.shape[2]
    varying = transposed.shape[1] > 1
    for b in numba.prange(emission.shape[0]):
        beta, levels, part = np.zeros(num_states), np.zeros(num_states), np.zeros(num_states)
        after, after_levels = np.zeros(num_states), np.zeros(num_states)
        before, before_levels = np.zeros(num_states), np.zeros(num_states)
        flat = True
        for t in range(lengths[b] - 1, -2, -1):
            if t == lengths[b] - 1:
                beta[:] = CENTRE
                levels[:] = 0
            elif t >= 0:
                p, q = b % transposed.shape[0], t if varying else 0
                _product(after, after_levels, flat, transposed, p, q, part, beta, levels)
                for j in range(num_states):
                    _place(beta, levels, j)
            else:
                beta[:], levels[:] = after, after_levels
            # before: a_t, or p(z_1) in front of the first step
            for j in range(num_states):
                if t >= 0:
                    before[j], before_levels[j] = np.float64(mantissa[b, t, j]) * (CENTRE / TOP), level[b, t, j]
                else:
                    before[j], before_levels[j] = initial[b % initial.shape[0], j], 0
                part[j] = before[j] * beta[j]
                before_levels[j] += levels[j]
                _place(part, before_levels, j)
            largest = _largest_level(part, before_levels)
            total = 0.0
            for j in range(num_states):
                if part[j] != 0:
                    total += _shifted(part[j], before_levels[j] - largest)
            if total == 0:
                break
            factor = CENTRE / total
            if t < lengths[b] - 1:
                _rescale(after, after_levels, factor, largest)
                for j in range(num_states):
                    future[b, t + 1, j] = after[j] / CENTRE
                    future_level[b, t + 1, j] = after_levels[j]
            if t < 0:
                break
            _rescale(beta, levels, factor, largest)
            for j in range(num_states):
                smoothed[b, t, j] = _shifted(part[j] * (factor / CENTRE), before_levels[j] - largest)
            after[:], after_levels[:] = beta, levels
            _times_emission(after, after_levels, log_emission, emission, shift, b, t, tiny)
            flat = True
            for j in range(num_states):
                flat = flat and after_levels[j] == 0


@jit
def pairs(
    factors: Floats,
    lengths: Integers,
    mantissa: Floats,
    level: Floats,
    future: Floats,
    future_level: Floats,
    weights: Floats,
    sums: Floats,
) -> None:
    """Add weights[b] factors[i, j] a_t(i) future_{t+1}(j) to sums[b % P', t % S'], (P', 1 or T - 1, K, K), float64.

    With the transition as `factors`, (P, 1 or T - 1, K, K), these are p(z_t = i, z_{t+1} = j | x_{1:T}).
    """
    num_states = mantissa.shape[2]
    num_tables, num_kinds = sums.shape[0], sums.shape[1]
    for row in numba.prange(num_tables):
        for b in range(row, mantissa.shape[0], num_tables):
            p, weight = b % factors.shape[0], weights[b] / TOP
            for t in range(lengths[b] - 1):
                q, s = t % factors.shape[1], t % num_kinds
                flat = True
                for j in range(num_states):
                    flat = flat and level[b, t, j] == 0 and future_level[b, t + 1, j] == 0
                for i in range(num_states):
                    belief = np.float64(mantissa[b, t, i]) * CENTRE  # factors may be as small as 2^-1074
                    if belief == 0:
                        continue
                    if flat:
                        for j in range(num_states):
                            sums[row, s, i, j] += belief * weight * factors[p, q, i, j] * future[b, t + 1, j]
                        continue
                    for j in range(num_states):
                        value = belief * factors[p, q, i, j] * future[b, t + 1, j]
                        if value != 0:
                            levels = np.float64(level[b, t, i]) + future_level[b, t + 1, j]
                            sums[row, s, i, j] += _shifted(value, levels) * weight
