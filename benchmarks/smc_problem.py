"""The problem for every particle filter, in float32: log p(x_{1:T}) of one of the chains, and its exact value.

The exact values are computed in float64: the Kalman filter's for AR(1) plus noise, those of the forward recursion for
the hidden Markov model, and for the two others the forward recursion on a grid of states, whose error in the integral
of a smooth density vanishes faster than any power of the grid's step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.hmm_problem import LOG_SQRT_2PI, Array
from benchmarks.smc_models import CHAINS, NETWORK, VOLATILITY, made
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
        return made(self.chain, dtype)

    def observations(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """x as the model takes it, (B, T, *event)."""
        return torch.from_numpy(self.x).to(dtype).reshape(*self.x.shape, *self.model().family.event_shape)


def random_problem(chain: str, num_particles: int, num_steps: int) -> Problem:
    """Sequences of the chain, the same draws for the same size."""
    x = made(chain, torch.float32).sample(NUM_SEQUENCES, num_steps, seed=0).x
    return Problem(chain, num_particles, x.reshape(NUM_SEQUENCES, num_steps).numpy())


def exact(problem: Problem) -> NDArray[np.float64]:
    """log p(x_{1:T}) of every sequence, nats, (B,)."""
    chain, numbers = CHAINS[problem.chain], problem.x.astype(np.float64)
    if problem.chain == VOLATILITY:
        width = chain.variance**0.5
        return _on_a_grid(
            numbers, width, lambda z: chain.coefficient * z, chain.scale, width, lambda z: (0.0, np.exp(z / 2))
        )
    if problem.chain == NETWORK:
        noise = float(chain.noise or 0)
        return _on_a_grid(
            numbers, 1.0, lambda z: np.tanh(chain.coefficient * z), chain.scale, chain.scale, lambda z: (z, noise)
        )
    model, x = problem.model(torch.float64), problem.observations(torch.float64)
    with torch.no_grad():
        return model.log_prob(x).numpy()


def _on_a_grid(
    x: NDArray[np.float64],
    width: float,
    moved: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    scale: float,
    start: float,
    seen: Callable[[NDArray[np.float64]], tuple[Any, Any]],
    size: int = 400,
) -> NDArray[np.float64]:
    """The forward recursion with eight widths to both sides, the step far below the noise's scale.

    Args:
        x: observations, (B, T).
        width: of the states' law.
        moved: means of z_t given z_{t-1}.
        scale: standard deviation of z_t given z_{t-1}.
        start: standard deviation of z_1, whose mean is zero.
        seen: mean and standard deviation of x_t given z_t.
        size: number of points.
    """
    z = np.linspace(-8, 8, size) * width
    step = z[1] - z[0]
    moves = step * np.exp(_log_normal(z - moved(z)[:, None], scale))  # (old, new)
    belief = np.tile(step * np.exp(_log_normal(z, start)), (len(x), 1))
    mean, deviation = seen(z)
    total = np.zeros(len(x))
    for t in range(x.shape[1]):
        belief = (belief @ moves if t else belief) * np.exp(_log_normal(x[:, t, None] - mean, deviation))
        normalizer = belief.sum(1)
        total += np.log(normalizer)
        belief /= normalizer[:, None]
    return total


def _log_normal(x: NDArray[np.float64], scale: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return -0.5 * (x / scale) ** 2 - np.log(scale) - LOG_SQRT_2PI
