"""Two chains for particle filters, z_1 from the stationary law of an autoregression.

AR(1) plus noise         z_t ~ N(0.9 z_{t-1}, 1),   x_t ~ N(z_t, 0.5^2)          the zoo's LinearGaussianSSM
stochastic volatility    z_t ~ N(0.95 z_{t-1}, 0.3^2),   x_t ~ N(0, exp(z_t))    a reader's own model of a few lines
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pgm_rnn.distributions.normal import Normal
from pgm_rnn.emissions import Gaussian
from pgm_rnn.models import LinearGaussianSSM
from pgm_rnn.sequence_model import SequenceModel


class Numbers(NamedTuple):
    """The parameters of a chain; `noise` is the standard deviation of x_t given z_t, None where the state sets it."""

    coefficient: float
    scale: float
    noise: float | None = None

    @property
    def variance(self) -> float:
        """Stationary variance of the states."""
        return self.scale**2 / (1 - self.coefficient**2)


CHAINS = {"AR(1) plus noise": Numbers(0.9, 1.0, 0.5), "stochastic volatility": Numbers(0.95, 0.3)}


def made(chain: Numbers, dtype: torch.dtype) -> SequenceModel:
    """The chain as a model."""
    if chain.noise is None:
        return StochasticVolatility(chain).to(dtype)
    numbers = (chain.variance, chain.coefficient, chain.scale**2, 1.0, chain.noise**2)
    return LinearGaussianSSM(torch.zeros(1), *(torch.full((1, 1), number) for number in numbers)).to(dtype)


class StochasticVolatility(SequenceModel):
    """Returns whose log variance is an autoregression."""

    def __init__(self, chain: Numbers) -> None:
        super().__init__(Gaussian())
        self.coefficient, self.scale = (
            nn.Parameter(torch.tensor(chain.coefficient)),
            nn.Parameter(torch.tensor(chain.scale)),
        )

    def initial(self, h: None) -> Normal:
        """The stationary law."""
        stationary = self.scale / (1 - self.coefficient**2).sqrt()
        return Normal(torch.zeros_like(stationary), stationary)

    def transition(self, z: Tensor, h: None) -> Normal:
        """A step of the autoregression."""
        return Normal(self.coefficient * z, self.scale)

    def emission(self, z: Tensor, h: None) -> Normal:
        """Mean zero, variance exp(z)."""
        return Normal(torch.zeros_like(z), (z / 2).exp())
