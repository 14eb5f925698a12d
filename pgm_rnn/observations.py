"""What a model asks of the observations it is given, whatever the engine."""

import torch
from torch import Tensor

from pgm_rnn.emissions import Emission
from pgm_rnn.sequences import as_sequences, length_mask


def check_observations(family: Emission, x: Tensor, lengths: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Observations with zeros in their padding, in the dtype of `like`, and explicit lengths.

    Args:
        family: whose event shape and support the observations must have.
        x: (batch, T, *event).
        lengths: (batch,), None for T.
        like: a parameter of the model, whose device and floating dtype the observations must share.

    Raises:
        TypeError: an x that is no tensor or has the wrong dtype.
        ValueError: wrong shape, device or lengths, NaN or values outside the family's support.
    """
    padded = lengths is not None
    x, lengths, _ = as_sequences(x, lengths)
    event_shape = family.event_shape
    if x.shape[2:] != event_shape:
        expected = ", ".join(["batch", "T", *map(str, event_shape)])
        raise ValueError(f"expected x of shape ({expected}), got {tuple(x.shape)}")
    if x.device != like.device:
        raise ValueError(f"expected x on {like.device} as the model, got {x.device}; move one of them with .to")
    x = _in_dtype(family, x, like.dtype)
    if padded:
        mask = length_mask(lengths, x.shape[1])
        x = x.where(mask[(...,) + (None,) * len(event_shape)], 0)  # zero is in every family's support
    invalid = family.invalid(x)
    if bool(invalid.any()):
        where = tuple(invalid.nonzero()[0].tolist())
        place = f"sequence {where[0]} at step {where[1] + 1}"
        raise ValueError(f"expected {family.support}, got {x[where].item()} in {place}")
    return x, lengths


def _in_dtype(family: Emission, x: Tensor, dtype: torch.dtype) -> Tensor:
    if family.needs_integers:
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise TypeError(f"expected x of an integer dtype for {family.support}, got {x.dtype}; use x.long()")
        return x.long()
    if x.is_complex() or (x.is_floating_point() and x.dtype != dtype):
        raise TypeError(f"expected x of dtype {dtype} as the model's parameters, got {x.dtype}; use x.to({dtype})")
    return x.to(dtype)
