"""The fused program of a model under several draws of its parameters side by side, each with its own density.

z     all latent states              batch (*draws, batch), event (T, *latent)
h     Delta                          batch (*draws, batch), event (T, dim)
x     the whole sequence, observed   batch (*draws, batch), event (T, *event)

The draws' plates are to the left of the plate of the sequences, dim=-1. Each draw's laws are made one after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.distributions.side_by_side import SideBySide
from pgm_rnn.sequence_model.memory import memory_of
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequence_model.programs import check_options, checked, checked_inputs, known_site, modelled_steps
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from pgm_rnn.sequence_model.state_law import StateLaw

if TYPE_CHECKING:
    from pgm_rnn.sequence_model.model import First, Memory, Rendering, SequenceModel


def run_under_draws(
    model: "SequenceModel",
    parameters: Sequence[Mapping[str, Tensor]],
    draws: torch.Size,
    x: Tensor,
    lengths: Tensor | None = None,
    *,
    rendering: "Rendering" = "fused",
    first: "First | None" = None,
    memory: "Memory" = "deterministic",
    inputs: Tensor | None = None,
) -> None:
    """The fused program under several draws of the parameters, each with the density of the model that it makes.

    Args:
        model: any model.
        parameters: of each draw, by name in the module.
        draws: how the draws are arranged: batch shapes are (*draws, batch).
        x: observations (batch, T, *event).
        lengths: as for `SequenceModel.model`, like the other options.
        rendering: "fused".
        first: overrides the model's own.
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
    first = model.first if first is None else first
    check_choice("first", first, ("model", "condition"))
    given, steps = checked(model, x, lengths, rendering, first)
    assert given is not None  # checked
    _under_draws(model, parameters, draws, given, steps, first, checked_inputs(model, given, steps, inputs))


def _under_draws(
    model: "SequenceModel",
    parameters: Sequence[Mapping[str, Tensor]],
    draws: torch.Size,
    x: Tensor,
    lengths: Tensor,
    first: "First",
    inputs: Tensor | None,
) -> None:
    def side_by_side(make: Callable[..., TorchDistribution], *each: Sequence[Tensor | None]) -> SideBySide:
        laws = [call_with(model, own, make, *row) for own, *row in zip(parameters, *each, strict=True)]
        return SideBySide(laws, draws)

    def observations(z: Tensor | None, h: Tensor | None) -> TorchDistribution:
        law, mask = model.emission(z, h), modelled_steps(lengths, x.shape[1], first)
        return (law if mask is None else law.mask(mask)).to_event(1)

    with pyro.plate("sequences", x.shape[0], dim=-1):
        if model.has_latent and model.exact:
            law = side_by_side(lambda: SequenceLaw(model, lengths, x.shape[1], first, inputs))
            pyro.sample("x", law, obs=x)
            return
        states: Sequence[Tensor | None] = [None] * len(parameters)
        if model.has_latent:
            law = side_by_side(lambda: StateLaw(model, x, lengths, first, inputs))
            states = law.rows(pyro.sample("z", law))
        memories = [
            call_with(model, own, memory_of, model, x, z_d, inputs) for own, z_d in zip(parameters, states, strict=True)
        ]
        known = [h for h in memories if h is not None]
        if known and inputs is None:
            h = torch.stack(known)
            known_site("h", h.reshape(*draws, *h.shape[1:]), event_dim=2, like=h)
        pyro.sample("x", side_by_side(observations, states, memories), obs=x)
