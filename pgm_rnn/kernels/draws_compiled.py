"""One step of drawing normal states, and its gradient, for compiled functions with eight sequences side by side.

    z = loc + e s,   s = max(softplus(a), least),   (loc, a) = M u + m,   e standard normal

Sequences may be particles, of which some continue others: before each step a row takes the place of its ancestor. Rows
that may be ancestors of each other, `kin` of them next to each other, run in one block of whole groups of eight.
Arrays are flat, a row of eight lanes per entry (`lanes_compiled`). The module is imported when it is first used.
"""

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted
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
def groups_of_block(kin: int) -> int:
    """Number of groups of eight rows in which the rows of whole kins fit exactly: the least multiple of 8 and kin."""
    groups = 1
    while groups * LANES % kin:
        groups += 1
    return groups


@inner
def rows(first: int, groups: int, batch: int, size: int) -> Integers:
    """Where the rows of the groups from `first` on begin, of `size` numbers each, eight for each group."""
    starts = np.empty(groups * LANES, np.int64)
    for lane in range(groups * LANES):
        starts[lane] = min(first * LANES + lane, batch - 1) * size
    return starts


@inner
def succeed(ancestors: Integers, t: int, first: int, batch: int, values: Floats, spare: Floats, size: int) -> None:
    """Each row's `size` numbers become those of its ancestor at step t, in place; the block begins at row `first`."""
    num_steps = ancestors.shape[0] // batch
    for lane in range(values.shape[0] // size):
        before = ancestors[min(first + lane, batch - 1) * num_steps + t] - first
        here, there = _begin(lane, size), _begin(before, size)
        for k in range(0, size * LANES, LANES):
            spare[here + k] = values[there + k]
    copy(spare, values)


@inner
def succeed_backward(
    ancestors: Integers, t: int, first: int, batch: int, values: Floats, spare: Floats, size: int
) -> None:
    """Derivatives by the numbers of ancestors from those by the numbers that `succeed` has made of them, in place."""
    num_steps, lanes = ancestors.shape[0] // batch, values.shape[0] // size
    count = min(lanes, batch - first)
    clear(spare)
    for lane in range(count):
        before = ancestors[(first + lane) * num_steps + t] - first
        here, there = _begin(lane, size), _begin(before, size)
        for k in range(0, size * LANES, LANES):
            spare[there + k] += values[here + k]
    last = _begin(count - 1, size)
    for lane in range(count, lanes):  # they repeat the last row
        here = _begin(lane, size)
        for k in range(0, size * LANES, LANES):
            spare[here + k] = spare[last + k]
    copy(spare, values)


@inner
def _begin(lane: int, size: int) -> int:
    """Where a row's numbers begin, eight apart from each other."""
    return lane // LANES * size * LANES + lane % LANES


@inner
def fill(bias: Floats, target: Floats) -> None:
    """Each number of a vector in eight lanes."""
    for i in range(bias.shape[0]):
        store(target, i * LANES, splat(bias[i]))


@inner
def copy(values: Floats, target: Floats) -> None:
    """Numbers in another place; numpy's assignment of an array takes seconds to compile, for its errors' words."""
    for k in range(values.shape[0]):
        target[k] = values[k]


@inner
def clear(values: Floats) -> None:
    """Zeros in the place of numbers."""
    for k in range(values.shape[0]):
        values[k] = 0


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
