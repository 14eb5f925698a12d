"""The problem that every Kalman engine gets, in float32: log p(x_{1:T}) of a linear-Gaussian chain.

    z_0 ~ N(m, I),   z_t = A z_{t-1} + N(0, L L'),   x_t = C z_t + N(0, S S')

As in Pyro's GaussianHMM the chain makes one transition before it first emits. Gradients are in m, A, L, C and S.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.hmm_problem import Array


class Problem(NamedTuple):
    """The arguments.

    Attributes:
        mean: m, (D,).
        A: (D, D).
        L: (D, D).
        C: (M, D).
        S: (M, M).
        x: observations, (B, T, M).
    """

    mean: Array
    A: Array
    L: Array
    C: Array
    S: Array
    x: Array


def random_problem(dim: int, obs_dim: int, batch: int, num_steps: int) -> Problem:
    """A stable chain, the same draws for the same sizes."""
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return generator.standard_normal(shape, dtype=np.float32)

    rotation = np.linalg.qr(normal(dim, dim))[0].astype(np.float32)
    noises = (0.3 * normal(dim, dim) + np.eye(dim), 0.3 * normal(obs_dim, obs_dim) + np.eye(obs_dim))
    L, S = (noise.astype(np.float32) for noise in noises)
    return Problem(
        normal(dim), np.float32(0.9) * rotation, L, normal(obs_dim, dim), S, normal(batch, num_steps, obs_dim)
    )


def in_float64(problem: Problem) -> Problem:
    """The same numbers in double precision."""
    return Problem(*(array.astype(np.float64) for array in problem))
