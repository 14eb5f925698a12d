"""The memory h_1, ..., h_T of a model: none, a recurrence over the past, inputs, or both side by side.

    start      h_1
    read       the part of the step to h_t that depends only on x_{t-1} and u_t; computed for all steps at once
    step       h_t from h_{t-1}, z_{t-1} and the result of `read`
    unroll     h_1, ..., h_T, given all observations and states

In a model with inputs and a memory, h_t = cat(memory_t, u_t). A recurrence that reads neither h nor z, such as that of
an autoregressive model, is called once for all steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_FEW_STEPS = 2
"""Number of steps below which a loop is as good as one call for all of them."""


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
        if h[0] is None:
            return None
        states = [None] * x.shape[1] if z is None else z.unbind(1)
        for read, z_t in zip(self.reads(x, inputs), states, strict=False):
            h.append(self.step(h[-1], z_t, read))
        return torch.stack(h, dim=1)

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
        """All steps, in one call if the model has `at_once` or the recurrence reads x alone."""
        if self.at_once is not None:
            return self.at_once(x, z)
        h = self.of_observations(x, len(self.initial))
        return self.step_by_step(x, z, inputs) if h is None else h

    def of_observations(self, x: Tensor, size: int) -> Tensor | None:
        """h_1, ..., h_T by one call of a recurrence that reads x alone, (batch, T, dim); None if it reads h or z.

        Args:
            x: observations (batch, T, *event).
            size: number of entries of the h that the recurrence sees, inputs included.
        """
        batch, steps = x.shape[0], x.shape[1] - 1
        if self.reads_state or self.advance is not None or steps < _FEW_STEPS or self.initial.dim() != 1:
            return None
        try:
            later = self.recurrence(_Unread(torch.Size([batch, steps, size]), self.initial), None, x[:, :-1])
            later = later.expand(batch, steps, len(self.initial))
        except Exception:  # it reads h, or is at fault, which a call for a single step shows
            return None
        return torch.cat([self.initial.expand(batch, 1, -1), later], dim=1)


class _Unread:
    """Stands for the memory h in a call of a recurrence, to learn that it is not read: any use but its size raises."""

    def __init__(self, shape: torch.Size, like: Tensor) -> None:
        self.shape, self.dtype, self.device, self.ndim = shape, like.dtype, like.device, len(shape)

    def dim(self) -> int:
        """Number of axes."""
        return self.ndim

    @classmethod
    def __torch_function__(cls, *_: Any) -> Any:
        raise TypeError("the recurrence reads h")


@dataclass(frozen=True)
class WithInputs(Memory):
    """h_t = cat(memory_t, u_t); the recurrence sees h_{t-1} and returns memory_t.

    Attributes:
        memory: the memory without the inputs.
    """

    memory: Recurrence

    def start(self, num_sequences: int, u: Tensor | None = None) -> Any:
        """cat(memory_1, u_1)."""
        return _beside(self.memory.start(num_sequences), u)

    def read(self, x: Tensor, u: Tensor | None = None) -> Any:
        """Both parts."""
        return self.memory.read(x), u

    def reads(self, x: Tensor, inputs: Tensor | None = None) -> Sequence[Any]:
        """Both parts of each step."""
        return [] if inputs is None else list(zip(self.memory.reads(x), inputs[:, 1:].unbind(1), strict=True))

    def unroll(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Any:
        """All steps, in one call if the recurrence reads x alone."""
        own = self.memory.of_observations(x, len(self.memory.initial) + (0 if inputs is None else inputs.shape[-1]))
        return self.step_by_step(x, z, inputs) if own is None else _beside(own, inputs)

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
        raise ValueError("expected inputs, because the model takes some, got None; give inputs=...")
    return torch.cat([memory, u.expand(*memory.shape[:-1], -1)], dim=-1)
