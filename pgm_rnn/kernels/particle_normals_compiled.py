"""Draws and log densities of normal laws at many particles, compiled by numba, with the checks of their parameters.

Means are flat, one for each particle n, sequence b and entry i, at (n B + b) D + i; scales are flat in the same order,
or one number for all. The module is imported when it is first used.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted

Floats = NDArray[np.floating]
Truths = NDArray[np.bool_]

_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2

jit = jitted(error_model="numpy", fastmath={"contract", "nsz"})


@jit
def valid(loc: Floats, scale: Floats) -> bool:
    """Whether no mean is NaN and every scale is positive."""
    wrong = 0
    for i in range(loc.shape[0]):
        wrong += loc[i] != loc[i]
    for i in range(scale.shape[0]):
        wrong += not (scale[i] > 0)
    return wrong == 0


@jit
def draw(loc: Floats, scale: Floats, z: Floats, fine: Truths) -> None:
    """Replace z, standard normal noise, by loc + scale z; `fine` (1,) says whether the parameters are valid."""
    if scale.shape[0] == 1:
        for i in range(z.shape[0]):
            z[i] = loc[i] + scale[0] * z[i]
    else:
        for i in range(z.shape[0]):
            z[i] = loc[i] + scale[i] * z[i]
    fine[0] = valid(loc, scale)


@jit
def log_density(loc: Floats, scale: Floats, log_scale: Floats, x: Floats, found: Floats, fine: Truths) -> None:
    """Fill `found` (N B,) with sum_i -((x_i - m_i) / s_i)^2 / 2 - log s_i - log(2 pi) / 2, for x (B D,)."""
    batch_and_dim = x.shape[0]
    dim, dtype = loc.shape[0] // found.shape[0], loc.dtype.type
    batch = batch_and_dim // dim
    half, peak = dtype(0.5), dtype(-dim * _HALF_LOG_TWO_PI)
    one = scale.shape[0] == 1
    if one:
        peak -= dim * log_scale[0]
    if dim == 1 and batch == 1:  # loops that can use vectors
        if one:
            for n in range(found.shape[0]):
                deviation = (x[0] - loc[n]) / scale[0]
                found[n] = peak - half * deviation * deviation
        else:
            for n in range(found.shape[0]):
                deviation = (x[0] - loc[n]) / scale[n]
                found[n] = peak - log_scale[n] - half * deviation * deviation
    else:
        for place in range(found.shape[0]):
            begin, seen, total = place * dim, place % batch * dim, peak
            for i in range(dim):
                deviation = (x[seen + i] - loc[begin + i]) / scale[0 if one else begin + i]
                total -= half * deviation * deviation
                if not one:
                    total -= log_scale[begin + i]
            found[place] = total
    fine[0] = valid(loc, scale)


@jit
def draw_correlated(loc: Floats, factor: Floats, z: Floats, fine: Truths) -> None:
    """Replace z, standard normal noise, by loc + L z, for a lower triangular L (D, D)."""
    dim = factor.shape[0]
    for begin in range(0, z.shape[0], dim):
        for i in range(dim - 1, -1, -1):  # from the last entry on: an entry reads those before it
            total = loc[begin + i]
            for j in range(i + 1):
                total += factor[i, j] * z[begin + j]
            z[begin + i] = total
    fine[0] = True


@jit
def log_density_correlated(loc: Floats, factor: Floats, peak: float, x: Floats, found: Floats, fine: Truths) -> None:
    """Fill `found` (N B,) with c - |L^-1 (x - m)|^2 / 2, for a lower triangular L (D, D) and x (B D,)."""
    dim, dtype = factor.shape[0], loc.dtype.type
    batch = x.shape[0] // dim
    half, top = dtype(0.5), dtype(peak)
    whitened, inverse = np.empty(dim, loc.dtype), np.empty(dim, loc.dtype)
    for i in range(dim):
        inverse[i] = 1 / factor[i, i]
    for place in range(found.shape[0]):
        begin, seen, squares = place * dim, place % batch * dim, dtype(0)
        for i in range(dim):
            value = x[seen + i] - loc[begin + i]
            for j in range(i):
                value -= factor[i, j] * whitened[j]
            whitened[i] = value * inverse[i]
            squares += whitened[i] * whitened[i]
        found[place] = top - half * squares
    fine[0] = True
