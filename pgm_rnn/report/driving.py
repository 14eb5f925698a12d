"""Inputs of models at the command line: those of data, of the steps ahead of a forecast, and of draws.

An input is a column of a table that is given and not observed, named by `--input`. A fit keeps the names, so that later
commands find the columns again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.data.reading import read_names
from pgm_rnn.report.tables import Reading, read
from pgm_rnn.sequences import Sequences, length_mask

LARGE = 10.0
"""Root mean square of an input above which gradient steps are slow."""


def check_driven(model: str, input_dim: int | None, data: Sequences) -> None:
    """Raise unless the data have as many inputs as a model takes.

    Args:
        model: the model in words.
        input_dim: its number of inputs, None if it takes none.
        data: the data.

    Raises:
        ValueError: they have not.
    """
    given = None if data.inputs is None else data.inputs.shape[-1]
    if given == input_dim:
        return
    if input_dim is None:
        raise ValueError(f"expected no inputs for {model}, which takes none, got {names_in(data)}; leave --input out")
    wanted = f"{input_dim} input{'s' * (input_dim > 1)}"
    if given is None:
        raise ValueError(f"expected {wanted} for {model}, got none; name the columns of inputs by --input")
    raise ValueError(f"expected {wanted} for {model}, got {given}: {names_in(data)}; choose with --input")


def names_in(data: Sequences) -> str:
    """The names of the inputs of data, or their number."""
    assert data.inputs is not None  # the caller has looked
    names = () if data.legend is None else data.legend.inputs
    return ", ".join(names) if names else f"{data.inputs.shape[-1]} of them"


def remarks_on_inputs(data: Sequences) -> tuple[str, ...]:
    """A sentence on each input of data that is so large that gradient steps are slow."""
    if data.inputs is None:
        return ()
    seen = data.inputs[length_mask(data.lengths, data.inputs.shape[1])]  # (steps, U)
    names = () if data.legend is None else data.legend.inputs
    sizes = zip(names or [str(number + 1) for number in range(seen.shape[1])], seen.mean(0), seen.std(0), strict=True)
    return tuple(
        f"input {name!r} is {mean:.4g} on average with a standard deviation of {deviation:.3g}; a fit goes better with "
        "inputs of a size near 1, so subtract the mean and divide"
        for name, mean, deviation in ((name, float(mean), float(deviation)) for name, mean, deviation in sizes)
        if (mean**2 + deviation**2) ** 0.5 > LARGE
    )


def inputs_to_read(path: Path, kept: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """The columns of inputs to read from a file: those asked for, or those of the fit.

    A file without names, such as an .npz, brings its inputs itself.

    Raises:
        ValueError: a column of the fit is not in the file.
        DataError: the file cannot be read.
    """
    if asked or not kept:
        return tuple(asked)
    names = read_names(path)
    if not names:
        return tuple(kept) if all(name.isdecimal() for name in kept) else ()
    missing = [name for name in kept if name not in names]
    if missing:
        raise ValueError(
            f"expected the inputs of the fit, {', '.join(kept)}, in {path}, got no column {missing[0]!r}; rename it, "
            "or name the columns to take with --input, in that order"
        )
    return tuple(kept)


def inputs_ahead(path: Path, data: Sequences, names: Sequence[str], num_steps: int | None) -> Tensor:
    """The inputs of the steps that follow each sequence of some data, (B, N, U), from a file with a row per step.

    Args:
        path: the file; where the data have several sequences, with the same column of ids.
        data: the data.
        names: the columns of inputs; empty for all columns.
        num_steps: N; None for as many as the file has for every sequence.

    Raises:
        ValueError: too few rows for a sequence, or rows that do not follow its last one.
        DataError: the file cannot be read, or a cell is empty or no number.
    """
    legend = data.legend
    roles = (None, None) if legend is None else (legend.sequence, legend.time)
    found = read_inputs(path, names, *roles)
    places = _matched(found, data, path)
    lengths = found.lengths[places]
    last = int(lengths.min()) if num_steps is None else num_steps
    if last > int(lengths.min()):
        short = int(lengths.argmin())
        raise ValueError(
            f"expected the inputs of {last} steps ahead{_of(data, short)} in {path}, got {int(lengths[short])}; add "
            f"rows, or use --num-steps {int(lengths[short])}"
        )
    _check_later(found, places, data, path)
    return found.x[places, :last]


def read_inputs(path: Path, names: Sequence[str], sequence: str | None = None, time: str | None = None) -> Sequences:
    """Inputs alone, as the observations x (B, T, U) of a batch.

    Args:
        path: a table, or an array (T, U) or (B, T, U).
        names: the columns of inputs; empty for all.
        sequence: the column of ids, if the file has it.
        time: the column of times, if the file has it.

    Raises:
        ValueError: a column that is not there.
        DataError: the file cannot be read, or a cell is empty or no number.
    """
    there = read_names(path)
    ids, times = (role if role in there else None for role in (sequence, time))
    columns = inputs_to_read(path, names, ())
    found = read(path, Reading(ids, times, columns, {"": "real"}, inputs=columns)).data
    if found.observed is not None:
        raise ValueError(f"expected an input at every step in {path}, got a missing one; fill it in")
    return found


def _matched(found: Sequences, data: Sequences, path: Path) -> Tensor:
    """The place among the sequences that were found of each sequence of the data."""
    its, ids = (() if one.legend is None else one.legend.ids for one in (found, data))
    if its and ids:
        places = {one: place for place, one in enumerate(its)}
        missing = [number for number, one in enumerate(ids) if one not in places]
        if missing:
            of = _of(data, missing[0]) or f" of sequence {ids[0]!r}"
            raise ValueError(f"expected the inputs of the steps ahead{of} in {path}, got none; add rows")
        return torch.tensor([places[one] for one in ids])
    if len(found.lengths) != len(data.lengths):
        raise ValueError(
            f"expected the inputs ahead of {len(data.lengths)} sequences in {path}, got those of {len(found.lengths)}; "
            "give the rows of each sequence its id, in a column of the same name as in the data"
        )
    return torch.arange(len(data.lengths))


def _check_later(found: Sequences, places: Tensor, data: Sequences, path: Path) -> None:
    """Raise if the file has times that the data have already."""
    its, ours = (() if one.legend is None else one.legend.times for one in (found, data))
    if not its or not ours:
        return
    for number, place in enumerate(places.tolist()):
        first, last = its[place][0], ours[number][-1]
        if type(first) is type(last) and first <= last:
            raise ValueError(
                f"expected rows after {_shown(last)}, the last of the data{_of(data, number)}, in {path}, got "
                f"{_shown(first)}; leave out the rows that are known already"
            )


def _shown(time: Any) -> str:
    return str(time).removesuffix(".000000000").removesuffix("T00:00:00")


def _of(data: Sequences, number: int) -> str:
    """Words for one of several sequences."""
    if len(data.lengths) == 1:
        return ""
    ids = () if data.legend is None else data.legend.ids
    return f" of sequence {ids[number]!r}" if ids else f" of sequence {number}"
