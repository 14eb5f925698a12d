"""Supervised fits: a law of labels given whole sequences learns by gradient steps.

    loss = - sum_i log p(y^{(i)} | x^{(i)})

A label is one of a sequence (classification) or of a step (tagging). What the law is worth is in `label_scores`.
"""

import copy
import math
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from pgm_rnn.inference.diagnosis import cause
from pgm_rnn.inference.svi.label_scores import (
    Confusion,
    Labelled,
    LabelScore,
    check_labelled,
    confusions,
    evaluate,
    label_counts,
    predicted,
)
from pgm_rnn.inference.svi.options import check_options, take_options
from pgm_rnn.inference.svi.plan import Plan, minibatches

if TYPE_CHECKING:
    from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN

__all__ = [
    "Confusion",
    "LabelEpoch",
    "LabelFit",
    "LabelScore",
    "Labelled",
    "confusions",
    "evaluate",
    "fit",
    "predicted",
]


class LabelEpoch(NamedTuple):
    """One pass over the training data: losses in nats per label (None without validation data).

    Attributes:
        epoch: counted from 1.
        train_nats_per_label: of the parameters as they were at each step.
        valid_nats_per_label: after the epoch.
    """

    epoch: int
    train_nats_per_label: float
    valid_nats_per_label: float | None


class LabelFit(NamedTuple):
    """Result of `fit`.

    Attributes:
        model: the model that was given, with the best parameters found.
        history: one entry an epoch.
        best_epoch: the epoch after which the parameters were taken, counted from 1; 0 if nothing improved on the start.
        stopped_by: "num_epochs", "patience" or "interrupt".
        seconds: wall-clock time.
    """

    model: "BidirectionalRNN"
    history: tuple[LabelEpoch, ...]
    best_epoch: int
    stopped_by: Literal["num_epochs", "patience", "interrupt"]
    seconds: float


@take_options(Plan, bounds=False)
def fit(
    model: "BidirectionalRNN",
    train: Labelled,
    valid: Labelled | None = None,
    **options: Any,
) -> LabelFit:
    """Maximise sum_i log p(y^{(i)} | x^{(i)}) with AdamW, in place.

    The parameters at the end are those of the epoch with the lowest validation loss, or the last ones without
    validation data. The same model, data and seed give the same parameters bit for bit on one machine's CPU.

    Args:
        model: a law of labels.
        train: sequences with labels as the model's task has them.
        valid: the same, for early stopping.
        options: the fields of `Plan` (`pgm_rnn.inference.svi.plan`) that are not for bounds, by keyword.

    Raises:
        ValueError, TypeError: data or options that do not fit.
        FloatingPointError: the loss became NaN or infinite; the parameters are those of the best epoch so far.

    Example:
        >>> from pgm_rnn import Sequences
        >>> from pgm_rnn.models import BidirectionalRNN
        >>> model = BidirectionalRNN(num_symbols=2, num_labels=2, hidden_dim=4, task="classification")
        >>> x = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> data = Labelled(Sequences(x, torch.full((4,), 2)), x[:, 0])
        >>> found = fit(model, data, num_epochs=60, learning_rate=0.05)
        >>> evaluate(model, data).accuracy
        1.0
    """
    check_options(fit, options)
    plan = Plan(**options)
    for data in (train, valid):
        if data is not None:
            check_labelled(data)
    return _Run(model, train, valid, plan).until_done()


class _Run:
    """A fit under way: the model, its optimiser, and the best parameters so far."""

    def __init__(self, model: "BidirectionalRNN", train: Labelled, valid: Labelled | None, plan: Plan) -> None:
        self.model, self.train, self.valid, self.plan = model, train, valid, plan
        self.optimizer = torch.optim.AdamW(model.parameters(), plan.learning_rate, weight_decay=plan.weight_decay)
        a_step = 1 / -(-len(train.labels) // plan.batch_size)
        self.scheduler = LambdaLR(self.optimizer, lambda step: plan.rate_factor((step + 0.5) * a_step))
        self.best_loss = math.inf if valid is None else evaluate(model, valid).nats_per_label
        self.best_epoch, self.best_state = 0, copy.deepcopy(model.state_dict())
        self.history: list[LabelEpoch] = []

    def until_done(self) -> LabelFit:
        """Epochs until a limit, an interrupt, or `patience` of them without a better validation loss."""
        start, hidden = time.perf_counter(), None if self.plan.progress else True
        stopped_by: Literal["num_epochs", "patience", "interrupt"] = "num_epochs"
        bar = tqdm(range(1, self.plan.num_epochs + 1), unit="epoch", disable=hidden, leave=False)
        try:
            for epoch in bar:
                bar.set_postfix(self.epoch(epoch))
                if self.valid is not None and epoch - self.best_epoch >= self.plan.patience:
                    stopped_by = "patience"
                    break
        except KeyboardInterrupt:
            stopped_by = "interrupt"
        finally:
            bar.close()
            self.model.load_state_dict(self.best_state)
        return LabelFit(self.model, tuple(self.history), self.best_epoch, stopped_by, time.perf_counter() - start)

    def epoch(self, epoch: int) -> dict[str, str]:
        """One pass over the data; what a progress bar shows of it."""
        self.model.train()
        nats = labels = 0.0
        for index in minibatches(len(self.train.labels), self.plan.batch_size, self.plan.seed, epoch):
            batch = self.train.select(index.to(self.train.labels.device))
            number = int(label_counts(self.model, batch).sum())
            nats, labels = nats + self.step(batch, number, epoch), labels + number
        self.model.eval()
        valid = None if self.valid is None else evaluate(self.model, self.valid).nats_per_label
        self.history.append(LabelEpoch(epoch, nats / labels, valid))
        if valid is None or valid < self.best_loss:
            self.best_loss, self.best_epoch = nats / labels if valid is None else valid, epoch
            self.best_state = copy.deepcopy(self.model.state_dict())
        shown = {"train": f"{nats / labels:.3f}"} | ({} if valid is None else {"valid": f"{valid:.3f}"})
        return shown | {"best": str(self.best_epoch)}

    def step(self, batch: Labelled, num_labels: int, epoch: int) -> float:
        """One gradient step: the loss before it, nats."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = -self.model.log_prob(batch.labels, batch.inputs.x, batch.inputs.lengths).sum()
        (loss / num_labels).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip_norm)
        if not bool(loss.isfinite() & norm.isfinite()):
            why = cause(self.model, self.model.inputs, self.train.inputs, self.scheduler.last_epoch)
            raise FloatingPointError(
                f"the loss became {float(loss.detach())} in epoch {epoch}; the parameters are those of epoch "
                f"{self.best_epoch}; {why}"
            )
        self.optimizer.step()
        self.scheduler.step()
        return float(loss.detach())
