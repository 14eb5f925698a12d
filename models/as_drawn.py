"""Which models are still as they were drawn: EM starts these from the data, and others from their own parameters."""

from typing import Any

import torch
from torch import Tensor, nn


class AsDrawn(nn.Module):
    """A mixin for models with a maker that draws parameters at random, such as `HMM.random`."""

    _drawn: tuple[Tensor, ...] = ()

    def _remember_draw(self) -> None:
        """Take the present parameters for those that were drawn."""
        self._drawn = tuple(parameter.detach().clone() for parameter in self.parameters())

    def _forget_draw(self) -> None:
        self._drawn = ()

    @property
    def as_drawn(self) -> bool:
        """Whether the parameters are still those drawn by `random`: not set, loaded or fitted since."""
        present = list(self.parameters())
        return len(present) == len(self._drawn) and all(
            now.shape == then.shape and torch.equal(now, then.to(now))
            for now, then in zip(present, self._drawn, strict=True)
        )

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget_draw()
        super()._load_from_state_dict(*args, **kwargs)
