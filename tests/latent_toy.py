"""A model with a memory and a continuous latent state, for what `SequenceModel` does on its own."""

import math

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.emissions import Gaussian
from pgm_rnn.sequence_model import SequenceModel


class LatentToy(SequenceModel):
    """h_t = tanh(a h_{t-1} + z_{t-1} + x_{t-1}), z_t ~ N(z_{t-1} / 2 + h_t, 1), x_t ~ N(z_t, softplus(h_t))."""

    memory_reads_state = True

    def __init__(self) -> None:
        super().__init__(Gaussian())
        self.a = nn.Parameter(torch.tensor(0.7))
        self.initial_memory = nn.Parameter(torch.tensor([0.3]))

    @override
    def recurrence(self, h: Tensor, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(self.a * h + z[..., None] + x[..., None])

    @override
    def initial(self, h: Tensor | None) -> TorchDistribution:
        assert h is not None
        return dist.Normal(h[..., 0], 1.0)

    @override
    def transition(self, z: Tensor, h: Tensor | None) -> TorchDistribution:
        assert h is not None
        return dist.Normal(z / 2 + h[..., 0], 1.0)

    @override
    def emission(self, z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        assert h is not None
        assert z is not None
        return self.family.distribution(torch.stack([z, h[..., 0]], dim=-1))

    def log_prob_written_out(self, x: list[float], z: list[float]) -> float:
        """log p(x, z) of one sequence, number by number."""
        assert self.initial_memory is not None
        a, h, total = float(self.a.detach()), float(self.initial_memory.detach()), 0.0
        for t in range(len(x)):
            if t > 0:
                h = math.tanh(a * h + z[t - 1] + x[t - 1])
            mean = h if t == 0 else z[t - 1] / 2 + h
            scale = math.log(1 + math.exp(h))
            total += -((z[t] - mean) ** 2) / 2 - math.log(2 * math.pi) / 2
            total += -(((x[t] - z[t]) / scale) ** 2) / 2 - math.log(scale) - math.log(2 * math.pi) / 2
        return total
