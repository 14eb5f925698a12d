"""What follows a particle filter: its last particles, drawn by weight, and the model's own draws after them.

n ~ W_L^n,   z_t ~ p(z_t | z_{t-1}, h_t),   x_t ~ p(x_t | z_t, h_t),   t = L + 1..L + num_steps
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.sequence_model import Forecast, SequenceModel

if TYPE_CHECKING:
    from pgm_rnn.inference.smc.run import Filtered


class Start(NamedTuple):
    """Particles of equal weight.

    Attributes:
        z: (num_samples, B, *latent).
        h: (num_samples, B, dim), or None.
    """

    z: Tensor
    h: Tensor | None


def drawn_particles(result: "Filtered", num_samples: int) -> Start:
    """Independent draws from the filter's last particles, by torch's global generator."""
    probs = result.log_weights.softmax(0).mT  # (B, N)
    index = torch.multinomial(probs, num_samples, replacement=True).mT  # (num_samples, B)
    sequence = torch.arange(index.shape[1], device=index.device)
    return Start(result.particles[index, sequence], None if result.memory is None else result.memory[index, sequence])


def continued(model: SequenceModel, start: Start, x: Tensor, num_steps: int, inputs: Tensor | None) -> Forecast:
    """`num_steps` draws after each particle, x (B, *event) being the last observation, inputs (B, num_steps, U)."""
    z, h = start
    num_samples = len(z)
    x = x.expand(num_samples, *x.shape)
    states, observations = [], []
    for t in range(num_steps):
        u = None if inputs is None else inputs[:, t].expand(num_samples, *inputs[:, t].shape)
        h = model.next_memory(h, z, x, u)
        z = model.transition(z, h).sample()
        x = model.emission(z, h).sample()
        states.append(z)
        observations.append(x)
    return Forecast(torch.stack(observations, dim=2), torch.stack(states, dim=2))
