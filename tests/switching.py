"""Models with finitely many states that read a memory of x and inputs, and their densities path by path."""

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.emissions import Gaussian
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.states import FiniteStates


class SwitchingAR(SequenceModel):
    """x_t ~ N(a_z x_{t-1} + b_z, s_z^2), z a Markov chain."""

    def __init__(self, num_states: int = 3, first: First = "model") -> None:
        super().__init__(Gaussian(1), first)
        self.states = FiniteStates(num_states)
        self.register_buffer("initial_memory", torch.zeros(1))
        self.start = nn.Parameter(torch.randn(num_states))
        self.moves = nn.Parameter(torch.randn(num_states, num_states))
        self.a, self.b, self.raw = (nn.Parameter(torch.randn(num_states, 1)) for _ in range(3))

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        return x

    def initial(self, h: Tensor) -> TorchDistribution:
        return dist.Categorical(logits=self.start)

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        return dist.Categorical(logits=self.moves[z])

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        return dist.Normal(self.a[z] * h + self.b[z], self.raw[z].exp()).to_event(1)


class Driven(SwitchingAR):
    """The same with transitions that read the last observation and an input, which stands beside the memory."""

    input_dim = 1

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        drive = (h[..., :1] - h[..., 1:]) * torch.linspace(-1.0, 1.0, len(self.start), dtype=h.dtype)
        return dist.Categorical(logits=self.moves[z] + drive)

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        return super().emission(z, h[..., :1])


def log_joint(model: SequenceModel, x: Tensor, u: Tensor | None, path: tuple[int, ...]) -> Tensor:
    """log p(x, z) of one sequence and one path, step by step."""
    total, z = torch.zeros(()), torch.tensor(path)
    for t in range(len(path)):
        h = torch.zeros(1) if t == 0 else x[t - 1]
        h = h if u is None else torch.cat([h, u[t]])
        law = model.initial(h) if t == 0 else model.transition(z[t - 1], h)
        total = total + law.log_prob(z[t]) + model.emission(z[t], h).log_prob(x[t])
    return total
