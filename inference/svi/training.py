"""The training loop: epochs of minibatches, the best parameters so far, and checkpoints to continue from."""

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from pgm_rnn.inference.diagnosis import cause
from pgm_rnn.inference.svi import run_state
from pgm_rnn.inference.svi.checkpoints import CheckpointError, Checkpoints, check_run, parsed
from pgm_rnn.inference.svi.goals import Goal
from pgm_rnn.inference.svi.metrics import Metrics
from pgm_rnn.inference.svi.plan import Epoch, Plan, Position, minibatches
from pgm_rnn.inference.svi.processes import Processes
from pgm_rnn.kernels.compilation import working_seconds
from pgm_rnn.results import shown
from pgm_rnn.sequence_model import SequenceModel

Reason = Literal["num_epochs", "patience", "interrupt"]


@dataclass(frozen=True)
class Fit:
    """Result of `fit`.

    Attributes:
        model: the model that was given, with the best parameters found.
        history: one entry per epoch.
        best_epoch: the epoch after which the parameters were taken, counted from 1; 0 if nothing improved on the start.
        stopped_by: "num_epochs", "patience" or "interrupt".
        seconds: wall-clock time without the compilation of kernels, including the time before a checkpoint that the
            run was resumed from.
        objective: "mle", "elbo", "iwae" or "fivo".
        num_particles: number of particles of the objective.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "model", "objective", "num_epochs", "best_epoch", "nats_per_step", "stopped_by", "seconds")

    model: SequenceModel
    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_by: Reason
    seconds: float
    objective: str = "mle"
    num_particles: int = 1

    @property
    def num_epochs(self) -> int:
        """Epochs that were done."""
        return len(self.history)

    @property
    def nats_per_step(self) -> float:
        """Loss of the parameters that were kept, by the validation data if any; NaN for those at the start."""
        if self.best_epoch == 0:
            return math.nan
        best = self.history[self.best_epoch - 1]
        return best.train_nats_per_step if best.valid_nats_per_step is None else best.valid_nats_per_step


class Ended(NamedTuple):
    """End of a run, whose model has the best parameters found. The attributes are those of `Fit`."""

    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_by: Reason
    seconds: float


def _fuses(parameter: Tensor) -> bool:
    """Whether torch's AdamW may take it with others in one operation, which reads memory as if it had no gaps."""
    return parameter.is_floating_point() and parameter.is_contiguous() and parameter.device.type in ("cpu", "cuda")


