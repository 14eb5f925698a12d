"""The fused program of a model under several draws of its parameters side by side, each with its own density.

z     all latent states              batch (*draws, batch), event (T, *latent)
h     Delta                          batch (*draws, batch), event (T, dim)
x     the whole sequence, observed   batch (*draws, batch), event (T, *event)

The plates of the draws are to the left of the plate of the sequences, dim=-1. The laws of the draws are made one draw
after the other.
"""

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Each
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.side_by_side import SideBySide
from pgm_rnn.sequence_model.conditionals import Conditionals, First, spread
from pgm_rnn.sequence_model.densities import memory_given
from pgm_rnn.sequence_model.observations import checked, chosen_first, without_gaps
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequence_model.programs import Memory, Rendering, check_options, known_site, modelled_steps
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from pgm_rnn.sequence_model.state_law import StateLaw
from pgm_rnn.sequences import Sequences


def run_under_draws(
    model: Conditionals,
    parameters: Each[Mapping[str, Tensor]],
    draws: torch.Size,
    x: Sequences | Tensor,
    lengths: Tensor | None = None,
    *,
    rendering: Rendering = "fused",
    first: First | None = None,
    memory: Memory = "deterministic",
    inputs: Tensor | None = None,
) -> None:
    """The fused program under several draws of the parameters, each with the density of the model that it makes.

    Args:
        model: any model.
        parameters: parameters of each draw, by their names in the module.
        draws: shape in which the draws are arranged; batch shapes are (*draws, batch).
        x: observations (batch, T, *event).
        lengths: as for `SequenceModel.model`, like the other options.
        rendering: "fused".
        first: overrides the model's own `first`.
        memory: "deterministic".
        inputs: (batch, T, input_dim) for a model with inputs.

    Raises:
        ValueError: the other rendering, or a sampled memory.
    """
    check_options(rendering, memory)
    if rendering != "fused" or memory != "deterministic":
        raise ValueError(
            f"expected rendering='fused' and memory='deterministic' for draws of the parameters side by side, got "
            f"{rendering!r} and {memory!r}; or draw one at a time, with vectorize_particles=False or parallel=False"
        )
    data = without_gaps(checked(model, x, lengths, inputs=inputs), "Pyro's programs")
    _under_draws(model, parameters, draws, data, chosen_first(model, first))


def _under_draws(
    model: Conditionals, parameters: Each[Mapping[str, Tensor]], draws: torch.Size, data: Sequences, first: First
) -> None:
    x, lengths, _, inputs, _ = data

    def side_by_side(make: Callable[..., TorchDistribution], *each: Each[Any]) -> SideBySide:
        laws = [call_with(model, own, make, *row) for own, *row in zip(parameters, *each, strict=True)]
        return SideBySide(laws, draws)

    def observations(z: Tensor | None, h: Any) -> TorchDistribution:
        law, mask = spread(model.emission(z, h), x.shape[:2]), modelled_steps(lengths, x.shape[1], first)
        return (law if mask is None else law.mask(mask)).to_event(1)

    with pyro.plate("sequences", x.shape[0], dim=-1):
        if model.states is not None and model.exact:
            law = side_by_side(lambda: SequenceLaw(model, lengths, x.shape[1], first, inputs))
            pyro.sample("x", law, obs=x)
            return
        states: Each[Tensor | None] = [None] * len(parameters)
        if model.states is not None:
            law = side_by_side(lambda: StateLaw(model, x, lengths, first, inputs))
            states = law.rows(pyro.sample("z", law))
        memories = [
            call_with(model, own, memory_given, model, data._replace(z=z))
            for own, z in zip(parameters, states, strict=True)
        ]
        if model.initial_memory is not None and inputs is None:
            h = torch.stack(memories)
            known_site("h", h.reshape(*draws, *h.shape[1:]), event_dim=2, like=h)
        pyro.sample("x", side_by_side(observations, states, memories), obs=x)
