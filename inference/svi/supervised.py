"""Supervised fits: a label model p(y | x) learns by gradient steps.

    loss = - sum_i log p(y^{(i)} | x^{(i)})

There is one label per sequence (classification) or per step (tagging). The training loop is that of `svi.fit`;
`label_scores` measures how well the model predicts.
"""

import math
import warnings
from typing import Any, NamedTuple

from pgm_rnn.inference.svi import unfinished
from pgm_rnn.inference.svi.goals import LabelGoal
from pgm_rnn.inference.svi.label_scores import (
    Confusion,
    Labelled,
    LabelScore,
    check_labelled,
    confusions,
    evaluate,
    predicted,
)
from pgm_rnn.inference.svi.options import among, check_options, take_options
from pgm_rnn.inference.svi.plan import Plan, Surroundings
from pgm_rnn.inference.svi.processes import Processes
from pgm_rnn.inference.svi.session import RANK_STREAM, carried_out, on_device
from pgm_rnn.inference.svi.training import Reason
from pgm_rnn.randomness import seeded
from pgm_rnn.results import shown
from pgm_rnn.sequence_model.label_model import LabelModel

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
        train_nats_per_label: training loss, each minibatch's taken before its gradient step.
        valid_nats_per_label: loss on the validation data after the epoch.
    """

    epoch: int
    train_nats_per_label: float
    valid_nats_per_label: float | None


class LabelFit(NamedTuple):
    """Result of `fit`.

    Attributes:
        model: the model that was given, with the best parameters found.
        history: one entry per epoch.
        best_epoch: the epoch after which the parameters were taken, counted from 1; 0 if nothing improved on the start.
        stopped_by: "num_epochs", "patience" or "interrupt".
        seconds: wall-clock time without the compilation of kernels.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "model", "num_epochs", "best_epoch", "nats_per_label", "stopped_by", "seconds")

    model: LabelModel
    history: tuple[LabelEpoch, ...]
    best_epoch: int
    stopped_by: Reason
    seconds: float

    @property
    def num_epochs(self) -> int:
        """Epochs that were done."""
        return len(self.history)

    @property
    def nats_per_label(self) -> float:
        """Loss of the parameters that were kept, by the validation data if any; NaN for those at the start."""
        if self.best_epoch == 0:
            return math.nan
        best = self.history[self.best_epoch - 1]
        return best.train_nats_per_label if best.valid_nats_per_label is None else best.valid_nats_per_label


@take_options(Plan, Surroundings, bounds=False)
def fit(
    model: LabelModel,
    train: Labelled,
    valid: Labelled | None = None,
    **options: Any,
) -> LabelFit:
    """Maximise sum_i log p(y^{(i)} | x^{(i)}) with AdamW, in place.

    The parameters at the end are those of the epoch with the lowest validation loss, or the last ones without
    validation data. The same model, data and seed give the same parameters bit for bit on one machine's CPU, also if
    the run is killed and resumed from its checkpoint. Under torchrun the processes share each minibatch, as in
    `svi.fit`. An `UnfinishedWarning` says that the log probability was still rising at `num_epochs`.

    Args:
        model: a label model, such as `Tagger`.
        train: sequences with one label per sequence or per step, as the model's task requires.
        valid: validation data for early stopping.
        options: the fields of `Plan` and `Surroundings` that are not for bounds, by keyword.

    Raises:
        CheckpointError: the checkpoint is damaged, belongs to another run, or exists although `resume` is not given.
        ValueError, TypeError: data or options that do not fit, or no CUDA on this machine although it is asked for.
        OSError: `metrics` or `checkpoint` cannot be written, or another run is using that folder.
        ModuleNotFoundError: `tensorboard` is given and the package is not installed.
        FloatingPointError: the loss became NaN or infinite; the parameters are those of the best epoch so far.

    Example:
        >>> import torch
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
    plan, where = Plan(**among(options, Plan)), Surroundings(**among(options, Surroundings))
    if not isinstance(model, LabelModel):
        raise TypeError(f"expected a label model, such as Tagger, got {type(model).__name__}; svi.fit fits sequences")
    with on_device(model, where.device) as away:
        if where.device is not None:
            train, valid = train.to(away), None if valid is None else valid.to(away)
        for data in (train, valid):
            if data is not None:
                check_labelled(data)
                model.check(data.labels, data.inputs.x, data.inputs.lengths)
        processes = Processes(away)
        with seeded(plan.seed, stream=3 + RANK_STREAM * processes.rank):
            goal = LabelGoal(model, train, valid)
            ended = carried_out(goal, plan, where, processes)
    for note in unfinished.of_fit(goal, ended.history, ended.stopped_by):
        warnings.warn(note, unfinished.UnfinishedWarning, stacklevel=2)
    history = tuple(LabelEpoch(*entry[:3]) for entry in ended.history)
    return LabelFit(model, history, ended.best_epoch, ended.stopped_by, ended.seconds)
