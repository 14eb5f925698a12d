"""How a fit runs: its options, the learning rate and KL weight over the epochs, the order of the data, its position."""

import math
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.inference.svi.options import option
from pgm_rnn.randomness import derived_seed

SCHEDULES = ("constant", "cosine")
_ORDER_STREAM = 2**20  # of epoch 0; draws use small numbers


@dataclass(frozen=True)
class Plan:
    """How a fit runs: every option that influences its result, and a progress bar.

    A new option is one more field: `svi.fit`, `supervised.fit` and the command line take it from here.

    Raises:
        ValueError: an option out of range.
    """

    objective: str = option(
        "mle",
        "Objective: mle (the log likelihood), or a lower bound on it: elbo, iwae or fivo.",
        bounds=True,
        choices=("elbo", "iwae", "fivo"),
    )
    num_particles: int = option(1, "Draws of the guide per sequence, or particles of the filter.", bounds=True)
    num_epochs: int = option(100, "Largest number of passes over the training data.", command="epochs")
    batch_size: int = option(32, "Sequences per gradient step.")
    learning_rate: float = option(1e-3, "Largest learning rate of AdamW.")
    weight_decay: float = option(0.0, "Weight decay of AdamW, decoupled from the gradient.")
    clip_norm: float = option(5.0, "Largest norm of a gradient, in nats per step.")
    schedule: str = option(
        "constant", "Schedule of the learning rate: constant, or cosine down to 0.", choices=SCHEDULES
    )
    lr_warmup: float = option(0.0, "Epochs over which the learning rate rises linearly; may be a fraction.")
    kl_warmup: float = option(
        0.0, "With elbo: epochs over which the weight of log p(z) - log q(z) rises linearly to 1.", bounds=True
    )
    patience: int = option(
        10, "Epochs without a better validation loss after which the fit stops; epochs of the KL warm-up do not count."
    )
    valid_particles: int | None = option(
        None,
        "Particles of the validation bound; `num_particles` if None.",
        bounds=True,
        command_help="Particles of the validation bound.",
    )
    seed: int = option(0, "Random seed for the order of the data and for everything that is drawn.", command="")
    progress: bool = option(True, "Whether a terminal shows a progress bar.", command="")

    def __post_init__(self) -> None:
        check_counts(num_epochs=self.num_epochs, batch_size=self.batch_size, patience=self.patience)
        check_counts(num_particles=self.num_particles, valid_particles=self.judges)
        check_choice("schedule", self.schedule, SCHEDULES)
        _check_positive(learning_rate=self.learning_rate, clip_norm=self.clip_norm)
        if not (isinstance(self.lr_warmup, int | float) and 0 <= self.lr_warmup <= self.num_epochs):
            raise ValueError(f"expected lr_warmup in 0..{self.num_epochs} epochs, got {self.lr_warmup!r}")

    @property
    def judges(self) -> int:
        """Number of particles of the validation bound."""
        return self.num_particles if self.valid_particles is None else self.valid_particles

    def rate_factor(self, epochs: float) -> float:
        """Factor of the learning rate after `epochs` epochs: linear warm-up, times a constant or half a cosine."""
        rising = 1.0 if epochs >= self.lr_warmup else epochs / self.lr_warmup
        if self.schedule == "constant":
            return rising
        return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, epochs / self.num_epochs)))

    def kl_weight(self, epochs: float) -> float:
        """Weight of log p(z) - log q(z) after `epochs` epochs: linear from 0 to 1 over `kl_warmup`."""
        return 1.0 if epochs >= self.kl_warmup else epochs / self.kl_warmup


@dataclass(frozen=True)
class Surroundings:
    """Where a fit runs and what it writes on the way. None of these options changes the result.

    Raises:
        ValueError: `resume` without `checkpoint`.
    """

    metrics: str | os.PathLike[str] | None = option(
        None,
        "File to which each epoch appends a line of JSON: losses, learning rate, KL weight, seconds.",
        metavar="FILE",
    )
    tensorboard: str | os.PathLike[str] | None = option(
        None, "Folder for the same numbers as TensorBoard events.", metavar="FOLDER"
    )
    device: str | None = option(
        None,
        'Device of the fit, "cpu" or "cuda"; afterwards the model is moved back. None leaves model and data in place.',
        shown="cpu",
        command_help="Device of the fit: cpu or cuda.",
        choices=("cpu", "cuda"),
    )
    checkpoint: str | os.PathLike[str] | None = option(
        None, "Folder for checkpoints of the run; only one run at a time can use it.", metavar="FOLDER"
    )
    resume: bool = option(
        False,
        "Whether to continue from the checkpoint in that folder, if there is one; an error is raised otherwise.",
        command_help="With --checkpoint: continue from the checkpoint in that folder, if there is one.",
    )
    checkpoint_seconds: float = option(
        120.0,
        "Seconds between checkpoints, or more if writing one would take over 1 % of that time; 0 for a checkpoint "
        "after every step.",
        command="checkpoint_minutes",
        unit=60,
        command_help="With --checkpoint: minutes between checkpoints.",
    )

    def __post_init__(self) -> None:
        if self.resume and self.checkpoint is None:
            raise ValueError("expected checkpoint=FOLDER with resume=True, got none; name the folder to continue from")


class Epoch(NamedTuple):
    """One pass over the training data: losses in nats per step (None without validation data).

    Attributes:
        epoch: counted from 1.
        train_nats_per_step: training loss, each minibatch's taken before its gradient step, with KL annealing if any.
        valid_nats_per_step: loss on the validation data after the epoch, without annealing.
        seconds: wall-clock time without the compilation of kernels.
    """

    epoch: int
    train_nats_per_step: float
    valid_nats_per_step: float | None
    seconds: float


@dataclass
class Position:
    """Position of a run within an epoch, with what the epoch's metrics need so far.

    Attributes:
        epoch: number of the current epoch, counted from 1.
        batch: number of minibatches done.
        total: sum of their losses, nats.
        seconds: time that they took.
        rate: learning rate at the epoch's first minibatch.
        weight: weight of log p(z) - log q(z) at the epoch's first minibatch.
    """

    epoch: int = 1
    batch: int = 0
    total: float = 0.0
    seconds: float = 0.0
    rate: float = 0.0
    weight: float = 0.0


def minibatches(num_sequences: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Indices of the sequences in each minibatch of an epoch, (batch_size,) each, in random order; the last is shorter.

    The result depends on the arguments alone, so that a run that is resumed in the middle of an epoch, and every
    process of a parallel run, uses the same minibatches.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, _ORDER_STREAM + epoch))
    return torch.randperm(num_sequences, generator=generator).split(batch_size)


def _check_positive(**values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"expected {name} to be a positive number, got {value!r}")
