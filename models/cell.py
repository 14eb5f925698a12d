"""The interface of recurrent cells: h' = f(h, x), one step at a time or a whole padded batch at once."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Cell(nn.Module, ABC):
    """A deterministic state transition h' = f(h, x).

    Attributes:
        input_dim: width of an input.
        hidden_dim: width of the part of the state that an emission reads.
        state_dim: width of the whole state.
    """

    input_dim: int
    hidden_dim: int
    state_dim: int

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """The state (..., state_dim) after input x (..., input_dim) in state h (..., state_dim)."""
        return self.advance(self.project(x), h)

    @property
    @abstractmethod
    def projected_dim(self) -> int:
        """Width of `project`."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Precomputes W x + b, which depends only on x, for all steps at once: (..., projected_dim)."""

    @abstractmethod
    def advance(self, projected: Tensor, h: Tensor) -> Tensor:
        """The state (..., state_dim) after an input, given its projection W x + b and the state h."""

    def unroll(self, x: Tensor, h: Tensor) -> Tensor:
        """Hidden vectors before and after each of T >= 0 inputs, time first because torch's networks are fastest so.

        Args:
            x: inputs, (T, batch, input_dim).
            h: the state before the first input, (state_dim,), or one per sequence, (batch, state_dim).

        Returns:
            (T + 1, batch, hidden_dim), its first row the hidden vector of h.
        """
        states = [h.expand(x.shape[1], -1)]
        for projected in self.project(x).unbind(0):
            states.append(self.advance(projected, states[-1]))
        return torch.stack([state[:, : self.hidden_dim] for state in states])
