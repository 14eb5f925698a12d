"""The problem for every particle filter, in float32: log p(x_{1:T}) of one of two chains, and its exact value.

The exact values are computed in float64: the Kalman filter's for AR(1) plus noise, and for stochastic volatility the
forward recursion on a grid of states, whose error in the integral of a smooth density vanishes faster than any power
of the grid's step.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.hmm_problem import LOG_SQRT_2PI, Array
from benchmarks.smc_models import CHAINS, made
from pgm_rnn.inference import kalman
from pgm_rnn.sequence_model import SequenceModel

NUM_SEQUENCES = 64


class Problem(NamedTuple):
    """The arguments.

    Attributes:
        chain: its name in `CHAINS`.
        num_particles: N.
        x: observations, (B, T).
    """

    chain: str
    num_particles: int
    x: Array

    def model(self, dtype: torch.dtype = torch.float32) -> SequenceModel:
        """The chain as a model."""
        return made(CHAINS[self.chain], dtype)

    def observations(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """x as the model takes it, (B, T, *event)."""
        return torch.from_numpy(self.x).to(dtype).reshape(*self.x.shape, *self.model().family.event_shape)


def random_problem(chain: str, num_particles: int, num_steps: int) -> Problem:
    """Sequences of the chain, the same draws for the same size."""
    x = made(CHAINS[chain], torch.float32).sample(NUM_SEQUENCES, num_steps, seed=0).x
    return Problem(chain, num_particles, x.reshape(NUM_SEQUENCES, num_steps).numpy())


def exact(problem: Problem) -> NDArray[np.float64]:
    """log p(x_{1:T}) of every sequence, nats, (B,)."""
    chain = CHAINS[problem.chain]
    if chain.noise is None:
        return _on_a_grid(problem.x.astype(np.float64), chain.coefficient, chain.scale, chain.variance)
    model, x = problem.model(torch.float64), problem.observations(torch.float64)
    return kalman.filter(model, x).log_marginal_likelihood.numpy()  # type: ignore[arg-type]  # it is linear and Gaussian


def _on_a_grid(
    x: NDArray[np.float64], coefficient: float, scale: float, variance: float, size: int = 400
) -> NDArray[np.float64]:
    """The forward recursion with eight standard deviations to both sides, the step far below the noise's scale."""
    z = np.linspace(-8, 8, size) * variance**0.5
    step = z[1] - z[0]
    moves = step * np.exp(_log_normal(z - coefficient * z[:, None], scale))  # (old, new)
    belief = np.tile(step * np.exp(_log_normal(z, variance**0.5)), (len(x), 1))
    total = np.zeros(len(x))
    for t in range(x.shape[1]):
        belief = (belief @ moves if t else belief) * np.exp(_log_normal(x[:, t, None], np.exp(z / 2)))
        normalizer = belief.sum(1)
        total += np.log(normalizer)
        belief /= normalizer[:, None]
    return total


def _log_normal(x: NDArray[np.float64], scale: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return -0.5 * (x / scale) ** 2 - np.log(scale) - LOG_SQRT_2PI
