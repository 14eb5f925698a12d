"""Models as a reader writes them, registered nowhere: the class that the design promises, and stochastic volatility."""
# mypy: disallow_untyped_defs=False, disallow_incomplete_defs=False, check_untyped_defs=False

import math

import pyro.distributions as dist
import torch
from torch import nn

from pgm_rnn.emissions import Gaussian
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.states import FiniteStates

# fmt: off


class SwitchingAR(SequenceModel):
    """x_t ~ N(a_z x_{t-1} + b_z, s_z^2), z a Markov chain: exact, though h makes it no HMM of the textbook."""

    def __init__(self, K=3):
        super().__init__(Gaussian(1))                                   # the family of the observations
        self.states = FiniteStates(K)
        self.register_buffer("initial_memory", torch.zeros(1))          # h_1; or a parameter
        self.start, self.moves = nn.Parameter(torch.zeros(K)), nn.Parameter(torch.zeros(K, K))
        self.a, self.b, self.raw = (nn.Parameter(torch.randn(K, 1)) for _ in range(3))

    def recurrence(self, h, z, x): return x                             # z is None: the memory reads x alone
    def initial(self, h): return dist.Categorical(logits=self.start)
    def transition(self, z, h): return dist.Categorical(logits=self.moves[z])
    def emission(self, z, h): return dist.Normal(self.a[z] * h + self.b[z], self.raw[z].exp()).to_event(1)


class StochasticVolatility(SequenceModel):
    """x_t ~ N(0, exp(z_t)), z_t ~ N(m + a (z_{t-1} - m), s^2): a scalar z, `states` left out; -1 < a < 1, s > 0."""

    def __init__(self, a=0.9, m=-1.0, s=0.5):
        super().__init__(Gaussian())
        self.a, self.m, self.s = (nn.Parameter(torch.tensor(raw)) for raw in (math.atanh(a), m, math.log(s)))

    def initial(self, h): return dist.Normal(self.m, self.s.exp() * self.a.cosh())     # s / sqrt(1 - tanh^2)
    def transition(self, z, h): return dist.Normal(self.m + self.a.tanh() * (z - self.m), self.s.exp())
    def emission(self, z, h): return dist.Normal(0.0, (z / 2).exp())


# fmt: on


class Fixed(SequenceModel):
    """x_t ~ N(a_z x_{t-1}, 1), z a Markov chain, with numbers for parameters: nothing to train."""

    def __init__(self, stays=0.8, slopes=(0.9, -0.5)):
        super().__init__(Gaussian(1))
        self.states = FiniteStates(2)
        self.register_buffer("initial_memory", torch.zeros(1))
        self.register_buffer("slopes", torch.tensor(slopes))
        self.stays = stays

    def recurrence(self, h, z, x):
        return x

    def initial(self, h):
        return dist.Categorical(probs=h.new_tensor([0.5, 0.5]))

    def transition(self, z, h):
        return dist.Categorical(probs=h.new_tensor([[self.stays, 1 - self.stays], [1 - self.stays, self.stays]])[z])

    def emission(self, z, h):
        return dist.Normal(self.slopes[z][..., None] * h, 1.0).to_event(1)


class Drift(SequenceModel):
    """x_t ~ N(z_t, 1), z_t ~ N(drift + z_{t-1}, 1), with plain numbers only: no tensor at all."""

    def __init__(self, drift=0.2):
        super().__init__(Gaussian())
        self.drift = drift

    def initial(self, h):
        return dist.Normal(0.0, 1.0)

    def transition(self, z, h):
        return dist.Normal(z + self.drift, 1.0)

    def emission(self, z, h):
        return dist.Normal(z, 1.0)


class Regression(SequenceModel):
    """x_t ~ N(w_z u_t, 1), z a Markov chain: inputs and no memory."""

    input_dim = 1

    def __init__(self, K=2):
        super().__init__(Gaussian())
        self.states = FiniteStates(K)
        self.start, self.moves = nn.Parameter(torch.randn(K)), nn.Parameter(torch.randn(K, K))
        self.w = nn.Parameter(torch.linspace(-2, 2, K))

    def initial(self, h):
        return dist.Categorical(logits=self.start)

    def transition(self, z, h):
        return dist.Categorical(logits=self.moves[z])

    def emission(self, z, h):
        return dist.Normal(self.w[z] * h[..., 0], 1.0)
