"""A fit under way: epochs of minibatches, the step size over them, and which parameters are kept."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.inference.evaluation import evaluate, modelled_steps, num_modelled
from pgm_rnn.inference.metrics import Metrics
from pgm_rnn.inference.objectives import make_objective
from pgm_rnn.particles import DegenerateWeightsError
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences

SCHEDULES = ("constant", "cosine")


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


@dataclass(frozen=True)
class Fit:
    """Result of `fit`.

    Attributes:
        model: the model that was given, with the best parameters found.
        history: one entry an epoch.
        best_epoch: the epoch after which the parameters were taken, counted from 1; 0 if nothing improved on the start.
        stopped_by: "num_epochs", "patience" or "interrupt".
        seconds: wall-clock time.
        objective: "mle", "elbo", "iwae" or "fivo".
        num_particles: of the objective.
    """

    model: SequenceModel
    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_by: Literal["num_epochs", "patience", "interrupt"]
    seconds: float
    objective: str = "mle"
    num_particles: int = 1


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


class Run:
    """A fit under way: the model, its optimiser, and the best parameters so far."""

    def __init__(
        self, model: SequenceModel, train: Sequences, valid: Sequences | None, plan: Plan, metrics: Metrics
    ) -> None:
        self.model, self.train, self.valid, self.plan, self.metrics = model, train, valid, plan, metrics
        self.loss = make_objective(model, plan.objective, plan.num_particles)
        rate, decay = plan.learning_rate, plan.weight_decay
        self.optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)
        per_epoch = -(-len(train.lengths) // plan.batch_size)
        self.epochs_a_step = 1 / per_epoch
        self.scheduler = LambdaLR(self.optimizer, lambda step: self.plan.rate_factor(self.epochs_at(step)))
        self.best_loss = math.inf if valid is None else self.valid_loss(valid)
        self.best_epoch, self.best_state = 0, copy.deepcopy(model.state_dict())
        self.history: list[Epoch] = []
        self.num_steps = 0
        self.start = time.perf_counter()

    def epochs_at(self, step: int) -> float:
        """How many epochs, in parts, are done when a step counted from 0 is half done: never 0, never all of them."""
        return (step + 0.5) * self.epochs_a_step

    def until_done(self) -> Fit:
        """Epochs until a limit, an interrupt, or `patience` of them without a better validation loss."""
        stopped_by: Literal["num_epochs", "patience", "interrupt"] = "num_epochs"
        plan, disabled = self.plan, None if self.plan.progress else True
        bar = tqdm(range(1, plan.num_epochs + 1), unit="epoch", disable=disabled, leave=False)
        try:
            for epoch in bar:
                bar.set_postfix(self.epoch(epoch))
                if self.valid is not None and epoch - max(self.best_epoch, plan.kl_warmup) >= plan.patience:
                    stopped_by = "patience"
                    break
        except KeyboardInterrupt:
            stopped_by = "interrupt"
        finally:
            bar.close()
            self.model.load_state_dict(self.best_state)
        seconds = time.perf_counter() - self.start
        history = tuple(self.history)
        return Fit(self.model, history, self.best_epoch, stopped_by, seconds, plan.objective, plan.num_particles)

    def epoch(self, epoch: int) -> dict[str, str]:
        """One pass over the data; what a progress bar shows of it."""
        began = time.perf_counter()
        rate, weight = self.scheduler.get_last_lr()[0], self.plan.kl_weight(self.epochs_at(self.num_steps))
        self.model.train()
        total = 0.0
        for batch in minibatches(self.train, self.plan.batch_size):
            total += self.step(batch, epoch)
        self.check_finite("sum of a parameter's changes", self.change(), epoch)
        self.model.eval()
        train_loss = total / num_modelled(self.model, self.train.lengths)
        valid_loss = None if self.valid is None else self.valid_loss(self.valid)
        entry = Epoch(epoch, train_loss, valid_loss, time.perf_counter() - began)
        self.history.append(entry)
        self.keep_best(epoch, train_loss if valid_loss is None else valid_loss)
        self.metrics.add(epoch, entry._asdict() | {"learning_rate": rate, "kl_weight": weight})
        shown = {"train": f"{train_loss:.3f}"} | ({} if valid_loss is None else {"valid": f"{valid_loss:.3f}"})
        return shown | {"best": str(self.best_epoch)}

    def step(self, batch: Sequences, epoch: int) -> float:
        """One gradient step; the batch's loss before it, nats."""
        num_steps = max(1, int(modelled_steps(self.model, batch.lengths).sum()))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.batch_loss(batch)
        self.check_finite("loss", loss, epoch)
        (loss / num_steps).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip_norm)
        self.check_finite("gradient's norm", norm, epoch)
        self.optimizer.step()
        self.scheduler.step()
        self.num_steps += 1
        return float(loss.detach())

    def batch_loss(self, batch: Sequences) -> Tensor:
        """The objective's loss; NaN where a particle filter is left without a finite weight."""
        try:
            return self.loss(self.plan.kl_weight(self.epochs_at(self.num_steps)))(batch.x, batch.lengths)
        except DegenerateWeightsError:
            return next(self.model.parameters()).new_tensor(math.nan)

    def valid_loss(self, valid: Sequences) -> float:
        """Nats per step by the objective's bound; the same random numbers each time, so that epochs compare."""
        bound = "exact" if self.plan.objective == "mle" else self.plan.objective
        options: dict[str, Any] = {"num_particles": self.plan.judges, "seed": self.plan.seed}
        try:
            return evaluate(self.model, valid, bound=bound, **options).nats_per_step
        except DegenerateWeightsError:
            return math.inf

    @torch.no_grad()
    def change(self) -> Tensor:
        """Of a parameter that began finite; an HMM's logits may begin at minus infinity and stay there."""
        changes = [
            (parameter - self.best_state[name])[self.best_state[name].isfinite()].abs().sum()
            for name, parameter in self.model.named_parameters()
        ]
        return torch.stack(changes).amax()

    def check_finite(self, what: str, value: Tensor, epoch: int) -> None:
        """Raise a FloatingPointError unless the number is finite."""
        if not torch.isfinite(value):
            rate = self.optimizer.param_groups[0]["lr"]
            raise FloatingPointError(
                f"the {what} became {float(value.detach())} in epoch {epoch} at learning rate {rate:g}; the parameters "
                f"are those of epoch {self.best_epoch}; try a smaller "
                "learning rate, or look for observations of probability zero"
            )

    def keep_best(self, epoch: int, loss: float) -> None:
        """Remember the parameters if they are the best so far."""
        if self.valid is None or loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best_state = copy.deepcopy(self.model.state_dict())


def minibatches(data: Sequences, batch_size: int) -> Iterator[Sequences]:
    """The sequences in random order (torch's global generator), `batch_size` at a time, each cut to its longest."""
    for index in torch.randperm(len(data.lengths)).split(batch_size):
        yield data.select(index.to(data.x.device))


def _check_positive(**values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"expected {name} to be a positive number, got {value!r}")
