"""What a filter keeps of every step besides its weights: filtered means of functions, and all particles if asked to."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from pgm_rnn.inference.smc.results import History

SeenFunction = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""A function of a state, its memory and the observation (B, *event), (N, B, ...)."""


class Keeping:
    """The means and particles of the steps so far.

    Args:
        functions: the functions whose filtered means are kept, by name.
        keep: "all" to keep the particles of every step, "last" for none.
    """

    def __init__(self, functions: Mapping[str, SeenFunction], keep: Literal["last", "all"]) -> None:
        self._functions, self.keeps_particles = functions, keep == "all"
        self._particles: list[tuple[Tensor, Tensor, Tensor]] = []
        self._means: dict[str, list[Tensor]] = {name: [] for name in functions}

    def add_particles(self, z: Tensor, log_weights: Tensor, ancestors: Tensor | None) -> None:
        """Keep a step's particles, log W_t and ancestors (N, B); None where each particle is its own."""
        if ancestors is None:
            ancestors = torch.arange(len(z), device=z.device)[:, None].expand(log_weights.shape)
        self._particles.append((z, log_weights, ancestors))

    def add_means(self, z: Tensor, h: Tensor | None, x: Tensor, weights: Tensor) -> None:
        """Keep the means of a step's particles under weights known up to a factor, (N, B)."""
        for name, function in self._functions.items():
            values = function(z, h, x)
            normalized = weights / weights.sum(0)
            self._means[name].append((normalized[(...,) + (None,) * (values.dim() - 2)] * values).sum(0))

    @property
    def means(self) -> dict[str, Tensor]:
        """The means of every step, (B, T, ...)."""
        return {name: torch.stack(values, dim=1) for name, values in self._means.items()}

    @property
    def history(self) -> History | None:
        """The particles of every step, if they were kept."""
        return (
            History(*(torch.stack(parts) for parts in zip(*self._particles, strict=True))) if self._particles else None
        )
