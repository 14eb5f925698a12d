"""log p(x_{1:T}) of single sequences with few states, compiled by numba: the value alone, as fast as it can be had.

A step takes as long as its additions wait for each other, and dividing by the sum of the beliefs is most of that wait.
So the beliefs are in float64, whatever the dtype, and divided only every few steps. They stand in vectors of eight
states (`lanes_compiled`), zeros beyond K. The module is imported when it is first used.
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
    load,
    multiply,
    multiply_add,
    splat,
    store,
)

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

CHUNK = 128
"""Steps whose densities are computed together."""

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
inner = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@inner
def _densities(log_emission: Floats, b: int, first: int, count: int, densities: Floats) -> float:
    """Fill (count, 8 V) with p(x_t | k) over the largest of each step; return the sum of the logs of the largest."""
    num_states, total = log_emission.shape[2], 0.0
    width = densities.shape[0] // CHUNK
    for t in range(count):
        largest = log_emission[b, first + t, 0]
        for k in range(1, num_states):
            largest = max(largest, log_emission[b, first + t, k])
        for k in range(num_states):
            densities[t * width + k] = log_emission[b, first + t, k] - largest
        total += largest
    for k in range(0, count * width, LANES):
        store(densities, k, exponential(load(densities, k)))
    return total


@inner
def _start(initial: Doubles, log_emission: Floats, b: int, belief: Doubles) -> float:
    """Fill p(z_1) p(x_1 | z_1) over the largest density within reach; return its log."""
    num_states, largest = log_emission.shape[2], -np.inf
    for k in range(num_states):
        if initial[k] > 0:
            largest = max(largest, float(log_emission[b, 0, k]))
    for k in range(num_states):
        belief[k] = initial[k] * math.exp(float(log_emission[b, 0, k]) - largest) if initial[k] > 0 else 0.0
    return largest


@jit
def totals(
    initial: Doubles, transition: Doubles, log_emission: Floats, lengths: Integers, every: int, value: Doubles
) -> None:
    """Fill `value` (B,) from initial (P, K), transition (K, 8 V), zeros beyond K, and log_emission (B, T, K).

    Beliefs are divided by their sum every `every` steps. What is not finite is not to be relied on.
    """
    num_states, width = transition.shape
    table = transition.reshape(-1)
    for b in numba.prange(len(lengths)):
        belief, before = np.zeros(width), np.zeros(width)
        densities = np.full(CHUNK * width, -np.inf, log_emission.dtype)
        total = _start(initial[b % len(initial)], log_emission, b, belief)
        for first in range(1, lengths[b], CHUNK):
            count = min(CHUNK, lengths[b] - first)
            for t in range(count * width):
                densities[t] = -np.inf
            total += _densities(log_emission, b, first, count, densities)
            for t in range(count):
                if t % every == 0:
                    scale = belief.sum()
                    total += math.log(scale)
                    for k in range(width):
                        belief[k] /= scale
                for v in range(0, width, LANES):
                    even, odd = splat(0.0), splat(0.0)
                    for k in range(0, num_states - 1, 2):
                        even = multiply_add(splat(belief[k]), load(table, k * width + v), even)
                        odd = multiply_add(splat(belief[k + 1]), load(table, (k + 1) * width + v), odd)
                    if num_states % 2:
                        even = multiply_add(
                            splat(belief[num_states - 1]), load(table, (num_states - 1) * width + v), even
                        )
                    density = in_double(load(densities, t * width + v))
                    store(before, v, multiply(add(even, odd), density))
                belief, before = before, belief
        value[b] = total + math.log(belief.sum())
