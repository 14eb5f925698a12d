"""The problem for every engine of autoregressive HMMs, in float32: log p(x_{1:T}) of x_t ~ N(a_z x_{t-1} + b_z, s_z^2).

The whole problem runs from the parameters, softmax and densities included; x_0 is zero.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.hmm_problem import Array


class Problem(NamedTuple):
    """The whole problem.

    Attributes:
        start: logits of the first state, (K,).
        moves: logits of transitions, (K, K).
        slope: a, (K, 1).
        level: b, (K, 1).
        log_scale: log s, (K, 1).
        x: observations, (B, T, 1).
    """

    start: Array
    moves: Array
    slope: Array
    level: Array
    log_scale: Array
    x: Array


def random_problem(num_states: int, batch: int, num_steps: int) -> Problem:
    """The same draws for the same sizes; the slopes are below one and the scales near one."""
    generator = np.random.default_rng(0)
    shapes = ((num_states,), (num_states, num_states), *[(num_states, 1)] * 3, (batch, num_steps, 1))
    drawn = [generator.standard_normal(shape, dtype=np.float32) for shape in shapes]
    start, moves, slope, level, log_scale, x = drawn
    return Problem(start, moves, np.tanh(slope), level, np.float32(0.3) * log_scale, x)


def in_float64(problem: Problem) -> Problem:
    """The same numbers in double precision."""
    return Problem(*(array.astype(np.float64) for array in problem))
