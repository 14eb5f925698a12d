"""Stochastic variational inference: fit a model by gradient steps on Pyro's ELBO, and evaluate it.

    loss = -ELBO = E_q [log q(h, z | x) - log p(x, h, z)]

For a model whose hidden states are Delta distributed, or whose latent states are summed out exactly, the ELBO is the
log likelihood (Sohl-Dickstein & Kingma, 2015, eq. (9)-(15)), and the same code is maximum likelihood: objective "mle".

Pyro's ELBO runs as a module under torch.optim with parameters local to the model, so that nothing stays behind in
Pyro's global parameter store.
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pyro
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor
from tqdm import tqdm

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences, as_sequences


class Epoch(NamedTuple):
    """One pass over the training data: negative log likelihoods in nats per step (None without validation data)."""

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
    """

    model: SequenceModel
    history: tuple[Epoch, ...]
    best_epoch: int
    stopped_by: Literal["num_epochs", "patience", "interrupt"]
    seconds: float


class Evaluation(NamedTuple):
    """Result of `evaluate`.

    Attributes:
        nats_per_step: sum of negative log likelihoods over the sum of steps.
        standard_error: of nats_per_step over the sequences as a sample, by the delta method for a ratio; NaN for one.
        bound: which quantity stands in for the log likelihood: "exact".
        log_likelihoods: one a sequence, nats, (batch,).
        num_steps: the observations counted, one fewer a sequence if x_1 is conditioned on.
    """

    nats_per_step: float
    standard_error: float
    bound: str
    log_likelihoods: Tensor
    num_steps: int


def fit(
    model: SequenceModel,
    train: Sequences | Tensor,
    valid: Sequences | Tensor | None = None,
    objective: str = "mle",
    *,
    num_epochs: int = 100,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    clip_norm: float = 5.0,
    patience: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Fit:
    """Maximise sum_i log p(x^{(i)}) (Choe et al., 2017, sec. 3.1) with Adam, in place.

    The parameters at the end are those of the epoch with the lowest validation loss, or the last ones without
    validation data. The same model, data and seed give the same parameters bit for bit on one machine.

    Args:
        model: any model whose ELBO is its log likelihood.
        train: a padded batch, or a tensor (batch, T, *event) without padding.
        valid: the same, for early stopping.
        objective: "mle".
        num_epochs: passes over the training data, at most.
        batch_size: sequences a step.
        learning_rate: of Adam.
        weight_decay: of AdamW, decoupled.
        clip_norm: largest norm of a gradient (nats per step).
        patience: epochs without a better validation loss before it stops.
        seed: of the order of the data and of anything drawn.
        progress: a bar on a terminal.

    Raises:
        ValueError, TypeError: data or options that do not fit.
        FloatingPointError: the loss became NaN or infinite; the parameters are those of the best epoch so far.
    """
    if not isinstance(model, SequenceModel):
        raise TypeError(f"expected a SequenceModel, such as RNN or HMM, got {type(model).__name__}")
    check_choice("objective", objective, ("mle",))
    check_counts(num_epochs=num_epochs, batch_size=batch_size, patience=patience)
    _check_positive(learning_rate=learning_rate, clip_norm=clip_norm)
    train, valid = as_sequences(train), None if valid is None else as_sequences(valid)
    for data in (train, valid):
        if data is not None:
            model.check(data.x, data.lengths)
            _num_modelled(model, data.lengths)
    with pyro.settings.context(module_local_params=True), seeded(seed, stream=3):
        run = _Run(model, train, valid, torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay))
        return run.until(num_epochs, batch_size, clip_norm, patience, progress)


