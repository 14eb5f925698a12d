"""Random instances on which claims are measured, and the ways to break them."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger

from pgm_rnn.emissions import Emission
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded


def random_rnn(cell: str, emission: Emission, num_layers: int, seed: int, hidden_dim: int = 4) -> RNN:
    """A float64 RNN whose parameters, h_1 included, are normal with variance 2 / hidden_dim.

    Draws again until two different observations lead to different states: a network of dead units would be constant
    in its inputs, and no control could tell it from anything.
    """
    with seeded(seed), torch.no_grad():
        while True:
            rnn = RNN(cell, emission=emission, hidden_dim=hidden_dim, num_layers=num_layers).double()
            for parameter in rnn.parameters():
                parameter.normal_(std=(2 / hidden_dim) ** 0.5)
            assert rnn.initial_memory is not None
            x = torch.zeros(2, *emission.event_shape, dtype=torch.int64 if emission.needs_integers else torch.float64)
            x[1] = 1
            h_2 = rnn.recurrence(rnn.initial_memory.expand(2, -1), None, x)
            if float((h_2[0] - h_2[1]).abs().max()) > 0.01:
                return rnn


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
