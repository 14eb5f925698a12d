"""The program of a model whose parameters differ between groups of sequences."""

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from pgm_rnn.sequence_model.by_group import Groups
from pgm_rnn.sequence_model.conditionals import First
from pgm_rnn.sequence_model.grouped_law import GroupedLaw
from pgm_rnn.sequence_model.observations import check_given, checked, chosen_first
from pgm_rnn.sequence_model.parameter_draws import raw_of_each
from pgm_rnn.sequence_model.programs import Rendering, check_options
from pgm_rnn.sequences import Data


def run_in_groups(
    model: Any,
    values: Mapping[str, Tensor],
    event_dims: Mapping[str, int],
    groups: Groups,
    x: Data | None,
    lengths: Tensor | None = None,
    *,
    rendering: Rendering = "fused",
    first: First | None = None,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
) -> None:
    """Run a model's program with parameters that differ between groups of sequences.

    Args:
        model: with an exact likelihood.
        values: parameters by name, (*draws, num_groups, *event), or (*draws, 1, *event) for all groups, where the
            axes of draws may be left out.
        event_dims: number of event axes of each.
        groups: the group of each sequence.
        x: observations (batch, T, *event).
        lengths: as for `SequenceModel.model`, like the other options.
        rendering: "fused".
        first: overrides the model's own `first`.
        inputs: (batch, T, input_dim) for a model with inputs.
        mask: True where x was observed, (batch, T) or the shape of x.

    Raises:
        ValueError: another rendering, no observations, or another number of sequences than groups were given for.
    """
    check_options(rendering, "deterministic")
    if rendering != "fused" or x is None:
        got = f"rendering={rendering!r}" if rendering != "fused" else "no observations"
        raise ValueError(
            f"expected observations and rendering='fused' with groups, got {got}; pgm_rnn.simulate draws x"
        )
    first, data = chosen_first(model, first), checked(model, x, lengths, inputs=inputs, mask=mask)
    check_given(data, first)
    check_one_each(groups, len(data.x))
    shapes = {name: value.shape[: value.dim() - event_dims[name]] or torch.Size([1]) for name, value in values.items()}
    shape = torch.broadcast_shapes(*shapes.values(), torch.Size([len(groups.names)]))
    rows = {}
    for name, value in values.items():
        event = value.shape[value.dim() - event_dims[name] :]
        rows[name] = value.reshape(shapes[name] + event).expand(shape + event).reshape(-1, *event)
    with pyro.settings.context(module_local_params=True), pyro.plate("sequences", len(data.x), dim=-1):
        raw = {name: part.unflatten(0, shape) for name, part in raw_of_each(model, rows).items()}
        law = GroupedLaw(model, raw, shape[:-1], groups.numbers.to(data.x.device), data, first, values.values())
        pyro.sample("x", law, obs=data.x)


def check_one_each(groups: Groups, num_sequences: int) -> None:
    """Raise unless there is a group for each sequence.

    Raises:
        ValueError: more groups or fewer.
    """
    if num_sequences != len(groups.numbers):
        raise ValueError(
            f"expected a group for each of the {num_sequences} sequences, got {len(groups.numbers)} groups; those of "
            "other sequences than the program's are given by groups="
        )
