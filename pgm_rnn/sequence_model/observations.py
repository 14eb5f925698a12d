"""What a model asks of the observations it is given, whatever the engine."""

import torch
from torch import Tensor

from pgm_rnn.emissions import Emission
from pgm_rnn.sequences import as_sequences, length_mask


def check_observations(
    family: Emission,
    x: Tensor,
    lengths: Tensor | None,
    like: Tensor,
    mask: Tensor | None = None,
    *,
    name: str = "x",
) -> tuple[Tensor, Tensor]:
    """Observations with zeros in their padding and where they are missing, in the dtype of `like`, and lengths.

    Args:
        family: whose event shape and support the observations must have.
        x: (batch, T, *event).
        lengths: (batch,), None for T.
        like: a parameter of the model, whose device and floating dtype the observations must share.
        mask: True where x was observed, (batch, T) or the shape of x; None for everywhere.
        name: what the errors call x.

    Raises:
        TypeError: an x that is no tensor or has the wrong dtype.
        ValueError: wrong shape, device or lengths, NaN or values outside the family's support.
    """
    x, lengths, _ = as_sequences(x, lengths)
    event_shape = family.event_shape
    if x.shape[2:] != event_shape:
        expected = ", ".join(["batch", "T", *map(str, event_shape)])
        raise ValueError(f"expected {name} of shape ({expected}), got {tuple(x.shape)}")
    if x.device != like.device:
        raise ValueError(f"expected {name} on {like.device} as the model, got {x.device}; move one of them with .to")
    x = _in_dtype(family, x, like.dtype, name)
    if bool((lengths < x.shape[1]).any()):
        x = x.where(_over_events(length_mask(lengths, x.shape[1]), x), 0)  # zero is in every family's support
    if mask is not None:
        x = x.where(_over_events(check_mask(mask, x), x), 0)
    invalid = family.invalid(x)
    if bool(invalid.any()):
        where = tuple(invalid.nonzero()[0].tolist())
        place = f"sequence {where[0]} at step {where[1] + 1}"
        raise ValueError(f"expected {family.support}, got {x[where].item()} in {place}")
    return x, lengths


def check_mask(mask: Tensor, x: Tensor) -> Tensor:
    """The mask itself.

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
        raise ValueError(f"expected mask on {x.device} as x, got {mask.device}; move it with .to")
    return mask


def check_inputs(inputs: Tensor | None, input_dim: int | None, x: Tensor) -> Tensor | None:
    """The inputs u of a model that has some, (batch, T, input_dim) for observations x (batch, T, *event).

    Raises:
        ValueError: inputs for a model without, or none for a model with inputs; wrong shape, device, NaN or infinity.
        TypeError: another dtype than that of x.
    """
    if input_dim is None:
        if inputs is not None:
            raise ValueError("expected no inputs, for the model takes none, got some; drop them")
        return None
    expected = (*x.shape[:2], input_dim)
    if not isinstance(inputs, Tensor) or tuple(inputs.shape) != expected:
        got = tuple(inputs.shape) if isinstance(inputs, Tensor) else inputs
        raise ValueError(f"expected inputs of shape {expected}, got {got}")
    if inputs.dtype != x.dtype:
        raise TypeError(f"expected inputs of dtype {x.dtype} as the observations, got {inputs.dtype}")
    if inputs.device != x.device or not bool(inputs.isfinite().all()):
        raise ValueError("expected finite inputs on the device of the observations, got others")
    return inputs


def _over_events(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (batch, T) or of the shape of x, made to broadcast over the events of x."""
    return mask[(...,) + (None,) * (x.dim() - mask.dim())]


def _in_dtype(family: Emission, x: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    if family.needs_integers:
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise TypeError(f"expected {name} of an integer dtype for {family.support}, got {x.dtype}; use .long()")
        return x.long()
    if x.is_complex() or (x.is_floating_point() and x.dtype != dtype):
        raise TypeError(f"expected {name} of dtype {dtype} as the model's parameters, got {x.dtype}; use .to({dtype})")
    return x.to(dtype)
