"""Padded batches of sequences of unequal length, the form in which all functions pass data.

    x: (batch, T, *event)      values at t > lengths[i] are padding and never read
    lengths: (batch,) int64    1 <= lengths[i] <= T; None means that every sequence has T steps
    z, inputs, mask            latent states, exogenous inputs u_t, and which observations exist, if they matter

Public functions take a `Sequences`, a tensor or array x and its lengths, a list of sequences, or a DataFrame;
`as_sequences` checks and joins them, once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.coerce import as_tensor, given_as
from pgm_rnn.legend import Legend


class Table(Protocol):
    """A DataFrame, or one of its columns: rows are steps."""

    def to_numpy(self) -> Any:
        """The cells as an array."""


class _Fields(NamedTuple):
    x: Tensor
    lengths: Tensor
    z: Tensor | None = None
    inputs: Tensor | None = None
    observed: Tensor | None = None
    legend: Legend | None = None


class Sequences(_Fields):
    """A padded batch: observations, lengths and, where they are known, latent states, inputs and gaps.

    Attributes:
        x: observations, (batch, T, *event).
        lengths: number of steps of each sequence, (batch,), int64.
        z: latent states, (batch, T, *latent), or None.
        inputs: exogenous inputs, (batch, T, input_dim), or None.
        observed: True where x was observed, (batch, T) or the shape of x, False in the padding and where x is missing;
            None if nothing is missing. The constructor's argument is called `mask`.
        legend: the names, units, ids, times and words that belong to the numbers, or None.

    Example:
        >>> batch = pad([torch.tensor([1, 0, 2]), torch.tensor([2])])
        >>> batch.x.shape, batch.lengths.tolist(), batch.mask.tolist()
        (torch.Size([2, 3]), [3, 1], [[True, True, True], [True, False, False]])
    """

    __slots__ = ()

    def __new__(
        cls,
        x: Tensor,
        lengths: Tensor,
        z: Tensor | None = None,
        inputs: Tensor | None = None,
        mask: Tensor | None = None,
        legend: Legend | None = None,
    ) -> "Sequences":
        """A batch; a mask is cut to the lengths, and dropped where it says no more than they do.

        Raises:
            ValueError: an observation is NaN, although the mask is True there.
        """
        if isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape[:2] == x.shape[:2]:
            inside = over_events(length_mask(lengths, x.shape[1]), mask)
            mask = mask & inside
            if bool((mask == inside).all()):
                _check_seen(x, mask)
                mask = None
        return super().__new__(cls, x, lengths, z, inputs, mask, legend)

    def __repr__(self) -> str:
        """Shows sizes instead of values."""
        parts = [f"{len(self.lengths)} of {_range(self.lengths)} steps", f"x {tuple(self.x.shape)} {self.x.dtype}"]
        parts += [f"{n} {tuple(v.shape)}" for n, v in (("z", self.z), ("inputs", self.inputs)) if v is not None]
        if self.observed is not None:
            missing = 1 - int(self.observed.sum()) / (self.num_steps * _per_step(self.observed))
            parts.append(f"{missing:.1%} missing")
        return f"Sequences({', '.join(parts)})"

    @property
    def mask(self) -> Tensor:
        """True where x was observed: `observed`, or (batch, T) from the lengths if nothing is missing."""
        return length_mask(self.lengths, self.x.shape[1]) if self.observed is None else self.observed

    @property
    def num_steps(self) -> int:
        """Number of steps in the batch, sum of the lengths."""
        return int(self.lengths.sum())

    def select(self, index: Tensor | slice) -> "Sequences":
        """The sequences at `index` (k,), cut to the longest of them."""
        lengths = self.lengths[index]
        longest = int(lengths.max())
        places = torch.arange(len(self.lengths), device=lengths.device)[index].tolist()
        x, z, inputs, observed = (
            None if part is None else part[index, :longest] for part in (self.x, self.z, self.inputs, self.observed)
        )
        legend = None if self.legend is None else self.legend.select(places)
        assert x is not None
        return Sequences(x, lengths, z, inputs, observed, legend)

    def to(self, device: torch.device | str) -> "Sequences":
        """The same batch on another device."""
        return self.mapped(lambda part: part.to(device))

    def repeated(self, num: int) -> "Sequences":
        """`num` copies of the batch one after another, (num * batch, ...)."""
        if num == 1:
            return self
        legend = None if self.legend is None else self.legend.select([*range(len(self.lengths))] * num)
        return self.mapped(lambda part: part.repeat(num, *[1] * (part.dim() - 1)))._replace(legend=legend)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "Sequences":
        """A batch of function(part) for each of its tensors, with the same legend."""
        z, inputs, observed = (
            None if part is None else function(part) for part in (self.z, self.inputs, self.observed)
        )
        return Sequences(function(self.x), function(self.lengths), z, inputs, observed, self.legend)


Data: TypeAlias = Sequences | Tensor | np.ndarray[Any, Any] | Table | list[Any] | tuple[Any, ...]
"""Observations as every public function takes them: a padded batch, (batch, T, *event), one sequence (T, *event) as a
tensor, array or table, or a list of sequences."""


def _per_step(mask: Tensor) -> int:
    """Entries of a mask that belong to one step."""
    return mask.shape[2:].numel()


def _range(lengths: Tensor) -> str:
    low, high = int(lengths.min()), int(lengths.max())
    return str(low) if low == high else f"{low} to {high}"


def length_mask(lengths: Tensor, num_steps: int) -> Tensor:
    """Indicator of t <= lengths[i], t = 1..T: (batch, T), bool."""
    return torch.arange(num_steps, device=lengths.device) < lengths[..., None]


def last_of(values: Tensor, lengths: Tensor) -> Tensor:
    """The value at the last step of each sequence, (batch, ...), from those of every step, (batch, T, ...)."""
    return values[torch.arange(len(values), device=values.device), lengths - 1]


def pad(sequences: Sequence[Tensor]) -> Sequences:
    """One padded batch of sequences (T_i, *event) that share their event shape and dtype.

    Raises:
        TypeError: no list of tensors.
        ValueError: no sequence, an empty one, or events that differ.
    """
    given: object = sequences
    if not isinstance(given, Sequence) or not all(isinstance(sequence, Tensor) for sequence in given):
        others = [each for each in given if not isinstance(each, Tensor)] if isinstance(given, Sequence) else [given]
        what = "an entry of type" if isinstance(given, Sequence) else "an argument of type"
        raise TypeError(f"expected a list of tensors (T_i, *event), got {what} {type(others[0]).__name__}")
    if not sequences:
        raise ValueError("expected at least one sequence, got none; give a list of tensors (T_i, *event)")
    first = sequences[0]
    for i, sequence in enumerate(sequences):
        if sequence.dim() == 0 or len(sequence) == 0:
            raise ValueError(f"expected sequences of at least one step, got an empty one at index {i}; drop it first")
        if sequence.shape[1:] != first.shape[1:] or sequence.dtype != first.dtype:
            raise ValueError(
                f"expected events of shape {tuple(first.shape[1:])} and dtype {first.dtype} as in sequence 0, "
                f"got {tuple(sequence.shape[1:])} and {sequence.dtype} at index {i}"
            )
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=first.device)
    return Sequences(torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths)


def as_sequences(
    data: Data,
    lengths: Tensor | None = None,
    *,
    z: Tensor | None = None,
    inputs: Tensor | None = None,
    mask: Tensor | None = None,
    event_shape: Sequence[int] | None = None,
) -> Sequences:
    """`data` as a padded batch with explicit, checked lengths and mask.

    Args:
        data: `Sequences`; observations (batch, T, *event) as a tensor or array; a list of sequences (T_i, *event); or a
            DataFrame, which is one sequence with a row per step.
        lengths: (batch,); None means T for every sequence. If `data` is a `Sequences` or a list, `lengths` must be
            None, and so must every other argument that it already holds.
        z: latent states (batch, T, *latent); checked by the model.
        inputs: (batch, T, input_dim); checked by the model.
        mask: True where x was observed, (batch, T) or the shape of x; None for everywhere.
        event_shape: shape of one observation, where it is known. Then `data` may be one sequence (T, *event), whose z,
            inputs and mask need no batch dimension either, and (T,) will do for events of shape (1,).

    Returns:
        The batch; one sequence is a batch of one.

    Raises:
        TypeError: `data` is of another type, the lengths are no integers, or the mask has no truth values.
        ValueError: no sequences, no steps, lengths outside 1..T, a mask of another shape or one that is True where x is
            NaN, or an argument that `data` already holds.
    """
    if isinstance(data, Sequences):
        given = {"lengths": lengths, "z": z, "inputs": inputs, "mask": mask}
        brought = {"lengths": True, "z": data.z is not None, "inputs": data.inputs is not None, "mask": False}
        for name, value in given.items():
            if value is not None and brought[name]:
                raise ValueError(
                    f"expected {name} in one place, got them in Sequences and as an argument; leave one out"
                )
        z, inputs = data.z if z is None else z, data.inputs if inputs is None else inputs
        mask = data.observed if mask is None else mask
        x, mask = _without_column_axis(data, mask, event_shape)
        return _checked(x, data.lengths, z, inputs, mask)._replace(legend=data.legend)
    found = given_as(data)
    if found.is_list:
        if lengths is not None:
            raise ValueError(
                "expected no lengths with a list of sequences, which have their own, got some; leave them out"
            )
        parts = [_events(part, event_shape) for part in found.parts]
        batch = pad(parts)._replace(legend=found.legend)
        return as_sequences(batch, z=_padded("z", z), inputs=_padded("inputs", inputs), mask=_padded("mask", mask))
    x, parts_of = found.parts[0], {"z": z, "inputs": inputs, "mask": mask}
    z, inputs, mask = (None if v is None else as_tensor(name, v) for name, v in parts_of.items())
    if found.legend is not None or _is_single(x, event_shape):
        x = _events(x, event_shape)[None]
        z, inputs, mask = (_with_batch(part, x) for part in (z, inputs, mask))
    batch = _checked(x, lengths, z, inputs, mask)._replace(legend=found.legend)
    return batch if found.legend is None else as_sequences(batch, event_shape=event_shape)


def _checked(x: Tensor, lengths: Any, z: Tensor | None, inputs: Tensor | None, mask: Tensor | None) -> Sequences:
    """A batch from tensors, after a check."""
    if x.dim() < 2 or 0 in x.shape[:2]:
        raise ValueError(
            f"expected observations (batch, T, *event) with at least one sequence and one step, "
            f"got shape {tuple(x.shape)}; a single sequence is x[None]"
        )
    if lengths is None:
        lengths = torch.full(x.shape[:1], x.shape[1], device=x.device)
    else:
        lengths = check_lengths(as_tensor("lengths", lengths) if isinstance(lengths, list | np.ndarray) else lengths, x)
    batch = Sequences(x, lengths, z, inputs, None if mask is None else check_mask(mask, x))
    if batch.observed is not None:
        _check_seen(x, batch.observed)
    return batch


def _is_single(x: Tensor, event_shape: Sequence[int] | None) -> bool:
    """Whether x is one sequence (T, *event) without a batch dimension."""
    if event_shape is None or x.dim() == 0 or len(x) == 0:
        return False
    return tuple(x.shape[1:]) == tuple(event_shape) or (x.dim() == 1 and tuple(event_shape) == (1,))


def _events(x: Tensor, event_shape: Sequence[int] | None) -> Tensor:
    """One sequence (T, *event), given as (T,) where events have shape (1,)."""
    return x[:, None] if event_shape is not None and tuple(event_shape) == (1,) and x.dim() == 1 else x


def _without_column_axis(
    data: Sequences, mask: Tensor | None, event_shape: Sequence[int] | None
) -> tuple[Tensor, Tensor | None]:
    """x and mask of a batch; the only column of a table, (batch, T, 1), is (batch, T) for a family of scalars."""
    x = data.x
    if event_shape is None or tuple(event_shape) or data.legend is None or tuple(x.shape[2:]) != (1,):
        return x, mask
    return x[..., 0], mask[..., 0] if mask is not None and mask.dim() == 3 else mask


def _with_batch(part: Tensor | None, x: Tensor) -> Tensor | None:
    """A companion of one sequence, with a batch dimension as x has."""
    return part if part is None or part.shape[:2] == x.shape[:2] else part[None]


def _padded(name: str, parts: Any) -> Tensor | None:
    """A companion of a list of sequences, itself a list of (T_i, ...) or a tensor (batch, T, ...)."""
    return pad([as_tensor(name, part) for part in parts]).x if isinstance(parts, list | tuple) else parts


def _check_seen(x: Tensor, mask: Tensor) -> None:
    """Raise if an observation is NaN that was observed, by a mask that is False in the padding.

    Raises:
        ValueError: it is.
    """
    wrong = x.isnan() & over_events(mask, x)
    if bool(wrong.any()):
        sequence, step = wrong.nonzero()[0, :2].tolist()
        raise ValueError(
            f"expected numbers where the mask is True, got nan in sequence {sequence} at step {step + 1}; "
            "make the mask False there, or leave it out"
        )


def check_mask(mask: Tensor, x: Tensor) -> Tensor:
    """The mask, after a check.

    Raises:
        TypeError: no tensor of truth values.
        ValueError: a shape that is neither (batch, T) nor that of x, or another device.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"expected mask as a tensor of truth values, True where observed, got {got}; use mask.bool()")
    if mask.shape not in (x.shape[:2], x.shape):
        raise ValueError(f"expected mask of shape {tuple(x.shape[:2])} or {tuple(x.shape)}, got {tuple(mask.shape)}")
    if mask.device != x.device:
        raise ValueError(f"expected mask on {x.device}, where x is, got {mask.device}; move it with .to")
    return mask