class Run(run_state.Progress):
    """A run of a fit: the model, its optimiser, and the best parameters so far."""

    def __init__(
        self, goal: Goal, plan: Plan, metrics: Metrics, processes: Processes, checkpoints: Checkpoints
    ) -> None:
        self.goal, self.plan, self.checkpoints = goal, plan, checkpoints
        self.num_train = len(goal.train.lengths)
        self.epochs_a_step = 1 / -(-self.num_train // plan.batch_size)
        self.loss = processes.parallel(Loss(goal))
        model = goal.model
        fused = True if all(map(_fuses, model.parameters())) else None
        rate, decay = plan.learning_rate, plan.weight_decay
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay, fused=fused)
        scheduler = LambdaLR(optimizer, lambda step: plan.rate_factor(self.epochs_at(step)))
        self.me: dict[str, Any] | None = None
        super().__init__(model, optimizer, scheduler, metrics, processes)

    def epochs_at(self, step: int) -> float:
        """Fractional number of epochs done in the middle of a step (counted from 0): above 0, below the total."""
        return (step + 0.5) * self.epochs_a_step

    @property
    def kl_weight(self) -> float:
        """The current weight of log p(z) - log q(z)."""
        return self.plan.kl_weight(self.epochs_at(self.num_steps))

    def begin(self, checkpointed: bool, resume: bool) -> None:
        """Continue from the checkpoint if there is one; otherwise write a first checkpoint before the first step.

        Raises:
            CheckpointError: the checkpoint belongs to another run, is damaged, or exists and `resume` is not given.
            ValueError: processes with different models, data or options.
        """
        if checkpointed or self.processes.size > 1:
            me = run_state.identity(self.goal, self.plan, self.processes.size)
            run_state.check_alike(me, self.processes)
            self.me = me if checkpointed else None
        files = None if self.me is None else self._files()
        if files is None:
            self.best_loss = self.valid_loss() if self.judged else math.inf
            self.save()
        else:
            folder = self.checkpoints.folder or "the first process's folder"
            if not resume:
                raise CheckpointError(
                    f"expected a new folder for a new run, got a checkpoint in {folder}; continue from it with "
                    "resume=True, or choose another folder"
                )
            state = parsed(*files, folder)
            check_run(run_state.as_described_now(state.content["run"]), self.me or {}, folder)
            with run_state.blamed_on(folder):
                run_state.restore(self, state)

    def _files(self) -> tuple[bytes, bytes] | None:
        """The checkpoint's two files, as the first process finds them."""
        described, packed = self.checkpoints.load() or (b"", b"")
        described, packed = (self.processes.from_first(content) for content in (described, packed))
        return (described, packed) if described else None

    def save(self) -> None:
        """Write a checkpoint if the run has a folder for it. All processes must call it."""
        if self.me is not None:
            self.checkpoints.save(run_state.captured(self, self.me))

    def until_done(self) -> Ended:
        """Run epochs until their limit, an interrupt, or `patience` epochs without a better validation loss."""
        plan, shown = self.plan, self.plan.progress and self.processes.rank == 0
        stopped_by: Reason | None = None
        done = self.position.epoch - 1
        bar = tqdm(total=plan.num_epochs, initial=done, unit="epoch", disable=None if shown else True, leave=False)
        try:
            while (stopped_by := self.stopped()) is None:
                bar.set_postfix(self.epoch(self.position.epoch))
                bar.update()
            self.save()
        except KeyboardInterrupt:
            stopped_by = "interrupt"
        finally:
            bar.close()
            self.model.load_state_dict(self.best_state)
        return Ended(tuple(self.history), self.best_epoch, stopped_by, working_seconds() - self.start)

    @property
    def judged(self) -> bool:
        """Whether there are validation data."""
        return self.goal.num_valid is not None

    def stopped(self) -> Literal["num_epochs", "patience"] | None:
        """The reason to stop after the epochs so far, or None to go on."""
        done, plan = self.position.epoch - 1, self.plan
        if self.judged and done - max(self.best_epoch, plan.kl_warmup) >= plan.patience:
            return "patience"
        return "num_epochs" if done >= plan.num_epochs else None

    def epoch(self, epoch: int) -> dict[str, str]:
        """Make one pass over the data, or finish one; returns the values that the progress bar shows.

        Raises:
            FloatingPointError: the loss, a gradient or a parameter became NaN or infinite.
        """
        at, began = self.position, working_seconds() - self.position.seconds
        if at.batch == 0:
            at.rate, at.weight = float(self.scheduler.get_last_lr()[0]), self.kl_weight
        self.model.train()
        for index in minibatches(self.num_train, self.plan.batch_size, self.plan.seed, epoch)[at.batch :]:
            nats, due = self.step(index, epoch, self.checkpoints.is_due())
            at.batch, at.total, at.seconds = at.batch + 1, at.total + nats, working_seconds() - began
            if due:
                self.save()
        self.check_finite("sum of a parameter's changes", self.change(), epoch)
        self.model.eval()
        train_loss = at.total / self.goal.num_units(torch.arange(self.num_train))
        valid_loss = self.valid_loss() if self.judged else None
        entry = Epoch(epoch, train_loss, valid_loss, working_seconds() - began)
        self.history.append(entry)
        self.keep_best(epoch, train_loss if valid_loss is None else valid_loss)
        self.metrics.add(epoch, self.goal.measured(entry, at.rate, at.weight))
        self.position = Position(epoch + 1)
        shown = {"train": f"{train_loss:.3f}"} | ({} if valid_loss is None else {"valid": f"{valid_loss:.3f}"})
        return shown | {"best": str(self.best_epoch)}

    def step(self, index: Tensor, epoch: int, due: bool) -> tuple[float, bool]:
        """Take a gradient step on the sequences at `index`.

        Each process takes its share. A process whose share is empty takes the first sequence with weight zero, because
        the collective operations need every process.

        Returns:
            The loss of these sequences before the step, in nats, and whether a checkpoint is due.

        Raises:
            FloatingPointError: the loss or the gradient became NaN or infinite.
        """
        num_units = max(1, self.goal.num_units(index))
        mine = self.processes.part(index)
        batch = self.goal.batch(mine if len(mine) else index[:1])
        self.optimizer.zero_grad(set_to_none=True)
        with self.processes.speaking():
            loss: Tensor = self.loss(batch, self.kl_weight)
            loss = loss * float(len(mine) > 0)
            if self.processes.size == 1:
                self.check_finite("loss", loss, epoch)
            (loss * (self.processes.size / num_units)).backward()
            total, someone = self.processes.totals(float(loss.detach()), float(due and self.processes.rank == 0))
        self.check_finite("loss", torch.tensor(total), epoch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip_norm)
        self.check_finite("gradient's norm", norm, epoch)
        self.optimizer.step()
        self.scheduler.step()
        self.num_steps += 1
        return total, someone > 0

    def valid_loss(self) -> float:
        """Validation loss in nats per unit, with the same random numbers each time, so that epochs are comparable."""
        assert self.goal.num_valid is not None
        mine = self.processes.part(torch.arange(self.goal.num_valid, device=self.goal.train.lengths.device))
        return self.processes.totals(self.goal.valid_nats(mine))[0] / self.goal.num_valid_units()

    @torch.no_grad()
    def change(self) -> Tensor:
        """Largest sum, over the parameters, of absolute changes from the best state. It is finite if all of them are.

        Entries that are infinite in the best state are left out: an HMM's logits may stay at minus infinity.
        """
        changes = [
            (parameter - self.best_state[name])[self.best_state[name].isfinite()].abs().sum()
            for name, parameter in self.model.named_parameters()
        ]
        return torch.stack(changes).amax()

    def check_finite(self, what: str, value: Tensor, epoch: int) -> None:
        """Check that a number of the run is finite.

        Raises:
            FloatingPointError: it is NaN or infinite; the message names the likely cause.
        """
        if not torch.isfinite(value):
            rate = self.optimizer.param_groups[0]["lr"]
            why = cause(self.model, self.goal.family, self.goal.train, self.num_steps)
            raise FloatingPointError(
                f"the {what} became {float(value.detach())} in epoch {epoch} at learning rate {rate:g}; the parameters "
                f"are those of epoch {self.best_epoch}; {why}"
            )

    def keep_best(self, epoch: int, loss: float) -> None:
        """Remember the parameters if they are the best so far."""
        if not self.judged or loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best_state = copy.deepcopy(self.model.state_dict())


class Loss(nn.Module):
    """The loss of a batch as a module that contains the model, as DistributedDataParallel needs."""

    def __init__(self, goal: Goal) -> None:
        super().__init__()
        self.model, self.goal = goal.model, goal

    def forward(self, batch: Any, weight: float) -> Tensor:
        """Loss summed over the sequences, in nats, with log p(z) - log q(z) multiplied by `weight`."""
        return self.goal.loss(batch, weight)
