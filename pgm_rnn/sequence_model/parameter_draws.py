"""The program of a model with other values of its parameters: of one draw, or of several side by side.

Each draw has its own density. Sites are those of `pgm_rnn.sequence_model.programs`; under several draws they have the
batch shape (*draws, batch) in place of (batch,): the plates of the draws are to the left of the plate of the sequences,
dim=-1.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.ancestral import Forecast, first_step, following, stacked
from pgm_rnn.sequence_model.conditionals import First, example_of
from pgm_rnn.sequence_model.densities import memory_given
from pgm_rnn.sequence_model.draws import Draws, Rows
from pgm_rnn.sequence_model.law_checks import check_laws
from pgm_rnn.sequence_model.model_under_draws import ModelUnderDraws
from pgm_rnn.sequence_model.naturals import natural_parameters
from pgm_rnn.sequence_model.observations import check_given, check_inputs, checked, chosen_first
from pgm_rnn.sequence_model.parameters import call_with
from pgm_rnn.sequence_model.programs import (
    Memory,
    Rendering,
    check_options,
    known_site,
    observations,
    run_model,
)
from pgm_rnn.sequence_model.sequence_law import SequenceLaw
from pgm_rnn.sequence_model.side_by_side import SideBySide
from pgm_rnn.sequence_model.state_law import StateLaw
from pgm_rnn.sequences import Data, Sequences


def raw_parameters(model: Any, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The module's parameters, by name, from natural ones."""
    found: dict[str, Tensor] = {}
    naturals = natural_parameters(model)
    for name, value in values.items():
        if name in naturals and naturals[name].raw in found:  # it sees what earlier ones have set in the same tensor
            raw, found[raw] = call_with(model, found, model.unconstrained, name, value)
        else:
            raw, found[raw] = model.unconstrained(name, value)
    return found


def draws_of(model: Any, samples: Mapping[str, Tensor]) -> Draws:
    """Draws of a model's parameters, from natural ones (num, *shape) by their names."""
    return Draws(model, raw_of_each(model, samples), next(iter(samples.values())).shape[:1])


def run_with_values(
    model: Any,
    values: Mapping[str, Tensor],
    event_dims: Mapping[str, int],
    x: Data | None,
    lengths: Tensor | None = None,
    **options: Any,
) -> None:
    """Run a model's program with these values of its parameters.

    Vectorised draws are computed at once, by `torch.func.vmap`. Where the code of a model cannot be mapped, for example
    because it reads the value of a tensor, they are computed one after the other, with the same result.

    Args:
        model: any model.
        values: natural or raw parameters by name, (*draws, 1, *event), where the axes of draws may be left out.
        event_dims: number of event axes of each.
        x: observations, as for `SequenceModel.model`, like the other arguments.
        lengths: steps of each sequence.
        options: as for `SequenceModel.model`.
    """
    axes = {name: axes_of_draws(value, event_dims[name]) for name, value in values.items()}
    with pyro.settings.context(module_local_params=True):
        if not any(axes.values()):
            call_with(model, raw_parameters(model, values), model.model, x, lengths, **options)
            return
        shape = torch.broadcast_shapes(*axes.values())[:-1]
        rows = {}
        for name, value in values.items():
            event = value.shape[value.dim() - event_dims[name] :]
            rows[name] = value.reshape(axes[name] + event).expand(*shape, 1, *event).reshape(-1, *event)
        run_under_draws(Draws(model, raw_of_each(model, rows), shape), x, lengths, **options)


def axes_of_draws(value: Tensor, event_dim: int) -> torch.Size:
    """Axes of draws and of sequences, the latter of size 1; `Predictive` may leave it out."""
    batch = value.shape[: max(0, value.dim() - event_dim)]
    return batch if not batch or batch[-1] == 1 else torch.Size([*batch, 1])


