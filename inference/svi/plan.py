"""How a fit runs: its options, step size and weights over the epochs, the data's order, and where it is in them."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.randomness import derived_seed

SCHEDULES = ("constant", "cosine")
_ORDER_STREAM = 2**20  # of epoch 0; draws use small numbers


@dataclass(frozen=True)
class Plan:
    """How a fit runs; the attributes are described at `svi.fit`."""

    objective: str = "mle"
    num_particles: int = 1
    num_epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float = 5.0
    schedule: str = "constant"
    lr_warmup: float = 0
    kl_warmup: float = 0
    patience: int = 10
    valid_particles: int | None = None
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        check_counts(num_epochs=self.num_epochs, batch_size=self.batch_size, patience=self.patience)
        check_counts(num_particles=self.num_particles, valid_particles=self.judges)
        check_choice("schedule", self.schedule, SCHEDULES)
        _check_positive(learning_rate=self.learning_rate, clip_norm=self.clip_norm)
        if not (isinstance(self.lr_warmup, int | float) and 0 <= self.lr_warmup <= self.num_epochs):
            raise ValueError(f"expected lr_warmup in 0..{self.num_epochs} epochs, got {self.lr_warmup!r}")

    @property
    def judges(self) -> int:
        """How many particles make the validation bound."""
        return self.num_particles if self.valid_particles is None else self.valid_particles

    def rate_factor(self, epochs: float) -> float:
        """What multiplies the learning rate after so many epochs: linear warm-up, then constant or half a cosine."""
        rising = 1.0 if epochs >= self.lr_warmup else epochs / self.lr_warmup
        if self.schedule == "constant":
            return rising
        return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, epochs / self.num_epochs)))

    def kl_weight(self, epochs: float) -> float:
        """The weight of log p(z) - log q(z) after so many epochs."""
        return 1.0 if epochs >= self.kl_warmup else epochs / self.kl_warmup


class Epoch(NamedTuple):
    """One pass over the training data: losses in nats per step (None without validation data).

    Attributes:
        epoch: counted from 1.
        train_nats_per_step: the objective's, of the parameters as they were at each step, annealed where it is.
        valid_nats_per_step: the bound on the validation data after the epoch.
        seconds: wall-clock time.
    """

    epoch: int
    train_nats_per_step: float
    valid_nats_per_step: float | None
    seconds: float


@dataclass
class Position:
    """Where a run is: in which epoch, counted from 1, after how many of its minibatches, with what in its entry.

    Attributes:
        epoch: the present one.
        batch: minibatches done.
        total: their losses, nats.
        seconds: they took.
        rate: the learning rate of the first.
        weight: its weight of log p(z) - log q(z).
    """

    epoch: int = 1
    batch: int = 0
    total: float = 0.0
    seconds: float = 0.0
    rate: float = 0.0
    weight: float = 0.0


def minibatches(num_sequences: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Which sequences the steps of an epoch take, (batch_size,) each and the last one the rest, in random order.

    A function of its arguments alone, so that a run that goes on in the middle of an epoch, and each of several
    processes, knows what there is to take.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, _ORDER_STREAM + epoch))
    return torch.randperm(num_sequences, generator=generator).split(batch_size)


def _check_positive(**values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"expected {name} to be a positive number, got {value!r}")
