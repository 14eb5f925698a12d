"""The inputs that a saved model needs beside its data: those of the steps ahead, and those of draws."""

from pathlib import Path

from torch import Tensor

from pgm_rnn.registries import Registries
from pgm_rnn.report.driving import inputs_ahead, read_inputs
from pgm_rnn.report.saved import Saved, Source, observations
from pgm_rnn.report.tables import reading_of
from pgm_rnn.sequences import Sequences

STEPS_AHEAD = 10
"""Number of steps that are forecast if none is asked for."""
NUM_DRAWS = 5
"""Number of sequences that are drawn if none is asked for."""


def future_of(saved: Saved, source: Source, data: Sequences, path: Path | None, num_steps: int | None) -> Tensor | None:
    """The inputs of the steps ahead of some data, (B, N, U); None for a model without inputs.

    Raises:
        ValueError: a file for a model without inputs, none for one with inputs, or one that does not fit.
        DataError: the file cannot be read, or a cell is empty or no number.
    """
    model = saved.model
    if model.input_dim is None:
        if path is not None:
            raise ValueError(
                f"expected no --future-inputs for {type(model).__name__}, which takes none, got {path}; leave it out"
            )
        return None
    names = _names(saved, source)
    if path is None:
        raise ValueError(
            f"expected --future-inputs FILE with {_shown(names, model.input_dim)} of the steps ahead, got none; make a "
            "table with a row per step"
        )
    _check_file(path, "--future-inputs")
    ahead = inputs_ahead(path, data, names, num_steps)
    _check_width(model.input_dim, ahead, path)
    return ahead.to(data.inputs)


def inputs_of_draws(
    saved: Saved, name: str | None, registries: Registries, num_sequences: int | None, num_steps: int | None
) -> Tensor | None:
    """The inputs of draws from a saved model, (S, T, U); None for a model without inputs.

    Args:
        saved: the model and its record.
        name: name of a data set, or path of a file, whose inputs to take.
        registries: the data sets.
        num_sequences: S; None for 5 draws given the inputs of a single sequence, or one for each of several.
        num_steps: T; None for as many steps as every sequence has.

    Raises:
        ValueError: a source for a model without inputs, none for one with inputs, or one that does not fit.
        DataError: a file that cannot be read, or a cell that is empty or no number.
    """
    model = saved.model
    if model.input_dim is None:
        if name is not None:
            raise ValueError(
                f"expected no --inputs-from for {type(model).__name__}, which takes no inputs, got {name}; leave it out"
            )
        return None
    names = _names(saved)
    if name is None:
        raise ValueError(
            f"expected --inputs-from with {_shown(names, model.input_dim)} of the draws, got none; name a table or a "
            "data set that has them"
        )
    found = _inputs_in(saved, name, names, registries)
    _check_width(model.input_dim, found.x, Path(name))
    longest = int(found.lengths.min())
    if num_steps is not None and num_steps > longest:
        raise ValueError(f"expected --num-steps of at most {longest}, the steps with inputs in {name}, got {num_steps}")
    inputs = found.x[:, : num_steps or longest]
    if len(inputs) == 1:
        return inputs.expand(num_sequences or NUM_DRAWS, -1, -1)
    if num_sequences not in (None, len(inputs)):
        raise ValueError(
            f"expected --num-sequences {len(inputs)}, a draw for each sequence of inputs in {name}, got "
            f"{num_sequences}; leave it out"
        )
    return inputs


def _inputs_in(saved: Saved, name: str, names: tuple[str, ...], registries: Registries) -> Sequences:
    """Inputs as the x of a batch: of a data set's training split, or in a file."""
    if name in registries.datasets:
        data = observations(saved, Source(name, "train", registries=registries))
        assert data.inputs is not None  # `observations` has checked
        return Sequences(data.inputs, data.lengths)
    _check_file(Path(name), "--inputs-from")
    kept = reading_of(saved.info)
    roles = (None, None) if kept is None else (kept.sequence, kept.time)
    found = read_inputs(Path(name), names, *roles)
    return Sequences(found.x.to(next(saved.model.parameters())), found.lengths)


def _names(saved: Saved, source: Source | None = None) -> tuple[str, ...]:
    """The names of the inputs, as the user or the fit has them."""
    kept = reading_of(saved.info)
    return (() if source is None else source.inputs) or (() if kept is None else kept.inputs)


def _shown(names: tuple[str, ...], input_dim: int) -> str:
    return f"the inputs {', '.join(names)}" if names else f"the {input_dim} inputs"


def _check_file(path: Path, option: str) -> None:
    if not path.is_file():
        raise ValueError(f"expected {option} to name a file, got {path}, which is none")


def _check_width(input_dim: int, inputs: Tensor, path: Path) -> None:
    if inputs.shape[-1] != input_dim:
        raise ValueError(
            f"expected {input_dim} columns of inputs in {path}, got {inputs.shape[-1]}; leave the others out"
        )
