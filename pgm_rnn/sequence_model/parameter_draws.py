"""The program of a model under several draws of its parameters side by side, each with its own density.

Sites are those of `pgm_rnn.sequence_model.programs`, of batch shape (*draws, batch) in place of (batch,): the plates of
the draws are to the left of the plate of the sequences, dim=-1.
"""

from collections.abc import Callable
from typing import Any

import pyro
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.sequence_model.conditionals import First
from pgm_rnn.sequence_model.densities import memory_given
from pgm_rnn.sequence_model.draws import Draws, Rows
from pgm_rnn.sequence_model.model_under_draws import ModelUnderDraws
from pgm_rnn.sequence_model.observations import checked, chosen_first, without_gaps
from pgm_rnn.sequence_model.programs import (
    Memory,
    Rendering,
    check_options,
    known_site,
    modelled_steps,
    run_model,
)
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from pgm_rnn.sequence_model.side_by_side import SideBySide
from pgm_rnn.sequence_model.state_law import StateLaw
from pgm_rnn.sequences import Sequences


def run_under_draws(
    draws: Draws,
    x: Sequences | Tensor | None,
    lengths: Tensor | None = None,
    *,
    rendering: Rendering = "fused",
    first: First | None = None,
    memory: Memory = "deterministic",
    inputs: Tensor | None = None,
) -> None:
    """The program under several draws of the parameters, each with the density of the model that it makes.

    Args:
        draws: a model and draws of its parameters.
        x: observations (batch, T, *event).
        lengths: as for `SequenceModel.model`, like the other options.
        rendering: "fused" or "unrolled".
        first: overrides the model's own `first`.
        memory: "deterministic", or "sampled" in the unrolled rendering.
        inputs: (batch, T, input_dim) for a model with inputs.

    Raises:
        ValueError: a sampled memory in the fused rendering.
    """
    check_options(rendering, memory)
    model, first = draws.model, chosen_first(draws.model, first)
    if rendering == "unrolled":
        run_model(ModelUnderDraws(draws), "", x, lengths, inputs, rendering, first, memory)
        return
    if memory != "deterministic":
        raise ValueError(
            "expected memory='deterministic' for draws of the parameters side by side in the fused rendering, got "
            f"{memory!r}; use rendering='unrolled', or draw one at a time, with vectorize_particles=False or "
            "parallel=False"
        )
    if x is None:
        raise ValueError("expected observations x, got None; only rendering='unrolled' can draw them")
    _fused(draws, without_gaps(checked(model, x, lengths, inputs=inputs), "Pyro's programs"), first)


def _fused(draws: Draws, data: Sequences, first: First) -> None:
    model, (x, lengths, _, inputs, _) = draws.model, data

    def side_by_side(make: Callable[..., TorchDistribution], *arguments: Rows) -> SideBySide:
        return SideBySide(draws, make, arguments)

    def memories(z: Tensor | None) -> Tensor:
        value: Tensor = memory_given(model, data._replace(z=z))
        return value

    def observations(z: Tensor | None, h: Any) -> TorchDistribution:
        law, mask = model.emission(z, h), modelled_steps(lengths, x.shape[1], first)
        return (law if mask is None else law.mask(mask)).to_event(1)

    with pyro.plate("sequences", x.shape[0], dim=-1):
        if model.states is not None and model.exact:
            law = side_by_side(lambda: SequenceLaw(model, lengths, x.shape[1], first, inputs))
            pyro.sample("x", law, obs=x)
            return
        z, h = Rows(None), Rows(inputs)
        if model.states is not None:
            law = side_by_side(lambda: StateLaw(model, x, lengths, first, inputs))
            z = draws.rows(pyro.sample("z", law), 1 + len(law.event_shape))
        if model.initial_memory is not None:
            h = Rows(draws.each(memories, z), 0)
            if inputs is None:
                known_site("h", draws.arranged(h.value, 3), event_dim=2, like=h.value)
        pyro.sample("x", side_by_side(observations, z, h), obs=x)
