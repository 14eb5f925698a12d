"""Around a run: the device that it has for itself, and the files that it writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from pgm_rnn.inference.svi.checkpoints import checkpoints_in
from pgm_rnn.inference.svi.goals import Goal
from pgm_rnn.inference.svi.metrics import Metrics
from pgm_rnn.inference.svi.plan import Plan
from pgm_rnn.inference.svi.processes import Processes
from pgm_rnn.inference.svi.training import Ended, Run

RANK_STREAM = 2**21
"""Apart, in streams of a seed, are the draws of two processes of one fit."""


@dataclass(frozen=True)
class Files:
    """What a run writes; the attributes are described at `svi.fit`.

    Raises:
        ValueError: a run that is to go on from no checkpoint.
    """

    metrics: str | os.PathLike[str] | None = None
    tensorboard: str | None = None
    checkpoint: str | os.PathLike[str] | None = None
    resume: bool = False
    checkpoint_seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.resume and self.checkpoint is None:
            raise ValueError("expected checkpoint=FOLDER with resume=True, got none; it says where to go on from")


def carried_out(goal: Goal, plan: Plan, files: Files, processes: Processes) -> Ended:
    """A whole run, or the rest of it; the first process writes its files.

    Raises:
        CheckpointError: a checkpoint that is damaged, of another run, or there without `resume`.
        OSError: a file that cannot be written.
        FloatingPointError: the loss became NaN or infinite.
    """
    first = processes.rank == 0
    with (
        checkpoints_in(files.checkpoint if first else None, files.checkpoint_seconds) as checkpoints,
        Metrics(files.metrics, files.tensorboard) if first else Metrics() as written,
    ):
        run = Run(goal, plan, written, processes, checkpoints)
        run.begin(files.checkpoint is not None, files.resume)
        return run.until_done()


@contextmanager
def on_device(model: nn.Module, device: str | None) -> Iterator[torch.device]:
    """A block in which the model is on a device, None for the one it is on; afterwards it is back.

    Raises:
        ValueError: another name than cpu and cuda, or no CUDA on this machine.
    """
    home = next(model.parameters()).device
    away = home if device is None else checked_device(device)
    try:
        model.to(away)
        yield away
    finally:
        model.to(home)


def checked_device(device: str) -> torch.device:
    """The device of this name.

    Raises:
        ValueError: another name than cpu and cuda, or no CUDA on this machine.
    """
    kind = str(device).partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"expected device to be cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"expected a CUDA device for device={device!r}, this machine has none; use device='cpu'")
    return torch.device(device)
