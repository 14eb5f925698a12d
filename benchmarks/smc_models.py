"""Four chains for particle filters.

AR(1) plus noise         z_t ~ N(0.9 z_{t-1}, 1),   x_t ~ N(z_t, 0.5^2)          the zoo's LinearGaussianSSM
stochastic volatility    z_t ~ N(0.95 z_{t-1}, 0.3^2),   x_t ~ N(0, exp(z_t)) its StochasticVolatility; `OwnVolatility`
noisy network            z_t ~ N(tanh(2.5 z_{t-1}), 0.5^2),   x_t ~ N(z_t, 0.5^2)   the zoo's NoisyRNN, z_0 = 0
hidden Markov model      z_t = z_{t-1} with 0.9, else one of two others,   x_t ~ N(2 z_t, 1), z = 0, 1, 2   its HMM

z_1 is from the stationary law but for the network.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pgm_rnn.distributions.normal import Normal
from pgm_rnn.emissions import Gaussian
from pgm_rnn.models import HMM, LinearGaussianSSM, NoisyRNN, StochasticVolatility
from pgm_rnn.sequence_model import SequenceModel

NUM_STATES = 3
"""Of the hidden Markov model."""


class Numbers(NamedTuple):
    """The parameters of a chain.

    Attributes:
        coefficient: factor of the state; of the hidden Markov model the probability to stay.
        scale: standard deviation of z_t; of the hidden Markov model the distance between the means of x_t.
        noise: standard deviation of x_t given z_t, None where the state sets it.
    """

    coefficient: float
    scale: float
    noise: float | None = None

    @property
    def variance(self) -> float:
        """Stationary variance of the states."""
        return self.scale**2 / (1 - self.coefficient**2)


AUTOREGRESSION, VOLATILITY, NETWORK, MARKOV = CHAINS = {
    "AR(1) plus noise": Numbers(0.9, 1.0, 0.5),
    "stochastic volatility": Numbers(0.95, 0.3),
    "noisy network": Numbers(2.5, 0.5, 0.5),
    "hidden Markov model": Numbers(0.9, 2.0, 1.0),
}


def made(name: str, dtype: torch.dtype) -> SequenceModel:
    """The chain as a model."""
    chain = CHAINS[name]
    if name == VOLATILITY:
        return StochasticVolatility(0.0, chain.coefficient, chain.scale).to(dtype)
    if name == MARKOV:
        return _markov(chain).to(dtype)
    assert chain.noise is not None
    first = chain.variance if name == AUTOREGRESSION else chain.scale**2
    numbers = (first, chain.coefficient, chain.scale**2, 1.0, chain.noise**2)
    parts = [torch.zeros(1), *(torch.full((1, 1), number) for number in numbers)]
    return (LinearGaussianSSM(*parts) if name == AUTOREGRESSION else NoisyRNN(*parts)).to(dtype)


def moves(chain: Numbers) -> Tensor:
    """The transition table of the hidden Markov model, (K, K)."""
    others = (1 - chain.coefficient) / (NUM_STATES - 1)
    return torch.full((NUM_STATES, NUM_STATES), others).fill_diagonal_(chain.coefficient)


def _markov(chain: Numbers) -> HMM:
    assert chain.noise is not None
    means = chain.scale * torch.arange(NUM_STATES)
    table = Gaussian().table(means, torch.full((NUM_STATES,), chain.noise))
    return HMM(torch.full((NUM_STATES,), 1 / NUM_STATES), moves(chain), table)


class OwnVolatility(SequenceModel):
    """Returns whose log variance is an autoregression: a model as a reader writes it."""

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