class _Run:
    """A fit under way: the model, its optimiser, and the best parameters so far."""

    def __init__(
        self, model: SequenceModel, train: Sequences, valid: Sequences | None, optimizer: torch.optim.Optimizer
    ) -> None:
        self.model, self.train, self.valid, self.optimizer = model, train, valid, optimizer
        self.loss = Trace_ELBO()(model.model, model.guide)  # type: ignore[arg-type]
        self.best_loss = math.inf if valid is None else evaluate(model, valid).nats_per_step
        self.best_epoch, self.best_state = 0, copy.deepcopy(model.state_dict())
        self.history: list[Epoch] = []
        self.start = time.perf_counter()

    def until(self, num_epochs: int, batch_size: int, clip_norm: float, patience: int, progress: bool) -> Fit:
        stopped_by: Literal["num_epochs", "patience", "interrupt"] = "num_epochs"
        bar = tqdm(range(1, num_epochs + 1), unit="epoch", disable=None if progress else True, leave=False)
        try:
            for epoch in bar:
                bar.set_postfix(self.epoch(epoch, batch_size, clip_norm))
                if epoch - self.best_epoch >= patience and self.valid is not None:
                    stopped_by = "patience"
                    break
        except KeyboardInterrupt:
            stopped_by = "interrupt"
        finally:
            bar.close()
            self.model.load_state_dict(self.best_state)
        seconds = time.perf_counter() - self.start
        return Fit(self.model, tuple(self.history), self.best_epoch, stopped_by, seconds)

    def epoch(self, epoch: int, batch_size: int, clip_norm: float) -> dict[str, str]:
        began = time.perf_counter()
        self.model.train()
        total = 0.0
        for batch in minibatches(self.train, batch_size):
            total += self.step(batch, epoch, clip_norm)
        self.check_finite("sum of a parameter's changes", self.change(), epoch)
        self.model.eval()
        train_loss = total / _num_modelled(self.model, self.train.lengths)
        valid_loss = None if self.valid is None else evaluate(self.model, self.valid).nats_per_step
        self.history.append(Epoch(epoch, train_loss, valid_loss, time.perf_counter() - began))
        self.keep_best(epoch, train_loss if valid_loss is None else valid_loss)
        shown = {"train": f"{train_loss:.3f}"} | ({} if valid_loss is None else {"valid": f"{valid_loss:.3f}"})
        return shown | {"best": str(self.best_epoch)}

    def step(self, batch: Sequences, epoch: int, clip_norm: float) -> float:
        num_steps = max(1, int(_modelled_steps(self.model, batch.lengths).sum()))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch.x, batch.lengths)
        self.check_finite("loss", loss, epoch)
        (loss / num_steps).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        self.check_finite("gradient's norm", norm, epoch)
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def change(self) -> Tensor:
        """Of a parameter that began finite; an HMM's logits may begin at minus infinity and stay there."""
        changes = [
            (parameter - self.best_state[name])[self.best_state[name].isfinite()].abs().sum()
            for name, parameter in self.model.named_parameters()
        ]
        return torch.stack(changes).amax()

    def check_finite(self, what: str, value: Tensor, epoch: int) -> None:
        if not torch.isfinite(value):
            rate = self.optimizer.param_groups[0]["lr"]
            raise FloatingPointError(
                f"the {what} became {float(value.detach())} in epoch {epoch} at learning rate {rate:g}; the parameters "
                f"are those of epoch {self.best_epoch}; try a smaller "
                "learning rate, or look for observations of probability zero"
            )

    def keep_best(self, epoch: int, loss: float) -> None:
        if self.valid is None or loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best_state = copy.deepcopy(self.model.state_dict())


def minibatches(data: Sequences, batch_size: int) -> Iterator[Sequences]:
    """The sequences in random order (torch's global generator), `batch_size` at a time, each cut to its longest."""
    for index in torch.randperm(len(data.lengths)).split(batch_size):
        yield data.select(index.to(data.x.device))


@torch.no_grad()
def evaluate(
    model: SequenceModel,
    x: Sequences | Tensor,
    lengths: Tensor | None = None,
    bound: str = "exact",
    *,
    batch_size: int = 256,
) -> Evaluation:
    """Negative log likelihood in nats per step, sum of nats over sum of steps.

    Args:
        model: any model with an exact log likelihood.
        x: a padded batch, or observations (batch, T, *event).
        lengths: (batch,) if x is a tensor with padding.
        bound: "exact".
        batch_size: sequences at a time.

    Raises:
        ValueError, TypeError: data that do not fit, or a model without an exact log likelihood.
    """
    check_choice("bound", bound, ("exact",))
    check_counts(batch_size=batch_size)
    data = as_sequences(x, lengths)
    parts = [
        model.log_marginal_likelihood(*data.select(index)[:2])
        for index in torch.arange(len(data.lengths), device=data.x.device).split(batch_size)
    ]
    log_likelihoods = torch.cat(parts)
    steps = _modelled_steps(model, data.lengths)
    num_steps = _num_modelled(model, data.lengths)
    nats_per_step = -float(log_likelihoods.double().sum()) / num_steps
    return Evaluation(nats_per_step, ratio_error(-log_likelihoods, steps), "exact", log_likelihoods, num_steps)


def ratio_error(nats: Tensor, steps: Tensor) -> float:
    """Standard error of sum(nats) / sum(steps) over independent pairs (n,), by the delta method; NaN for one pair."""
    nats, steps = nats.double(), steps.double()
    num = len(nats)
    if num < 2:
        return math.nan
    residuals = nats - steps * nats.sum() / steps.sum()
    return float((residuals.square().sum() * num / (num - 1)).sqrt() / steps.sum())


def _modelled_steps(model: SequenceModel, lengths: Tensor) -> Tensor:
    """Number of observations with a law in each sequence, (batch,)."""
    return lengths - int(model.first == "condition")


def _num_modelled(model: SequenceModel, lengths: Tensor) -> int:
    """Their sum; a ValueError if there is none."""
    num_steps = int(_modelled_steps(model, lengths).sum())
    if num_steps == 0:
        raise ValueError("expected at least one observation to score, got only first ones, which the model is given")
    return num_steps


def _check_positive(**values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"expected {name} to be a positive number, got {value!r}")
