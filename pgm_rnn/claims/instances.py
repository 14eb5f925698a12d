"""Random instances on which claims are measured, and the ways to break them."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger

from pgm_rnn.emissions import Emission
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded


def random_rnn(cell: str, emission: Emission, num_layers: int, seed: int, hidden_dim: int = 4) -> RNN:
    """A float64 RNN whose parameters, h_1 included, are normal with variance 1 / hidden_dim.

    Parameters are drawn again until p(x_2 | x_1) depends on x_1: a network of dead units ignores its inputs, so that no
    negative control could fail.
    """
    with seeded(seed), torch.no_grad():
        while True:
            rnn = RNN(cell, emission=emission, hidden_dim=hidden_dim, num_layers=num_layers).double()
            for parameter in rnn.parameters():
                parameter.normal_(std=hidden_dim**-0.5)
            if _input_effect(rnn) > 0.05:
                return rnn


def _input_effect(rnn: RNN) -> float:
    """Difference in nats between log p(x_2 = 0 | x_1 = 0) and log p(x_2 = 0 | x_1 = 1)."""
    family = rnn.family
    x_1 = torch.zeros(2, *family.event_shape, dtype=torch.int64 if family.needs_integers else torch.float64)
    x_1[1] = 1
    assert rnn.initial_memory is not None
    h_2 = rnn.recurrence(rnn.initial_memory.expand(2, -1), None, x_1)
    after_0, after_1 = rnn.emission(None, h_2).log_prob(x_1[:1].expand_as(x_1)).tolist()
    return float(abs(after_0 - after_1))


class NoisyMemory(Messenger):
    """Replaces the Delta law of every hidden-state site by a normal one around the same point.

    Around model and guide alike it keeps q = p(h_t | h_{t-1}, x_{t-1}), eq. (6) of Sohl-Dickstein & Kingma (2015), and
    breaks the hypothesis that this is a point mass.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"].startswith("h") and isinstance(msg["fn"], dist.Delta):
            delta = msg["fn"]
            msg["fn"] = dist.Normal(delta.v, self.scale).to_event(delta.event_dim)