def over_events(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (batch, T) or of the shape of x, reshaped to broadcast over the events of x."""
    return mask[(...,) + (None,) * (x.dim() - mask.dim())]


def some_observed(observed: Tensor, num_axes: int = 2) -> Tensor:
    """Whether some entry was observed: the first `num_axes` axes, by a mask of those alone or of (..., *event)."""
    return observed.reshape(*observed.shape[:num_axes], -1).any(-1)


def check_lengths(lengths: Tensor, x: Tensor | None = None) -> Tensor:
    """Lengths as int64, checked against x (batch, T, *event) if it is given.

    Raises:
        TypeError: they are no tensor of integers.
        ValueError: no lengths, another number than one per sequence, another device than that of x, or a length
            outside 1..T.
    """
    if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        got = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"expected lengths as a tensor of integers, got {got}; try torch.as_tensor(lengths)")
    expected = "(batch,)" if x is None else f"{tuple(x.shape[:1])}"
    if lengths.dim() != 1 or len(lengths) == 0 or (x is not None and lengths.shape != x.shape[:1]):
        raise ValueError(f"expected lengths of shape {expected}, one per sequence, got {tuple(lengths.shape)}")
    if x is not None and lengths.device != x.device:
        raise ValueError(f"expected lengths on {x.device}, where x is, got {lengths.device}; move them with .to")
    outside = (lengths < 1) | (lengths > (lengths.max() if x is None else x.shape[1]))
    if bool(outside.any()):
        index = int(outside.nonzero()[0])
        limit = "of at least 1" if x is None else f"in 1..T = 1..{x.shape[1]}"
        raise ValueError(
            f"expected lengths {limit}, got {int(lengths[index])} at index {index}; drop empty sequences first"
        )
    return lengths.long()
