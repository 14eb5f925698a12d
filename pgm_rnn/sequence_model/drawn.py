"""Drawn states together with their memory and densities, so that these need not be computed again.

Drawing states step by step computes their memory, and what their density needs. A Pyro program passes both on in
`infer` of the site "z", which `poutine.replay` carries from the guide to the model together with the value.
"""

import weakref
from typing import Any, NamedTuple

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pgm_rnn.sequence_model.parameters import Snapshot


class Drawn(NamedTuple):
    """States of all steps, with what was computed while drawing them.

    Attributes:
        z: the states, (batch, T, *latent).
        h: their memory, (batch, T, dim), or None if it was not kept or there is none.
        log_probs: log density of each state given those before it, nats, (batch, T), or None.
    """

    z: Tensor
    h: Tensor | None = None
    log_probs: Tensor | None = None


class Way:
    """A record of one draw; it is empty before the draw, and after a change of a parameter, z or x."""

    def __init__(self) -> None:
        self.drawn: Drawn | None = None

    def keep(self, snapshot: Snapshot, x: Tensor, drawn: Drawn) -> Tensor:
        """Record a draw made by a model with its present parameters and observations, and return its states."""
        self.drawn, self.x, self.model = drawn, x, weakref.ref(snapshot.module)
        self.made_with = _made_with(snapshot, drawn.z)
        return drawn.z

    def to(self, snapshot: Snapshot, x: Tensor, z: Tensor | None) -> Drawn | None:
        """The recorded draw, if it belongs to this model, x and z and nothing has changed since; else None."""
        drawn = self.drawn
        if drawn is None or z is not drawn.z or self.model() is not snapshot.module:
            return None
        if self.made_with != _made_with(snapshot, z):
            return None
        return drawn if self.x is x or torch.equal(self.x, x) else None


def _made_with(snapshot: Snapshot, z: Tensor) -> tuple[object, ...]:
    """A key that differs when z, a parameter or the gradient mode has changed."""
    parameters = snapshot.parameters.values()
    return torch.is_grad_enabled(), z._version, [*map(id, parameters)], [p._version for p in parameters]


class _Infer(Messenger):
    """Records the `infer` that a site ends with."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Any] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        self.found = msg["infer"] or {}


def sample_with_way(name: str, law: TorchDistribution, way: Way) -> tuple[Tensor, Way]:
    """`pyro.sample`, and the record of the draw: the given one, which the law fills, or in a replay the guide's."""
    with _Infer() as site:
        z = pyro.sample(name, law, infer={"way": way})  # type: ignore[arg-type]  # Pyro keeps any key
    return z, site.found.get("way", way)
