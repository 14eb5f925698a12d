"""Ancestral draws: each variable is drawn from its law given the variables before it.

h_t = recurrence(h_{t-1}, z_{t-1}, x_{t-1}),   z_t ~ transition(z_{t-1}, h_t),   x_t ~ emission(z_t, h_t)
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.results import shown
from pgm_rnn.sequence_model.conditionals import Conditionals, memory_of, spread
from pgm_rnn.sequences import Sequences


class Step(NamedTuple):
    """The variables of one step.

    Attributes:
        h: memory, (*batch, dim), or None.
        z: latent states, (*batch, *latent), or None.
        x: observations, (*batch, *event).
    """

    h: Any
    z: Tensor | None
    x: Tensor


class Forecast(NamedTuple):
    """Draws of the continuations of some sequences.

    Attributes:
        x: observations, (batch, num_steps, *event) or (num_samples, batch, num_steps, *event).
        z: latent states, (..., num_steps, *latent), or None.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "x", "z")

    x: Tensor
    z: Tensor | None


def first_step(model: Conditionals, num_sequences: int, inputs: Tensor | None) -> Step:
    """Draws of the first step, given inputs (num_sequences, T, input_dim)."""
    h = memory_of(model).start(num_sequences, None if inputs is None else inputs[:, 0])
    batch = torch.Size([num_sequences])
    z = None if model.states is None else spread(model.initial(h), batch).sample()
    return Step(h, z, spread(model.emission(z, h), batch).sample())


def following(model: Conditionals, last: Step, num_steps: int, inputs: Tensor | None) -> list[Step]:
    """Draws of the steps after the last one, given their inputs (*batch, num_steps, input_dim).

    The number of leading axes is free: they may be sequences, or particles and sequences.
    """
    memory, steps = memory_of(model), [last]
    batch = last.x.shape[: last.x.dim() - len(model.family.event_shape)]
    given = [None] * num_steps if inputs is None else inputs.unbind(-2)
    for u in given:
        h, z, x = steps[-1]
        h = memory.step(h, z, memory.read(x, u))
        z = None if z is None else spread(model.transition(z, h), batch).sample()
        steps.append(Step(h, z, spread(model.emission(z, h), batch).sample()))
    return steps[1:]


def stacked(steps: list[Step], dim: int) -> Forecast:
    """Observations and latent states of some steps, with time as the axis `dim`."""
    _, states, observations = zip(*steps, strict=True)
    return Forecast(torch.stack(observations, dim), None if states[0] is None else torch.stack(states, dim))


def drawn_sequences(model: Conditionals, num_sequences: int, num_steps: int, inputs: Tensor | None) -> Sequences:
    """Draws of whole sequences, given inputs (num_sequences, num_steps, input_dim) if the model has inputs.

    Raises:
        ValueError: a model that conditions on x_1.
    """
    if model.first == "condition":
        raise ValueError(
            "expected a model with first='model', got first='condition', which has no law of x_1 to draw from; "
            "use forecast(x_1, num_steps)"
        )
    start = first_step(model, num_sequences, inputs)
    later = following(model, start, num_steps - 1, None if inputs is None else inputs[:, 1:])
    x, z = stacked([start, *later], dim=1)
    return Sequences(x, torch.full((num_sequences,), num_steps, device=x.device), z, inputs)
