"""The frame of a run: its device, its checkpoint folder and its metrics file."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pgm_rnn.inference.svi.checkpoints import checkpoints_in
from pgm_rnn.inference.svi.goals import Goal
from pgm_rnn.inference.svi.metrics import Metrics
from pgm_rnn.inference.svi.plan import Plan, Surroundings
from pgm_rnn.inference.svi.processes import Processes
from pgm_rnn.inference.svi.training import Ended, Run

RANK_STREAM = 2**21
"""Apart, in streams of a seed, are the draws of two processes of one fit."""


def carried_out(goal: Goal, plan: Plan, where: Surroundings, processes: Processes) -> Ended:
    """Carry out a run from its beginning or from its checkpoint. Only the first process writes files.

    Raises:
        CheckpointError: the checkpoint is damaged, belongs to another run, or exists although `resume` is not given.
        OSError: a file that cannot be written.
        FloatingPointError: the loss became NaN or infinite.
    """
    first = processes.rank == 0
    with (
        checkpoints_in(where.checkpoint if first else None, where.checkpoint_seconds) as checkpoints,
        Metrics(where.metrics, where.tensorboard) if first else Metrics() as written,
    ):
        run = Run(goal, plan, written, processes, checkpoints)
        run.begin(where.checkpoint is not None, where.resume)
        return run.until_done()


@contextmanager
def on_device(model: nn.Module, device: str | None) -> Iterator[torch.device]:
    """Move the model to a device for the duration of a block; None leaves it in place.

    Raises:
        ValueError: a name other than cpu and cuda, or no CUDA on this machine.
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
        ValueError: a name other than cpu and cuda, or no CUDA on this machine.
    """
    kind = str(device).partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"expected device to be cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"expected a CUDA device for device={device!r}, got a machine without one; use device='cpu'")
    return torch.device(device)
