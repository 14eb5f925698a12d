"""Normal log densities and their gradients, compiled by numba, parallel over chunks of rows.

Rows are the steps of all sequences, n = 1..N. Arrays: x (N, D), observed (N or 1, D); means and scales are flat, with
the strides of the axes states, rows and entries, so that they are read in whichever order a model has made them. A
stride is zero where they do not differ. A thread takes one state and entry after another through a chunk. The module is
imported when it is first used.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted

Floats = NDArray[np.floating]
Truths = NDArray[np.bool_]
Strides = tuple[int, int, int]

_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})
summed = jitted(parallel=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@jit
def log_density(
    x: Floats,
    observed: Truths,
    loc: Floats,
    loc_strides: Strides,
    scale: Floats,
    scale_strides: Strides,
    found: Floats,
    size: int,
) -> None:
    """Fill `found` (N, K) with sum_d -((x - m) / s)^2 / 2 - log s - log(2 pi) / 2 over the observed entries."""
    num_rows, num_states = found.shape
    k_m, n_m, d_m = loc_strides
    k_s, n_s, d_s = scale_strides
    n_o, half, constant = (observed.shape[0] > 1) * 1, x.dtype.type(0.5), x.dtype.type(_HALF_LOG_TWO_PI)
    one = x.dtype.type(1)
    for chunk in numba.prange((num_rows + size - 1) // size):
        start = chunk * size
        count = min(size, num_rows - start)
        rows = found[start : start + count]
        sums, values = np.empty(size, x.dtype), np.empty((x.shape[1], size), x.dtype)
        for d in range(x.shape[1]):
            for i in range(count):
                values[d, i] = x[start + i, d]
        for k in range(num_states):
            for i in range(count):
                sums[i] = 0
            for d in range(x.shape[1]):
                m, s = k * k_m + start * n_m + d * d_m, k * k_s + start * n_s + d * d_s
                log_scale = np.log(scale[s]) + constant
                if n_s == 0 and n_o == 0 and observed[0, d]:  # no branch in the loop
                    inverse = one / scale[s]
                    if n_m == 1:  # a view, whose indices are known to be positive, lets the loop use vectors
                        means = loc[m : m + count]
                        for i in range(count):
                            w = (values[d, i] - means[i]) * inverse
                            sums[i] -= half * w * w + log_scale
                        continue
                    for i in range(count):
                        w = (values[d, i] - loc[m + i * n_m]) * inverse
                        sums[i] -= half * w * w + log_scale
                    continue
                for i in range(count):
                    if observed[(start + i) * n_o, d]:
                        if n_s != 0:
                            log_scale = np.log(scale[s + i * n_s]) + constant
                        w = (x[start + i, d] - loc[m + i * n_m]) / scale[s + i * n_s]
                        sums[i] -= half * w * w + log_scale
            for i in range(count):
                rows[i, k] = sums[i]


@summed
def gradient(
    x: Floats,
    observed: Truths,
    loc: Floats,
    loc_strides: Strides,
    scale: Floats,
    scale_strides: Strides,
    weights: Floats,
    of_loc: Floats,
    of_scale: Floats,
    size: int,
) -> None:
    """Fill `of_loc` and `of_scale` with the derivatives of sum_n sum_k weights[n, k] log p(x_n | k).

    Each is (1, numel), in the order of its parameter, or (chunks, numel) where the parameter does not differ by row:
    every chunk has sums of its own. What a chunk fills is set to zero by the chunk itself, while it is in the cache.
    """
    num_rows, num_states = weights.shape
    k_m, n_m, d_m = loc_strides
    k_s, n_s, d_s = scale_strides
    n_o, zero, one = (observed.shape[0] > 1) * 1, x.dtype.type(0), x.dtype.type(1)
    for chunk in numba.prange((num_rows + size - 1) // size):
        start = chunk * size
        count = min(size, num_rows - start)
        rows = weights[start : start + count]
        column, values = np.empty(size, x.dtype), np.empty((x.shape[1], size), x.dtype)
        for d in range(x.shape[1]):
            for i in range(count):
                values[d, i] = x[start + i, d]
        for k in range(num_states):
            for i in range(count):
                column[i] = rows[i, k]
            for d in range(x.shape[1]):
                m, s = k * k_m + start * n_m + d * d_m, k * k_s + start * n_s + d * d_s
                total_m, total_s = zero, zero
                if (k == 0 or k_m != 0) and (d == 0 or d_m != 0):  # nothing was added yet
                    if n_m == 0:
                        of_loc[chunk, m] = zero
                    elif n_m == 1:
                        of_loc[0, m : m + count] = zero
                    else:
                        for i in range(count):
                            of_loc[0, m + i * n_m] = zero
                if (k == 0 or k_s != 0) and (d == 0 or d_s != 0):
                    if n_s == 0:
                        of_scale[chunk, s] = zero
                    elif n_s == 1:
                        of_scale[0, s : s + count] = zero
                    else:
                        for i in range(count):
                            of_scale[0, s + i * n_s] = zero
                if n_s == 0 and n_m != 0 and n_o == 0 and observed[0, d]:  # the same with fewer branches
                    inverse = one / scale[s]
                    if n_m == 1:
                        means, of_means = loc[m : m + count], of_loc[0, m : m + count]
                        for i in range(count):
                            w = (values[d, i] - means[i]) * inverse
                            of_means[i] += column[i] * w * inverse if column[i] != 0 else zero
                            total_s += column[i] * (w * w - one) if column[i] != 0 else zero
                        of_scale[chunk, s] += total_s * inverse
                        continue
                    for i in range(count):
                        weight = column[i]
                        if weight != 0:
                            w = (values[d, i] - loc[m + i * n_m]) * inverse
                            of_loc[0, m + i * n_m] += weight * w * inverse
                            total_s += weight * (w * w - one)
                    of_scale[chunk, s] += total_s * inverse
                    continue
                for i in range(count):
                    weight = column[i]
                    if weight == 0 or not observed[(start + i) * n_o, d]:  # 0 times an infinite derivative
                        continue
                    inverse = one / scale[s + i * n_s]
                    w = (x[start + i, d] - loc[m + i * n_m]) * inverse
                    weight *= inverse
                    if n_m != 0:
                        of_loc[0, m + i * n_m] += weight * w
                    else:
                        total_m += weight * w
                    if n_s != 0:
                        of_scale[0, s + i * n_s] += weight * (w * w - one)
                    else:
                        total_s += weight * (w * w - one)
                if n_m == 0:
                    of_loc[chunk, m] += total_m
                if n_s == 0:
                    of_scale[chunk, s] += total_s
