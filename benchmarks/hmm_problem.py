"""The problem for every HMM engine, in float32: log p(x_{1:T}), x_t normal with unit scale and one mean per state.

As in Pyro's DiscreteHMM the chain makes one transition before it first emits: p(z_1) = softmax(start) softmax(moves).
The whole problem runs from the parameters, softmax and densities included; the recursion alone is given p(z_1), the
transitions and the log densities, and its gradients are in these three.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
LOG_SQRT_2PI = 0.5 * float(np.log(2 * np.pi))


class Problem(NamedTuple):
    """The whole problem.

    Attributes:
        start: logits of the chain's first state, (K,).
        moves: logits of transitions, (K, K).
        loc: mean of each state, (K,).
        x: observations, (B, T).
    """

    start: Array
    moves: Array
    loc: Array
    x: Array


class Recursion(NamedTuple):
    """The inputs of a recursion.

    Attributes:
        initial: p(z_1), (K,).
        transition: (K, K).
        log_emission: log p(x_t | z_t), (B, T, K).
    """

    initial: Array
    transition: Array
    log_emission: Array


def random_problem(num_states: int, batch: int, num_steps: int) -> Problem:
    """The same standard normal draws for the same sizes."""
    generator = np.random.default_rng(0)
    shapes = ((num_states,), (num_states, num_states), (num_states,), (batch, num_steps))
    return Problem(*(generator.standard_normal(shape, dtype=np.float32) for shape in shapes))


def recursion(problem: Problem) -> Recursion:
    """Densities and probabilities of the problem."""
    transition = softmax(problem.moves)
    log_emission = -0.5 * (problem.x[..., None] - problem.loc) ** 2 - np.float32(LOG_SQRT_2PI)
    return Recursion(softmax(problem.start) @ transition, transition, log_emission)


def in_float64(arrays: Problem | Recursion) -> Problem | Recursion:
    """The same numbers in double precision."""
    return type(arrays)(*(array.astype(np.float64) for array in arrays))


def softmax(logits: Array) -> Array:
    """Rows of probabilities."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
