"""Log densities of vectors of independent entries, and their gradients, compiled by numba, parallel over rows.

Arrays are (N, D), each row one vector. Eight entries are taken at a time (`lanes_compiled`), those that are left over
one by one. The module is imported when it is first used.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.lanes_compiled import (
    LANES,
    add,
    any_outside,
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

CHUNK = 64
"""Rows that a thread takes at a time."""

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@inner
def _normal_entry(x: Floats, loc: Floats, scale: Floats, i: int) -> float:
    """-((x - m) / s)^2 / 2 - log s of one entry."""
    deviation = (x[i] - loc[i]) / scale[i]
    return -deviation * deviation / 2 - np.log(scale[i])


@jit
def normal(x: Floats, loc: Floats, scale: Floats, value: Floats, size: int, tiny: float, most: float) -> None:
    """Fill `value` (N,) with sum_d -((x - m) / s)^2 / 2 - log s - log(2 pi) / 2 of flat arrays of rows of `size`.

    A vector with a scale outside tiny..most, which the logarithm of eight does not take, goes one by one.
    """
    num_rows, whole, dtype = value.shape[0], size - size % LANES, x.dtype.type
    constant = size * math.log(2 * math.pi) / 2
    for chunk in numba.prange((num_rows + CHUNK - 1) // CHUNK):
        lanes, half = np.empty(LANES, x.dtype), splat(dtype(0.5))
        for row in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, num_rows)):
            start, total, rest = row * size, splat(dtype(0)), 0.0
            for k in range(start, start + whole, LANES):
                s = load(scale, k)
                if any_outside(s, dtype(tiny), dtype(most)):
                    for i in range(k, k + LANES):
                        rest += _normal_entry(x, loc, scale, i)
                    continue
                deviation = multiply(subtract(load(x, k), load(loc, k)), inverse_or_zero(s))
                total = add(total, multiply_add(multiply(half, deviation), deviation, logarithm(s)))
            for i in range(start + whole, start + size):
                rest += _normal_entry(x, loc, scale, i)
            store(lanes, 0, total)
            value[row] = rest - lanes.sum() - constant


@jit
def normal_gradient(
    x: Floats, loc: Floats, scale: Floats, by: Floats, size: int, of_loc: Floats, of_scale: Floats
) -> None:
    """Fill the derivatives of sum_n by[n] log N(x_n; m_n, s_n^2) by means and scales; that by x is minus the first."""
    num_rows = by.shape[0]
    for chunk in numba.prange((num_rows + CHUNK - 1) // CHUNK):
        for row in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, num_rows)):
            weight, one = by[row], x.dtype.type(1)
            for i in range(row * size, (row + 1) * size):
                inverse = one / scale[i]
                deviation = (x[i] - loc[i]) * inverse
                of_loc[i] = weight * deviation * inverse
                of_scale[i] = weight * (deviation * deviation - one) * inverse


@jit
def drawn(noise: Floats, scale: Floats, value: Floats, size: int, tiny: float, most: float) -> None:
    """Fill `value` (N,) with sum_d -e^2 / 2 - log s - log(2 pi) / 2 of flat arrays of rows of `size`, as `normal`."""
    num_rows, whole, dtype = value.shape[0], size - size % LANES, noise.dtype.type
    constant = size * math.log(2 * math.pi) / 2
    for chunk in numba.prange((num_rows + CHUNK - 1) // CHUNK):
        lanes, half = np.empty(LANES, noise.dtype), splat(dtype(0.5))
        for row in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, num_rows)):
            start, total, rest = row * size, splat(dtype(0)), 0.0
            for k in range(start, start + whole, LANES):
                e, s = load(noise, k), load(scale, k)
                if any_outside(s, dtype(tiny), dtype(most)):
                    for i in range(k, k + LANES):
                        rest += -noise[i] * noise[i] / 2 - np.log(scale[i])
                    continue
                total = add(total, multiply_add(multiply(half, e), e, logarithm(s)))
            for i in range(start + whole, start + size):
                rest += -noise[i] * noise[i] / 2 - np.log(scale[i])
            store(lanes, 0, total)
            value[row] = rest - lanes.sum() - constant


@jit
def bits(x: Floats, logits: Floats, value: Floats, slope: Floats) -> None:
    """Fill log p(x_i) of bits with p(x_i = 1) = sigmoid(l_i) and its derivative by l_i, from flat arrays."""
    size, dtype = x.shape[0], x.dtype.type
    whole, span = size - size % LANES, CHUNK * LANES
    for chunk in numba.prange((whole + span - 1) // span):
        zero, one, minus = splat(dtype(0)), splat(dtype(1)), splat(dtype(-1))
        for k in range(chunk * span, min(chunk * span + span, whole), LANES):
            a, bit = load(logits, k), load(x, k)
            down = multiply(minus, a)
            small = exponential(where_larger(a, zero, down, a))  # e^-|a|
            loss = multiply_add(subtract(one, bit), a, larger(down, zero))
            store(value, k, multiply(minus, add(loss, log_of_one_plus(small))))
            part = inverse_or_zero(add(one, small))
            store(slope, k, subtract(bit, where_larger(zero, a, multiply(small, part), part)))
    for i in range(whole, size):
        small = np.exp(-abs(logits[i]))
        value[i] = -((1 - x[i]) * logits[i] + max(-logits[i], dtype(0)) + np.log1p(small))
        slope[i] = x[i] - (small if logits[i] < 0 else dtype(1)) / (1 + small)
