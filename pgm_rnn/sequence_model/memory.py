"""The memory h_1, ..., h_T of given observations and states, computed once for a draw and its densities.

Whoever draws states step by step needs their memory and their laws on the way. They go with the draw, so that the
density of the same states, in the guide and in the model, is one pass over all steps without a second recursion.
"""

import weakref
from typing import TYPE_CHECKING, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.sequence_model.parameters import current_parameters

if TYPE_CHECKING:
    from pgm_rnn.sequence_model.model import SequenceModel


class Drawn(NamedTuple):
    """States of all steps, and what was computed on the way to them.

    Attributes:
        z: (batch, T, *latent).
        h: their memory, (batch, T, dim), or None.
        law: of each state given those before it, batch (batch, T), or None.
    """

    z: Tensor
    h: Tensor | None
    law: TorchDistribution | None = None


class _Kept(NamedTuple):
    """What a draw was made with, and what came of it."""

    model: "weakref.ref[SequenceModel]"
    state: tuple[object, ...]
    x: Tensor
    h: Tensor | None
    law: TorchDistribution | None


def keep_with(model: "SequenceModel", x: Tensor, drawn: Drawn) -> Tensor:
    """States that were just drawn, with their memory and law, which are forgotten with them."""
    z, h, law = drawn
    z._kept = _Kept(weakref.ref(model), _state(model, z), x, h, law)  # type: ignore[attr-defined]
    return z


def law_of(model: "SequenceModel", x: Tensor, z: Tensor) -> TorchDistribution | None:
    """The law of each state given those before it that z was drawn from, if that is known."""
    kept = _kept(model, x, z)
    return None if kept is None else kept.law


def memory_of(model: "SequenceModel", x: Tensor, z: Tensor | None, inputs: Tensor | None) -> Tensor | None:
    """`model.unroll_memory(x, z, inputs)`, or what went with z where nothing has changed since it was drawn."""
    kept = _kept(model, x, z)
    return model.unroll_memory(x, z, inputs) if kept is None or kept.h is None else kept.h


def _kept(model: "SequenceModel", x: Tensor, z: Tensor | None) -> _Kept | None:
    """What goes with z, if it was drawn for this model and these observations and nothing has changed since."""
    kept: _Kept | None = getattr(z, "_kept", None)
    if kept is None or z is None or kept.model() is not model or kept.state != _state(model, z):
        return None
    return kept if kept.x is x or torch.equal(kept.x, x) else None


def _state(model: "SequenceModel", z: Tensor) -> tuple[object, ...]:
    """What changes when z, a parameter, or whether gradients are taken changes."""
    return (torch.is_grad_enabled(), z._version, *((id(p), p._version) for p in current_parameters(model).values()))
