"""One step of drawing normal states, and its gradient, for compiled functions with eight sequences side by side.

    z = loc + e s,   s = max(softplus(a), least),   (loc, a) = M u + m,   e standard normal

Arrays are flat, a row of eight lanes per entry (`lanes_compiled`). The module is imported when it is first used.
"""

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
from pgm_rnn.kernels.gated_compiled import places
from pgm_rnn.kernels.lanes_compiled import (
    LANES,
    add,
    exponential,
    inverse_or_zero,
    larger,
    load,
    log_of_one_plus,
    multiply,
    multiply_add,
    splat,
    store,
    where_larger,
)

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@inner
def rows(g: int, batch: int, size: int) -> Integers:
    """Where the rows of a group's sequences begin, of `size` numbers each."""
    starts = np.empty(LANES, np.int64)
    places(g, batch, size, starts)
    return starts


@inner
def fill(bias: Floats, target: Floats) -> None:
    """Each number of a vector in eight lanes."""
    for i in range(bias.shape[0]):
        store(target, i * LANES, splat(bias[i]))


@inner
def add_to(target: Floats, values: Floats) -> None:
    """target += values, for as many as `target` has."""
    for k in range(0, target.shape[0], LANES):
        store(target, k, add(load(target, k), load(values, k)))


@inner
def rectify(values: Floats) -> None:
    """Put 0 in the place of negative values; NaN stays."""
    zero = splat(values.dtype.type(0))
    for k in range(0, values.shape[0], LANES):
        store(values, k, larger(load(values, k), zero))


@inner
def where_positive(slopes: Floats, values: Floats) -> None:
    """Put 0 in the place of the slopes where the value is 0."""
    zero = splat(slopes.dtype.type(0))
    for k in range(0, slopes.shape[0], LANES):
        store(slopes, k, where_larger(load(values, k), zero, load(slopes, k), zero))


@inner
def draw(raw: Floats, noise: Floats, least: float, scale: Floats, z: Floats, slope: Floats, place: int) -> None:
    """Fill z and s from raw = (loc, a), and the slope of s in a, from `place` on."""
    span, dtype = z.shape[0], z.dtype.type
    zero, one, minus, smallest = splat(dtype(0)), splat(dtype(1)), splat(dtype(-1)), splat(dtype(least))
    for k in range(0, span, LANES):
        a = load(raw, span + k)
        small = exponential(where_larger(a, zero, multiply(minus, a), a))  # e^-|a|
        s = add(larger(a, zero), log_of_one_plus(small))
        part = inverse_or_zero(add(one, small))
        found = where_larger(zero, a, multiply(small, part), part)
        store(slope, place + k, where_larger(smallest, s, zero, found))
        s = larger(s, smallest)
        store(scale, k, s)
        store(z, k, multiply_add(load(noise, k), s, load(raw, k)))


@inner
def draw_backward(by_z: Floats, by_scale: Floats, noise: Floats, slope: Floats, place: int, by_raw: Floats) -> None:
    """Fill the derivatives by raw from those by z and s and the slope, which stands from `place` on."""
    span = by_z.shape[0]
    for k in range(0, span, LANES):
        d = load(by_z, k)
        store(by_raw, k, d)
        of_scale = multiply_add(d, load(noise, k), load(by_scale, k))
        store(by_raw, span + k, multiply(of_scale, load(slope, place + k)))
