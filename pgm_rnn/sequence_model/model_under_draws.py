"""A model under several draws of its parameters as one model, whose laws have the batch shape (*draws, batch)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.sequence_model.conditionals import Conditionals
from pgm_rnn.sequence_model.draws import Draws, Rows
from pgm_rnn.sequence_model.memory import Recurrence
from pgm_rnn.sequence_model.side_by_side import SideBySide


class ModelUnderDraws(Conditionals):
    """The conditional laws of `draws.model`, one for each draw; values are (*lead, *draws, batch, *entries).

    Args:
        draws: a model and draws of its parameters.
    """

    laws_are_known = True

    def __init__(self, draws: Draws) -> None:
        model = draws.model
        super().__init__(model.family, model.first)
        self.inner, self.draws = model, draws
        self.states, self.input_dim, self.memory_reads_state = model.states, model.input_dim, model.memory_reads_state
        self._start = None
        if model.initial_memory is not None:
            self._start = draws.arranged(draws.each(lambda: self._memory(1)), own_axes=2)
        self._latent_axes = 0

    @property
    def initial_memory(self) -> Tensor | None:  # type: ignore[override]
        """h_1 of each draw, (*draws, 1, memory_dim), or None for a model without memory."""
        return self._start

    @property
    def num_given(self) -> int:
        """That of the model."""
        return self.inner.num_given

    def _memory(self, num_sequences: int) -> Any:
        """h_1 without inputs."""
        initial = self.inner.initial_memory
        return None if initial is None else initial.expand(num_sequences, -1)

    def recurrence(self, h: Any, z: Any, x: Tensor) -> Tensor:
        """h_t of each draw, (*lead, *draws, batch, memory_dim)."""
        rows = self._of_states(z), self.draws.rows(x, 1 + len(self.family.event_shape))
        found = self.draws.each(self.inner.recurrence, self.draws.rows(h, 2), *rows)
        return self.draws.arranged(found, own_axes=2)

    def initial(self, h: Any) -> SideBySide:
        """The laws of z_1."""
        return self._of_first(self.inner.initial, self.draws.rows(h, 2))

    def initial_given(self, h: Any, x: Tensor) -> SideBySide:
        """The laws of z_1 given x_1."""
        of_x = self.draws.rows(x, 1 + len(self.family.event_shape))
        return self._of_first(self.inner.initial_given, self.draws.rows(h, 2), of_x)

    def _of_first(self, make: Callable[..., TorchDistribution], *arguments: Rows) -> SideBySide:
        """The laws of z_1, whose number of axes is that of all later states."""
        law = SideBySide(self.draws, make, arguments)
        self._latent_axes = len(law.event_shape)
        return law

    def transition(self, z: Any, h: Any) -> SideBySide:
        """The laws of z_t."""
        return SideBySide(self.draws, self.inner.transition, (self._of_states(z), self.draws.rows(h, 2)))

    def emission(self, z: Any, h: Any) -> SideBySide:
        """The laws of x_t."""
        return SideBySide(self.draws, self.inner.emission, (self._of_states(z), self.draws.rows(h, 2)))

    def _of_states(self, z: Tensor | None) -> Any:
        return self.draws.rows(z, 1 + self._latent_axes)

    def _recurrence(self) -> Recurrence:
        assert self.initial_memory is not None  # callers have checked
        return _Beside(self.initial_memory, self.recurrence, self.memory_reads_state)


@dataclass(frozen=True)
class _Beside(Recurrence):
    """A recurrence that starts at an h_1 of its own in each draw."""

    def start(self, num_sequences: int, u: Tensor | None = None) -> Any:
        """h_1 for every draw and sequence."""
        return self.initial.expand(*self.initial.shape[:-2], num_sequences, -1)
