"""Two chains for particle filters, with plain normal conditionals.

AR(1) plus noise         z_t ~ N(0.9 z_{t-1}, 1),   x_t ~ N(z_t, 0.5^2)
stochastic volatility    z_t ~ N(0.95 z_{t-1}, 0.3^2),   x_t ~ N(0, exp(z_t))
"""

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.distributions.normal import Normal
from pgm_rnn.emissions import Gaussian
from pgm_rnn.sequence_model import SequenceModel


class AutoregressionPlusNoise(SequenceModel):
    """A stationary autoregression seen through noise; the Kalman filter has its likelihood."""

    has_latent = True
    initial_memory = None

    def __init__(self, coefficient: float = 0.9, scale: float = 1.0, noise: float = 0.5) -> None:
        super().__init__(Gaussian())
        self.coefficient, self.scale, self.noise = (
            nn.Parameter(torch.tensor(number)) for number in (coefficient, scale, noise)
        )

    def initial(self, h: Tensor | None) -> TorchDistribution:
        """The stationary law."""
        stationary = self.scale / (1 - self.coefficient**2).sqrt()
        return Normal(torch.zeros_like(stationary), stationary)

    def transition(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        """A step of the autoregression."""
        return Normal(self.coefficient * z, self.scale)

    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        """The state and noise."""
        assert z is not None
        return Normal(z, self.noise)


class StochasticVolatility(AutoregressionPlusNoise):
    """Returns whose log variance is an autoregression."""

    def __init__(self) -> None:
        super().__init__(0.95, 0.3)

    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        """Mean zero, variance exp(z)."""
        assert z is not None
        return Normal(torch.zeros_like(z), (z / 2).exp())
