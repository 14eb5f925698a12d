"""Padded batches of sequences of unequal length.

    x: (batch, T, *event)      what stands at t > lengths[i] is padding and never read
    lengths: (batch,) int64    1 <= lengths[i] <= T; None means that every sequence has T steps

Every other module takes such pairs; what makes a pair valid is checked here, once, at the public entry points.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Sequences(NamedTuple):
    """A padded batch: observations, lengths and, where they are known, latent states.

    Attributes:
        x: observations, (batch, T, *event).
        lengths: number of steps of each sequence, (batch,), int64.
        z: latent states, (batch, T, *latent), or None.

    Example:
        >>> batch = pad([torch.tensor([1, 0, 2]), torch.tensor([2])])
        >>> batch.x.shape, batch.lengths.tolist()
        (torch.Size([2, 3]), [3, 1])
    """

    x: Tensor
    lengths: Tensor
    z: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """True where an observation stands, False in the padding, (batch, T)."""
        return length_mask(self.lengths, self.x.shape[1])

    @property
    def num_steps(self) -> int:
        """Number of observations in the batch, sum of the lengths."""
        return int(self.lengths.sum())

    def select(self, index: Tensor) -> "Sequences":
        """The sequences at `index` (k,), cut to the longest of them."""
        lengths = self.lengths[index]
        longest = int(lengths.max())
        return Sequences(self.x[index, :longest], lengths, None if self.z is None else self.z[index, :longest])

    def to(self, device: torch.device | str) -> "Sequences":
        """The same batch on another device."""
        return Sequences(self.x.to(device), self.lengths.to(device), None if self.z is None else self.z.to(device))


def length_mask(lengths: Tensor, num_steps: int) -> Tensor:
    """Indicator of t <= lengths[i], t = 1..T: (batch, T), bool."""
    return torch.arange(num_steps, device=lengths.device) < lengths[..., None]


def pad(sequences: Sequence[Tensor]) -> Sequences:
    """One padded batch of sequences (T_i, *event) that share their event shape and dtype.

    Raises:
        ValueError: no sequence, an empty one, or events that differ.
    """
    given: object = sequences
    if not isinstance(given, Sequence) or not all(isinstance(sequence, Tensor) for sequence in given):
        raise TypeError("expected a list of tensors (T_i, *event), got something else in it or in its place")
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


def as_sequences(data: "Sequences | Tensor", lengths: Tensor | None = None) -> Sequences:
    """`data` as a padded batch with explicit, checked lengths.

    Args:
        data: `Sequences`, or observations (batch, T, *event).
        lengths: (batch,); None means T for every sequence. Must be None if `data` brings its own.

    Raises:
        TypeError: `data` is neither, or the lengths are no integers.
        ValueError: no sequences, no steps, or lengths outside 1..T.
    """
    if isinstance(data, Sequences):
        if lengths is not None:
            raise ValueError("expected lengths in one place, got them in Sequences and as an argument; drop one")
        return as_sequences(data.x, data.lengths)._replace(z=data.z)
    if not isinstance(data, Tensor):
        raise TypeError(f"expected observations as a tensor (batch, T, *event), got {type(data).__name__}")
    if data.dim() < 2 or 0 in data.shape[:2]:
        raise ValueError(
            f"expected observations (batch, T, *event) with at least one sequence and one step, "
            f"got shape {tuple(data.shape)}; a single sequence is x[None]"
        )
    if lengths is None:
        lengths = torch.full(data.shape[:1], data.shape[1], device=data.device)
    else:
        lengths = check_lengths(lengths, data)
    return Sequences(data, lengths)


def check_lengths(lengths: Tensor, x: Tensor | None = None) -> Tensor:
    """Lengths as int64; those of x if it is given, (batch, T, *event).

    Raises:
        TypeError: they are no tensor of integers.
        ValueError: none, or not one a sequence, on another device than x, or outside 1..T.
    """
    if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        got = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"expected lengths as a tensor of integers, got {got}; try torch.as_tensor(lengths)")
    expected = "(batch,)" if x is None else f"{tuple(x.shape[:1])}"
    if lengths.dim() != 1 or len(lengths) == 0 or (x is not None and lengths.shape != x.shape[:1]):
        raise ValueError(f"expected lengths of shape {expected}, one a sequence, got {tuple(lengths.shape)}")
    if x is not None and lengths.device != x.device:
        raise ValueError(f"expected lengths on {x.device} as x, got {lengths.device}; move them with .to")
    outside = (lengths < 1) | (lengths > (lengths.max() if x is None else x.shape[1]))
    if bool(outside.any()):
        index = int(outside.nonzero()[0])
        limit = "of at least 1" if x is None else f"in 1..T = 1..{x.shape[1]}"
        raise ValueError(
            f"expected lengths {limit}, got {int(lengths[index])} at index {index}; drop empty sequences first"
        )
    return lengths.long()
