"""A diagonal linear recurrence and its gradient, compiled by numba, parallel over blocks of units.

Arrays, real or complex: a (T or 1, B or 1, D or 1), b and h (T, B, D), start (B, D). A thread takes a block of units of
one sequence through all steps. The module is imported when it is first used.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted

Numbers = NDArray[Any]

jit = jitted(parallel=True, error_model="numpy", fastmath={"contract", "nsz"})


@jit
def forward(a: Numbers, b: Numbers, start: Numbers, size: int, h: Numbers) -> None:
    """Fill h_t = a_t h_{t-1} + b_t with h_0 = start, in blocks of `size` units."""
    num_steps, batch, dim = b.shape
    blocks = (dim + size - 1) // size
    t_a, b_a, d_a = (a.shape[0] > 1) * 1, (a.shape[1] > 1) * 1, (a.shape[2] > 1) * 1
    for n in numba.prange(batch * blocks):
        i, first = n // blocks, (n % blocks) * size
        last = min(first + size, dim)
        before = start[i]
        for t in range(num_steps):
            decay, given, found = a[t * t_a, i * b_a], b[t, i], h[t, i]
            if d_a:
                for d in range(first, last):
                    found[d] = decay[d] * before[d] + given[d]
            else:
                for d in range(first, last):
                    found[d] = decay[0] * before[d] + given[d]
            before = found


@jit
def backward(a: Numbers, grad: Numbers, size: int, found: Numbers) -> None:
    """Fill the gradients in the inputs, d_t = grad_t + conj(a_{t+1}) d_{t+1} with d_T = grad_T."""
    num_steps, batch, dim = grad.shape
    blocks = (dim + size - 1) // size
    t_a, b_a, d_a = (a.shape[0] > 1) * 1, (a.shape[1] > 1) * 1, (a.shape[2] > 1) * 1
    for n in numba.prange(batch * blocks):
        i, first = n // blocks, (n % blocks) * size
        last = min(first + size, dim)
        for d in range(first, last):
            found[num_steps - 1, i, d] = grad[num_steps - 1, i, d]
        for t in range(num_steps - 1, 0, -1):
            decay, given, after, now = a[t * t_a, i * b_a], grad[t - 1, i], found[t, i], found[t - 1, i]
            if d_a:
                for d in range(first, last):
                    now[d] = np.conj(decay[d]) * after[d] + given[d]
            else:
                for d in range(first, last):
                    now[d] = np.conj(decay[0]) * after[d] + given[d]
