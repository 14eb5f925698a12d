"""The memory h_1, ..., h_T of a model: none, a recurrence over the past, inputs, or both side by side.

    start      h_1
    read       the part of the step to h_t that depends only on x_{t-1} and u_t; computed for all steps at once
    step       h_t from h_{t-1}, z_{t-1} and the result of `read`
    unroll     h_1, ..., h_T, given all observations and states

In a model with inputs and a memory, h_t = cat(memory_t, u_t).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Memory:
    """No memory: h is None throughout."""

    def start(self, num_sequences: int, u: Tensor | None = None) -> Any:
        """h_1, (num_sequences, dim), given u_1 (num_sequences, input_dim) if the model has inputs."""
        return None

    def read(self, x: Tensor, u: Tensor | None = None) -> Any:
        """Precomputes the part of `step` that depends only on x_{t-1} (..., *event) and u_t (..., input_dim)."""
        return None

    def reads(self, x: Tensor, inputs: Tensor | None = None) -> Sequence[Any]:
        """The results of `read` for h_2, ..., h_T, from x (batch, T, *event) and inputs (batch, T, input_dim)."""
        return [None] * (x.shape[1] - 1)

    def step(self, h: Any, z: Tensor | None, read: Any) -> Any:
        """h_t, (..., dim), from h_{t-1} (..., dim), z_{t-1} (..., *latent) and the result of `read`."""
        return None

    def unroll(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Any:
        """The part of h_1, ..., h_T that the laws read, (batch, T, dim), given x (batch, T, *event), z and inputs."""
        return self.step_by_step(x, z, inputs)

    def step_by_step(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Any:
        """h_1, ..., h_T with all entries, (batch, T, dim), by a loop over the steps."""
        h = [self.start(len(x), None if inputs is None else inputs[:, 0])]
        states = [None] * x.shape[1] if z is None else z.unbind(1)
        for read, z_t in zip(self.reads(x, inputs), states, strict=False):
            h.append(self.step(h[-1], z_t, read))
        return None if h[0] is None else torch.stack(h, dim=1)

    def repeated(self, read: Any, num: int) -> Any:
        """A result of `read`, (B, ...), repeated for `num` particles of each sequence: (num, B, ...)."""
        return None if read is None else read.expand(num, *read.shape)


class Inputs(Memory):
    """h_t = u_t."""

    def start(self, num_sequences: int, u: Tensor | None = None) -> Any:
        """u_1."""
        return u

    def read(self, x: Tensor, u: Tensor | None = None) -> Any:
        """u_t."""
        return u

    def reads(self, x: Tensor, inputs: Tensor | None = None) -> Sequence[Any]:
        """u_2, ..., u_T."""
        return () if inputs is None else inputs[:, 1:].unbind(1)

    def step(self, h: Any, z: Tensor | None, read: Any) -> Any:
        """u_t."""
        return read

    def unroll(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Any:
        """The inputs."""
        return inputs


@dataclass(frozen=True)
class Recurrence(Memory):
    """h_t = recurrence(h_{t-1}, z_{t-1}, x_{t-1}).

    Attributes:
        initial: h_1, (dim,).
        recurrence: function of (h, z, x).
        reads_state: whether the recurrence gets z; if not, it gets None.
        reader: function of x that precomputes the part of a step that depends only on x; None for the identity.
        advance: function of (h, z, result of `reader`) that finishes the step; None for `recurrence`.
        at_once: function of (x, z) that computes all steps in one call; None for a loop.
    """

    initial: Tensor
    recurrence: Callable[[Any, Any, Tensor], Tensor]
    reads_state: bool = False
    reader: Callable[[Tensor], Tensor] | None = None
    advance: Callable[[Any, Any, Tensor], Tensor] | None = None
    at_once: Callable[[Tensor, Any], Tensor] | None = None

    def start(self, num_sequences: int, u: Tensor | None = None) -> Any:
        """h_1 for every sequence."""
        return self.initial.expand(num_sequences, -1)

    def read(self, x: Tensor, u: Tensor | None = None) -> Any:
        """x_{t-1}, or the model's `reader` of it."""
        return x if self.reader is None else self.reader(x)

    def reads(self, x: Tensor, inputs: Tensor | None = None) -> Sequence[Any]:
        """The results of `read` for t = 2..T, computed at once."""
        return self.read(x[:, :-1]).unbind(1)

    def step(self, h: Any, z: Tensor | None, read: Any) -> Any:
        """The recurrence."""
        return (self.advance or self.recurrence)(h, z if self.reads_state else None, read)

    def unroll(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Any:
        """All steps, in one call if the model has `at_once`."""
        return self.step_by_step(x, z, inputs) if self.at_once is None else self.at_once(x, z)


@dataclass(frozen=True)
class WithInputs(Memory):
    """h_t = cat(memory_t, u_t); the recurrence sees h_{t-1} and returns memory_t.

    Attributes:
        memory: the memory without the inputs.
    """

    memory: Memory

    def start(self, num_sequences: int, u: Tensor | None = None) -> Any:
        """cat(memory_1, u_1)."""
        return _beside(self.memory.start(num_sequences), u)

    def read(self, x: Tensor, u: Tensor | None = None) -> Any:
        """Both parts."""
        return self.memory.read(x), u

    def reads(self, x: Tensor, inputs: Tensor | None = None) -> Sequence[Any]:
        """Both parts of each step."""
        return [] if inputs is None else list(zip(self.memory.reads(x), inputs[:, 1:].unbind(1), strict=True))

    def step(self, h: Any, z: Tensor | None, read: Any) -> Any:
        """cat(memory_t, u_t)."""
        own, u = read
        return _beside(self.memory.step(h, z, own), u)

    def repeated(self, read: Any, num: int) -> Any:
        """Both parts."""
        own, u = read
        return self.memory.repeated(own, num), u.expand(num, *u.shape)


def _beside(memory: Tensor, u: Tensor | None) -> Tensor:
    if u is None:
        raise ValueError("expected inputs, for the model takes some, got None; give inputs=...")
    return torch.cat([memory, u.expand(*memory.shape[:-1], -1)], dim=-1)
