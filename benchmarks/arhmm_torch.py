"""The autoregressive HMM as a reader would write it: four conditionals, nothing else."""

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from benchmarks.arhmm_problem import Problem
from benchmarks.peers import Peer
from pgm_rnn.emissions import Gaussian
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.states import FiniteStates


class SwitchingAR(SequenceModel):
    """x_t ~ N(a_z x_{t-1} + b_z, s_z^2), z a Markov chain."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(Gaussian(1))
        self.states = FiniteStates(len(problem.start))
        self.start, self.moves, self.a, self.b, self.log_scale = (
            nn.Parameter(torch.from_numpy(np.array(array))) for array in problem[:-1]
        )
        self.register_buffer("initial_memory", torch.zeros(1, dtype=self.a.dtype))

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """The last observation."""
        return x

    def initial(self, h: Tensor) -> TorchDistribution:
        """Law of z_1."""
        return dist.Categorical(logits=self.start)

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """Law of z_t."""
        return dist.Categorical(logits=self.moves[z])

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """Law of x_t."""
        return dist.Normal(self.a[z] * h + self.b[z], self.log_scale[z].exp()).to_event(1)


def ours(problem: Problem) -> Peer:
    """The model's own log density, and its gradients in all parameters."""
    model, x = SwitchingAR(problem), torch.from_numpy(np.array(problem.x))
    parameters = [model.start, model.moves, model.a, model.b, model.log_scale]

    def value() -> Tensor:
        return model.log_prob(x).sum()

    return Peer(torch.no_grad()(value), lambda: torch.autograd.grad(value(), parameters))
