"""Particles that continue others: which row of a batch each row takes the place of before a step."""

from typing import NamedTuple

import torch
from torch import Tensor


class Lineage(NamedTuple):
    """The ancestors of all particles of a batch, whose rows stand by sequence: n-th particle of sequence b in b N + n.

    Attributes:
        ancestors: the row whose state and memory of step t - 1 a row has before step t, (R, T), int64, within the same
            sequence; of step 1 it is not read.
        kin: N, the number of particles of each sequence.
    """

    ancestors: Tensor
    kin: int

    def taken(self, values: Tensor, t: int) -> Tensor:
        """Values (R, ...) of the ancestors of step t, counted from 0; at t = 0 each row has its own."""
        return values if t == 0 else values[self.ancestors[:, t]]

    def before(self, values: Tensor, start: Tensor) -> Tensor:
        """For each step the values (R, T, ...) of the step before, of each row's ancestor; `start` before step 1."""
        steps = torch.arange(values.shape[1] - 1, device=values.device)
        return torch.cat([start[:, None], values[self.ancestors[:, 1:], steps]], dim=1)


def check(lineage: Lineage, num_rows: int, num_steps: int) -> None:
    """Raise unless a lineage fits R rows of T steps.

    Raises:
        TypeError: ancestors that are no int64 tensor.
        ValueError: another shape, particles that do not divide the rows, or an ancestor in another sequence.
    """
    ancestors, kin = lineage
    if ancestors.dtype != torch.int64:
        raise TypeError(f"expected ancestors of dtype torch.int64, got {ancestors.dtype}")
    if ancestors.shape != (num_rows, num_steps):
        raise ValueError(f"expected ancestors of shape {(num_rows, num_steps)}, got {tuple(ancestors.shape)}")
    if kin < 1 or num_rows % kin:
        raise ValueError(f"expected a number of particles that divides {num_rows} rows, got {kin}")
    own = torch.arange(num_rows, device=ancestors.device)[:, None] // kin
    if bool((ancestors[:, 1:] // kin != own).any()):
        raise ValueError("expected ancestors within the same sequence, got some in another")


def as_arguments(lineage: Lineage | None) -> tuple[Tensor, int]:
    """Ancestors and N for a compiled function, which reads no ancestors where there are none."""
    return (torch.empty(0, dtype=torch.int64), 1) if lineage is None else lineage


def from_arguments(ancestors: Tensor, kin: int) -> Lineage | None:
    """The reverse of `as_arguments`."""
    return Lineage(ancestors, kin) if len(ancestors) else None
