"""What the laws of whole sequences share: batches of chains, durations, padded values."""

from typing import Any

import torch
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import check_counts


class ChainLaw(TorchDistribution):
    """A law with batch shape of chains and event shape (T, *event).

    Args:
        batch_shape: of the chains.
        num_steps: how many steps the parameters are given for, 1 if they are the same for all.
        duration: T; None takes `num_steps`.
        event_shape: of one observation.
        lengths: steps of each sequence, (*batch_shape,); None for T. What stands behind them does not count.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and type)

    def __init__(
        self,
        batch_shape: torch.Size,
        num_steps: int,
        duration: int | None,
        event_shape: torch.Size,
        lengths: Tensor | None,
    ) -> None:
        if duration is not None:
            check_counts(duration=duration)
            if num_steps not in (1, duration):
                raise ValueError(f"expected parameters for 1 or duration = {duration} steps, got {num_steps}")
        self.duration = duration or num_steps
        if lengths is not None and tuple(lengths.shape) != tuple(batch_shape):
            raise ValueError(f"expected lengths of the batch's shape {tuple(batch_shape)}, got {tuple(lengths.shape)}")
        self.lengths = lengths
        super().__init__(batch_shape, torch.Size([self.duration, *event_shape]), validate_args=False)

    def rows(self, batch: torch.Size) -> Tensor:
        """The lengths of a batch of values, flat."""
        if self.lengths is None:
            return torch.full((batch.numel(),), self.duration)
        return self.lengths.expand(batch).reshape(-1)

    def check_value(self, value: Tensor) -> None:
        """Raise a ValueError unless the value ends in the event shape."""
        if tuple(value.shape[value.dim() - len(self.event_shape) :]) != tuple(self.event_shape):
            raise ValueError(
                f"expected a value whose shape ends in {tuple(self.event_shape)}, got {tuple(value.shape)}"
            )


def check_initial_step(initial_step: int) -> None:
    """Raise a ValueError unless it is 0 or 1."""
    if initial_step not in (0, 1):
        raise ValueError(
            f"expected initial_step 1, the initial law is that of the first observation's state, or 0, the state "
            f"before it as in Pyro, got {initial_step!r}"
        )


def support_of(law: TorchDistribution) -> Any:
    """The support of observations under `law`, for a whole sequence."""
    return constraints.independent(law.support, 1)
