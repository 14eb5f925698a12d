"""Arrays with named axes, in groups: what `to_arviz` hands to ArviZ, before it knows which version of ArviZ that is.

sequence, time, variable    axes of the data, with the user's ids, times and names
state                       values of a finite state, or entries of a state vector
chain, draw                 the first axes of everything that is drawn
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.files import sha256
from pgm_rnn.legend import Legend
from pgm_rnn.report.places import ids_of
from pgm_rnn.sequences import Sequences, length_mask, over_events


class Variable(NamedTuple):
    """An array with a name for each axis.

    Attributes:
        axes: names of the axes, those of `Labels` among them.
        values: the numbers.
        attributes: texts that belong to it.
    """

    axes: tuple[str, ...]
    values: NDArray[Any]
    attributes: Mapping[str, str] = {}


Group = dict[str, Variable]
DRAWN = ("chain", "draw")
PLACES = ("sequence", "time")


class Labels(NamedTuple):
    """The labels of axes.

    Attributes:
        values: labels of each axis that has some, by the axis, (size,).
        titles: the user's name of an axis, such as the column of ids.
    """

    values: dict[str, NDArray[Any]]
    titles: dict[str, str]


def array(tensor: Tensor) -> NDArray[Any]:
    """The numbers of a tensor of any device."""
    return tensor.detach().cpu().numpy()


def drawn(tensor: Tensor, *axes: str) -> Variable:
    """Draws (num_draws, ...) as those of one chain."""
    return Variable((*DRAWN, *axes), array(tensor)[None])


def by_step(tensor: Tensor, lengths: Tensor | None, *axes: str) -> Tensor:
    """Values whose axes have these names, NaN in the padding of (sequence, time) where the lengths are known."""
    if lengths is None or bool((lengths == tensor.shape[axes.index("time")]).all()):
        return tensor
    place = axes.index("sequence")
    inside = length_mask(lengths.to(tensor.device), tensor.shape[place + 1])
    inside = inside[(...,) + (None,) * (tensor.dim() - place - 2)]
    values = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
    return values.where(inside, torch.nan)


def observations(data: Sequences, *axes: str) -> Variable:
    """Observations (..., sequence, time, variable), NaN in the padding and where x is missing."""
    inside = length_mask(data.lengths, data.x.shape[1])
    seen = over_events(inside, data.x) if data.observed is None else over_events(data.observed, data.x)
    x = data.x
    if not bool(seen.all()):
        x = (x if x.is_floating_point() else x.to(torch.get_default_dtype())).where(seen, torch.nan)
    words = {column.name: list(column.words) for column in _columns(data.legend) if column.words}
    texts = {"words": json.dumps(words, ensure_ascii=False)} if words else {}
    return Variable((*axes, *PLACES, "variable"), array(x.reshape(*x.shape[:2], -1)), texts)


def labels_of(data: Sequences | None) -> Labels:
    """Ids, times and names of the data, numbers where they have none: sequences from 0, steps and variables from 1."""
    if data is None:
        return Labels({}, {})
    legend, (batch, num_steps), width = data.legend, data.x.shape[:2], max(1, data.x.shape[2:].numel())
    columns = _columns(legend)
    names = [column.name for column in columns] if len(columns) == width else [str(n + 1) for n in range(width)]
    times = _common_times(data)
    steps = np.arange(1, num_steps + 1) if times is None else times
    variables = _plain(np.asarray(names))
    found = {"sequence": _plain(ids_of(legend, batch)), "time": steps, "variable": variables, "observable": variables}
    if len(columns) == 1 and columns[0].words:
        found["symbol"] = _plain(np.asarray(columns[0].words))
    titles = {}
    if legend is not None and legend.sequence:
        titles["sequence"] = legend.sequence
    if legend is not None and legend.time and times is not None:
        titles["time"] = legend.time
    return Labels(found, titles)


def data_groups(data: Sequences) -> dict[str, Group]:
    """`observed_data`, the observations, and `constant_data`: lengths, inputs, times that sequences do not share."""
    constant: Group = {"length": Variable(("sequence",), array(data.lengths))}
    if data.inputs is not None:
        inputs = by_step(data.inputs, data.lengths, *PLACES, "input")
        constant["inputs"] = Variable((*PLACES, "input"), array(inputs))
    if data.legend is not None and data.legend.times and _common_times(data) is None:
        constant["times"] = Variable(PLACES, _own_times(data))
    return {"observed_data": {"x": observations(data)}, "constant_data": constant}


def digest_of(data: Sequences) -> str:
    """SHA-256 of the observations, lengths, inputs and gaps; padding and hidden values do not count."""
    inside = length_mask(data.lengths, data.x.shape[1])
    seen = inside if data.observed is None else data.observed
    x = data.x.where(over_events(seen, data.x), 0)
    inputs = [] if data.inputs is None else [data.inputs.where(inside[..., None], 0)]
    parts = [array(part.contiguous()) for part in (x, data.lengths, seen, *inputs)]
    return sha256(b"".join(f"{part.dtype}{part.shape}".encode() + part.tobytes() for part in parts))


def _columns(legend: Legend | None) -> tuple[Any, ...]:
    return () if legend is None else legend.columns


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Labels that a file can hold: numbers, dates or texts."""
    plain = np.asarray(values.tolist()) if values.dtype == object and len(values) else values
    return plain if plain.dtype.kind in "iufMU" else np.asarray([str(value) for value in values])


def _common_times(data: Sequences) -> NDArray[Any] | None:
    """The times of the longest sequence, if all others have them too, from the first one on."""
    if data.legend is None or not data.legend.times:
        return None
    times = [np.asarray(part) for part in data.legend.times]
    longest = max(times, key=len)
    if len(longest) != data.x.shape[1] or any(not np.array_equal(part, longest[: len(part)]) for part in times):
        return None
    return _plain(longest)


def _own_times(data: Sequences) -> NDArray[Any]:
    """The times of every sequence (sequence, time); not a time, NaN or an empty text in the padding."""
    assert data.legend is not None
    times = [_plain(np.asarray(part)) for part in data.legend.times]
    kind = np.result_type(*times) if len({part.dtype.kind for part in times}) == 1 else np.dtype(str)
    nothing: Any = np.datetime64("NaT") if kind.kind == "M" else "" if kind.kind == "U" else np.nan
    ragged = any(len(part) < data.x.shape[1] for part in times)
    kind = np.result_type(kind, np.float64) if kind.kind in "iu" and ragged else kind
    table = np.full(data.x.shape[:2], nothing if ragged else times[0][0], dtype=kind)
    for row, part in zip(table, times, strict=True):
        row[: len(part)] = part
    return table
