"""State of a run: its identity, and all that it needs to continue to the same bits (parameters, optimiser, RNGs)."""

import copy
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pgm_rnn.inference.svi.checkpoints import CheckpointError, State
from pgm_rnn.inference.svi.goals import Goal
from pgm_rnn.inference.svi.metrics import Metrics
from pgm_rnn.inference.svi.plan import Epoch, Plan, Position
from pgm_rnn.inference.svi.processes import Processes
from pgm_rnn.kernels.compilation import working_seconds
from pgm_rnn.version import __version__


class Progress:
    """Progress of a fit: all the state that a checkpoint holds.

    Attributes:
        best_state: the best parameters so far.
        best_epoch: the epoch after which they were reached, 0 for the initial parameters.
        best_loss: their loss, nats per step or label.
        history: one entry per epoch.
        num_steps: gradient steps so far.
        position: position in the current epoch.
        start: starting time by `working_seconds`, moved back by the time that was spent before a checkpoint.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, metrics: Metrics, processes: Processes
    ) -> None:
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.metrics, self.processes = metrics, processes
        self.best_loss, self.best_epoch, self.best_state = math.inf, 0, copy.deepcopy(model.state_dict())
        self.history: list[Epoch] = []
        self.num_steps = 0
        self.position = Position()
        self.start = working_seconds()


GOES_ON_FROM = ("0.1.0",)
"""Earlier versions whose checkpoints this version continues: it takes the same steps, up to rounding."""


def identity(goal: Goal, plan: Plan, num_processes: int) -> dict[str, Any]:
    """Everything that determines a run's result, by the names that errors use; data stand as their SHA-256."""
    options = dataclasses.asdict(plan)
    del options["progress"]
    train, valid = goal.tensors()
    return {
        "model": goal.described(),
        "shape": {name: [*value.shape, str(value.dtype)] for name, value in goal.model.state_dict().items()},
        "training data": _digest(train),
        "validation data": None if valid is None else _digest(valid),
        **options,
        "number of processes": num_processes,
        "kind of device": next(goal.model.parameters()).device.type,
        "version of pgm_rnn": __version__,
        "version of torch": str(torch.__version__),
    }


def as_described_now(run: dict[str, Any]) -> dict[str, Any]:
    """The identity in a checkpoint as this version would have written it.

    The version is this one where it was one of `GOES_ON_FROM`; options that the writer did not have are at their
    defaults, which is how it ran.
    """
    defaults = {option.name: option.default for option in dataclasses.fields(Plan)}
    version = run.get("version of pgm_rnn")
    return {**defaults, **run, "version of pgm_rnn": __version__ if version in GOES_ON_FROM else version}


def check_alike(me: dict[str, Any], processes: Processes) -> None:
    """Check that all processes have the same model, data and options.

    Raises:
        ValueError: they differ.
    """
    digest = hashlib.sha256(json.dumps(me, sort_keys=True, default=str).encode()).digest()
    found = processes.gathered(torch.tensor(list(digest), dtype=torch.uint8))
    if any(not torch.equal(each, found[0]) for each in found):
        raise ValueError(
            "expected the same model, data and options in every process, got different ones; pass the same to all"
        )


def captured(run: Progress, me: dict[str, Any]) -> State:
    """The state between two steps. All processes must call it, because each has its own random states."""
    device = next(run.model.parameters()).device
    states = {f"random.{i}": state for i, state in enumerate(run.processes.gathered(torch.get_rng_state()))}
    if device.type == "cuda":
        on_device = run.processes.gathered(torch.cuda.get_rng_state(device))
        states |= {f"random.cuda.{i}": state for i, state in enumerate(on_device)}
    optimizer = run.optimizer.state_dict()
    tensors = {
        **{f"model.{name}": value for name, value in run.model.state_dict().items()},
        **{f"best.{name}": value for name, value in run.best_state.items()},
        **{f"adam.{i}.{key}": value for i, kept in optimizer["state"].items() for key, value in kept.items()},
        **states,
    }
    scheduler = {key: value for key, value in run.scheduler.state_dict().items() if key != "lr_lambdas"}
    content = {
        "run": me,
        "position": dataclasses.asdict(run.position),
        "num_steps": run.num_steps,
        "best_epoch": run.best_epoch,
        "best_loss": run.best_loss,
        "history": [list(entry) for entry in run.history],
        "rates": [group["lr"] for group in optimizer["param_groups"]],
        "scheduler": scheduler,
        "metrics_bytes": run.metrics.num_bytes(),
        "seconds": working_seconds() - run.start,
    }
    packed = torch.contiguous_format
    return State({name: value.detach().cpu().clone(memory_format=packed) for name, value in tensors.items()}, content)


def restore(run: Progress, state: State) -> None:
    """Restore a run to the state that `captured` returned."""
    tensors, content = state
    if run.processes.rank == 0:
        run.metrics.go_back(content["metrics_bytes"], content["position"]["epoch"])
    run.model.load_state_dict(_below("model.", tensors))
    device = next(run.model.parameters()).device
    run.best_state = type(run.best_state)((k, v.to(device)) for k, v in _below("best.", tensors).items())
    _restore_optimizer(run, _below("adam.", tensors), content)
    run.scheduler.load_state_dict({**content["scheduler"], "lr_lambdas": [None]})
    run.position = Position(**content["position"])
    run.history = [Epoch(*entry) for entry in content["history"]]
    run.num_steps, run.best_epoch = content["num_steps"], content["best_epoch"]
    run.best_loss, run.start = content["best_loss"], working_seconds() - content["seconds"]
    torch.set_rng_state(tensors[f"random.{run.processes.rank}"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors[f"random.cuda.{run.processes.rank}"], device)


def _restore_optimizer(run: Progress, tensors: dict[str, Tensor], content: dict[str, Any]) -> None:
    """Adam's moments and step counts, by parameter, and the learning rates."""
    kept: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        kept.setdefault(int(index), {})[key] = value
    groups = run.optimizer.state_dict()["param_groups"]
    for group, rate in zip(groups, content["rates"], strict=True):
        group["lr"] = rate
    run.optimizer.load_state_dict({"state": kept, "param_groups": groups})


@contextmanager
def blamed_on(where: object) -> Iterator[None]:
    """Turn errors from inconsistent parts of a checkpoint into errors about the checkpoint.

    Raises:
        CheckpointError: the block failed because the parts of the checkpoint do not fit this run.
    """
    try:
        yield
    except (KeyError, TypeError, IndexError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"expected a complete checkpoint of this run in {where}, got parts that do not fit together: {error}"
        ) from error


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _digest(data: tuple[Tensor, ...]) -> str:
    digest = hashlib.sha256()
    for tensor in data:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
