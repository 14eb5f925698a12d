"""Drawn states, and what was computed on the way to them: it goes with the draw, so that no density computes it again.

Whoever draws states step by step needs their memory and their laws. A Pyro program hands them on as `infer` of the
site "z", which `poutine.replay` takes from the guide to the model together with the value.
"""

import weakref
from typing import Any, NamedTuple

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pgm_rnn.sequence_model.parameters import current_parameters


class Drawn(NamedTuple):
    """States of all steps, and what was computed on the way to them.

    Attributes:
        z: (batch, T, *latent).
        h: their memory, (batch, T, dim), or None where it was not kept or there is none.
        law: of each state given those before it, batch (batch, T), or None.
    """

    z: Tensor
    h: Tensor | None = None
    law: TorchDistribution | None = None


class Way:
    """What one draw has left: empty until there is one, and again when a parameter, z or x has changed."""

    def __init__(self) -> None:
        self.drawn: Drawn | None = None

    def keep(self, model: nn.Module, x: Tensor, drawn: Drawn) -> Tensor:
        """Remember a draw that was made for a model and observations; the states themselves."""
        self.drawn, self.x, self.model = drawn, x, weakref.ref(model)
        self.made_with = _made_with(model, drawn.z)
        return drawn.z

    def to(self, model: nn.Module, x: Tensor, z: Tensor | None) -> Drawn | None:
        """What was computed on the way to z, if it was drawn for these and nothing has changed since."""
        drawn = self.drawn
        if drawn is None or z is not drawn.z or self.model() is not model or self.made_with != _made_with(model, z):
            return None
        return drawn if self.x is x or torch.equal(self.x, x) else None


def _made_with(model: nn.Module, z: Tensor) -> tuple[object, ...]:
    """What changes when z, a parameter, or whether gradients are taken changes."""
    return (torch.is_grad_enabled(), z._version, *((id(p), p._version) for p in current_parameters(model).values()))


class _Infer(Messenger):
    """Notes the `infer` that a site ends with."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Any] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        self.found = msg["infer"] or {}


def sample_with_way(name: str, law: TorchDistribution, way: Way) -> tuple[Tensor, Way]:
    """`pyro.sample`, and the way of the draw: that given, which the law fills, or in a replay the guide's."""
    with _Infer() as site:
        z = pyro.sample(name, law, infer={"way": way})  # type: ignore[arg-type]  # Pyro keeps any key
    return z, site.found.get("way", way)