def raw_of_each(model: Any, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The module's parameters of each draw (num, ...), from natural ones."""
    try:
        found: dict[str, Tensor] = torch.func.vmap(lambda values: raw_parameters(model, values))(dict(rows))
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # the model's own map cannot be vectorised
        each = [raw_parameters(model, dict(zip(rows, row, strict=True))) for row in zip(*rows.values(), strict=True)]
        found = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    return found


def run_under_draws(
    draws: Draws,
    x: Data | None,
    lengths: Tensor | None = None,
    *,
    rendering: Rendering = "fused",
    first: First | None = None,
    memory: Memory = "deterministic",
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
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
        mask: True where x was observed, (batch, T) or the shape of x.

    Raises:
        ValueError: a sampled memory in the fused rendering.
    """
    check_options(rendering, memory)
    model, first = draws.model, chosen_first(draws.model, first)
    if rendering == "unrolled":
        run_model(ModelUnderDraws(draws), "", x, lengths, inputs, rendering, first, memory, mask)
        return
    if memory != "deterministic":
        raise ValueError(
            "expected memory='deterministic' for parallel draws of the parameters with rendering='fused', got "
            f"{memory!r}; use rendering='unrolled', or draw one at a time, with vectorize_particles=False or "
            "parallel=False"
        )
    if x is None:
        raise ValueError("expected observations x, got None; only rendering='unrolled' can draw them")
    _fused(draws, checked(model, x, lengths, inputs=inputs, mask=mask), first)


@torch.no_grad()
def sample_under_draws(
    draws: Draws, num_sequences: int, num_steps: int, *, seed: int | None = None, inputs: Tensor | None = None
) -> Forecast:
    """Ancestral draws from p(x_{1:T}, z_{1:T} | theta) for each draw of theta, all side by side.

    Args:
        draws: a model that does not condition on x_1, and num draws of its parameters, of shape (num,).
        num_sequences: number of sequences for each draw, at least 1.
        num_steps: T, at least 1.
        seed: makes the draw reproducible; None uses torch's global generator.
        inputs: (num_sequences, num_steps, input_dim) for a model with inputs.

    Returns:
        x (num, num_sequences, num_steps, *event), and z likewise where there are latent states.

    Raises:
        ValueError: counts below 1, or inputs that do not fit the model.
    """
    check_counts(num_sequences=num_sequences, num_steps=num_steps)
    model = draws.model
    inputs = check_inputs(inputs, model.input_dim, example_of(model).new_empty(num_sequences, num_steps))
    check_laws(model, None, inputs)
    beside = ModelUnderDraws(draws)
    with seeded(seed, stream=1):
        start = first_step(beside, num_sequences, inputs)
        later = following(beside, start, num_steps - 1, None if inputs is None else inputs[:, 1:])
        return stacked([start, *later], dim=2)


def _fused(draws: Draws, data: Sequences, first: First) -> None:
    model, (x, lengths, _, inputs, observed) = draws.model, data[:5]

    def side_by_side(make: Callable[..., TorchDistribution], *arguments: Rows) -> SideBySide:
        return SideBySide(draws, make, arguments)

    def memories(z: Tensor | None) -> Tensor:
        value: Tensor = memory_given(model, data._replace(z=z))
        return value

    with pyro.plate("sequences", x.shape[0], dim=-1):
        if model.states is not None and model.exact:
            law = side_by_side(lambda: SequenceLaw(model, lengths, x.shape[1], first, inputs, observed))
            pyro.sample("x", law, obs=x)
            return
        check_given(data, first)
        z, h = Rows(None), Rows(inputs)
        if model.states is not None:
            law = side_by_side(lambda: StateLaw(model, x, lengths, first, inputs))
            z = draws.rows(pyro.sample("z", law), 1 + len(law.event_shape))
        if model.initial_memory is not None:
            each = draws.each(memories, z)
            h = Rows(each, 0)
            if inputs is None:
                known_site("h", draws.arranged(each, 3), event_dim=2, like=each)
        law = side_by_side(lambda z, h: observations(model, data, z, h, first), z, h)
        pyro.sample("x", law, obs=x)
