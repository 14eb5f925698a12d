"""The memory h_1, ..., h_T of given observations and states, computed once for a draw and its densities.

Whoever draws states step by step needs their memory on the way. It goes with the draw, so that the density of the
same states, in the guide and in the model, is one pass over all steps without a second recursion.
"""

import weakref
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pgm_rnn.sequence_model import SequenceModel


class _Kept(NamedTuple):
    """What a draw was made with, and its memory."""

    model: "weakref.ref[SequenceModel]"
    state: tuple[object, ...]
    x: Tensor
    h: Tensor


def keep_memory(model: "SequenceModel", x: Tensor, z: Tensor, h: Tensor) -> None:
    """Let the memory h (batch, T, dim) go with states z that were just drawn; it is forgotten with them."""
    z._memory = _Kept(weakref.ref(model), _state(model, z), x, h)  # type: ignore[attr-defined]


def memory_of(model: "SequenceModel", x: Tensor, z: Tensor | None, inputs: Tensor | None) -> Tensor | None:
    """`model.unroll_memory(x, z, inputs)`, or what went with z where nothing has changed since it was drawn."""
    kept: _Kept | None = getattr(z, "_memory", None)
    if kept is None or z is None or kept.model() is not model or kept.state != _state(model, z):
        return model.unroll_memory(x, z, inputs)
    return kept.h if kept.x is x or torch.equal(kept.x, x) else model.unroll_memory(x, z, inputs)


def _state(model: "SequenceModel", z: Tensor) -> tuple[object, ...]:
    """What changes when z, a parameter, or whether gradients are taken changes."""
    return (torch.is_grad_enabled(), z._version, *((id(p), p._version) for p in model.parameters()))
