"""Forecasts from a particle filter: its last particles, drawn by weight, and the model's own draws after them.

n ~ W_L^n,   z_t ~ p(z_t | z_{t-1}, h_t),   x_t ~ p(x_t | z_t, h_t),   t = L + 1..L + num_steps
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference.smc.results import Filtered
from pgm_rnn.sequence_model import Forecast, SequenceModel
from pgm_rnn.sequence_model.ancestral import Step, following, stacked


class Start(NamedTuple):
    """Particles of equal weight.

    Attributes:
        z: (num_samples, B, *latent).
        h: (num_samples, B, dim), or None.
    """

    z: Tensor
    h: Tensor | None


def drawn_particles(result: Filtered, num_samples: int) -> Start:
    """Independent draws from the filter's last particles, by torch's global generator."""
    probs = result.log_weights.softmax(0).mT  # (B, N)
    index = torch.multinomial(probs, num_samples, replacement=True).mT  # (num_samples, B)
    sequence = torch.arange(index.shape[1], device=index.device)
    return Start(result.particles[index, sequence], None if result.memory is None else result.memory[index, sequence])


def continued(model: SequenceModel, start: Start, x: Tensor, num_steps: int, inputs: Tensor | None) -> Forecast:
    """`num_steps` draws after each particle, x (B, *event) being the last observation, inputs (B, num_steps, U)."""
    z, h = start
    last = Step(h, z, x.expand(len(z), *x.shape))
    inputs = None if inputs is None else inputs.expand(len(z), *inputs.shape)
    return stacked(following(model, last, num_steps, inputs), dim=2)
