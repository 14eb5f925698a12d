"""`pgm-rnn fit bidirectional-rnn`: a law of the labels of a data set, classified sequences or tagged steps.

Where the data say what each sequence is, that is what is learnt. Where they were drawn from a model with known states,
the states are, and its exact smoother p(z_t | x_{1:T}) is scored beside: on average no
law of single labels has fewer nats.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from pgm_rnn.checks import check_choice
from pgm_rnn.data import Dataset, load
from pgm_rnn.emissions import Categorical
from pgm_rnn.inference import forward_backward
from pgm_rnn.inference.svi import label_scores, supervised
from pgm_rnn.inference.svi.label_scores import Labelled, LabelScore
from pgm_rnn.inference.svi.plan import Plan
from pgm_rnn.models.bidirectional_rnn import NAME, BidirectionalRNN, Task
from pgm_rnn.models.hmm import HMM
from pgm_rnn.randomness import seeded
from pgm_rnn.registries import OWN, Registries
from pgm_rnn.report.fitted import (
    Job,
    Outcome,
    announce,
    check_job,
    keep,
    kept_if_it_fails,
    record_of,
    say_how_it_ended,
)

SPLITS = ("train", "valid", "test")
SHOWN = 3
"""Pairs of labels, those most often confused, that fit a line."""


class LabelData(NamedTuple):
    """What there is to learn of a data set.

    Attributes:
        dataset: itself.
        task: "classification" of its sequences, or "tagging" of their steps.
        family: of the labels.
        splits: labelled sequences by the name of the split.
        truth: the model that drew the states, or None.
    """

    dataset: Dataset
    task: Task
    family: Categorical
    splits: dict[str, Labelled]
    truth: HMM | None


class SplitScore(NamedTuple):
    """`LabelScore` of a split."""

    split: str
    nats_per_label: float
    standard_error: float
    accuracy: float
    accuracy_error: float
    num_sequences: int
    num_labels: int


def fit_labels(job: Job, sizes: Mapping[str, Any], options: Mapping[str, Any]) -> Outcome:
    """Fit a `BidirectionalRNN` to a data set's labels, stopped early by its validation split.

    Args:
        job: the data, and where the result goes.
        sizes: of the model, by the names of its arguments.
        options: of `supervised.fit`, by the names of its arguments.

    Raises:
        ValueError: arguments out of range, or a source that is no data set with labels.
    """
    check_choice("--data", job.source, sorted(job.registries.datasets))
    folder = check_job(job, NAME, sizes["hidden_dim"])
    Plan(**options)  # what is out of range is found out before the data are read
    data = label_data(job.source, job.seed, job.registries)
    train = data.splits["train"]
    with seeded(job.seed):
        model = BidirectionalRNN(**sizes, inputs=data.dataset.emission, labels=data.family, task=data.task)
    if train.inputs.x.is_floating_point():
        model = model.to(train.inputs.x.dtype)
    shown = f"{sizes['cell']}, hidden dim {sizes['hidden_dim']}, {data.task}"
    announce(job, data.dataset, f"{NAME}, {shown} with {data.family.num_symbols} labels, AdamW on log p(y | x)")
    found = supervised.fit(model, train, data.splits.get("valid"), seed=job.seed, **options)
    judged = f"those of epoch {found.best_epoch}, the best on the validation data"
    remark = f"the parameters are {judged if 'valid' in data.splits else 'the last ones'}"
    outcome = Outcome(model, found.stopped_by, len(found.history), "epoch", found.seconds, remark, dict(options))
    _finish(job, folder, data, outcome)
    return outcome


def label_data(name: str, seed: int, registries: Registries = OWN) -> LabelData:
    """A data set with labels of its sequences, or with the states that it was drawn with.

    Raises:
        ValueError: it has neither.
    """
    dataset = load(name, seed=seed, datasets=registries.datasets)
    parts = {split: data for split in SPLITS if (data := getattr(dataset, split)) is not None}
    if dataset.labels is not None:
        labels = dataset.labels
        splits = {split: Labelled(data, getattr(labels, split)) for split, data in parts.items()}
        return LabelData(dataset, "classification", labels.family, splits, None)
    if dataset.model is None:
        raise ValueError(
            f"expected a data set with labels of its sequences, such as pen-digits, or with known states, such as "
            f"synthetic-hmm, got {name}, which has neither"
        )
    splits = {split: Labelled(data._replace(z=None), data.z) for split, data in parts.items()}
    return LabelData(dataset, "tagging", Categorical(dataset.model.num_states), splits, dataset.model)


def smoother_score(truth: HMM, data: Labelled) -> LabelScore:
    """The score of p(z_t | x_{1:T}) by the model that drew the states: what a tagger can come to on average."""
    probs = forward_backward.smooth(truth, data.inputs.x, data.inputs.lengths).smoothed_probs
    mask = data.inputs.mask
    log_probs = probs.gather(-1, data.labels[..., None]).squeeze(-1).log().where(mask, 0.0)  # (batch, T)
    hits = (probs.argmax(-1) == data.labels) & mask
    return label_scores.score(log_probs.sum(1), hits.sum(1), data.inputs.lengths)


def _finish(job: Job, folder: Any, data: LabelData, outcome: Outcome) -> None:
    """Score and print, save the model, write the results."""
    say_how_it_ended(outcome)
    model, last = outcome.model.eval(), list(data.splits)[-1]
    with kept_if_it_fails(job, folder, outcome, record_of(job, data.dataset.description, outcome, [])):
        scores = [SplitScore(split, *supervised.evaluate(model, part)) for split, part in data.splits.items()]
        confused = supervised.confusions(model, data.splits[last])
    out = Console(highlight=False, markup=False, soft_wrap=True)
    out.print("", label_table(scores), "± standard error over sequences", sep="\n")
    if confused:
        out.print(f"{last}, taken for another: {', '.join(map(str, confused[:SHOWN]))}")
    record = record_of(job, data.dataset.description, outcome, scores)
    record["confusions"] = [pair._asdict() for pair in confused]
    if data.truth is not None:
        exact = [SplitScore(split, *smoother_score(data.truth, part)) for split, part in data.splits.items()]
        out.print("\nthe exact smoother of the model that drew the data", label_table(exact), sep="\n")
        record["smoother"] = [score._asdict() for score in exact]
    keep(job, folder, outcome, record)


def label_table(scores: Iterable[SplitScore]) -> Table:
    """A row a split; it fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("split")
    for name in ("nats per label", "±", "accuracy", "±", "sequences", "labels"):
        table.add_column(name, justify="right")
    for score in scores:
        figures = (score.nats_per_label, score.standard_error, score.accuracy, score.accuracy_error)
        numbers = ["-" if math.isnan(figure) else f"{figure:.4f}" for figure in figures]
        table.add_row(score.split, *numbers, f"{score.num_sequences:,}", f"{score.num_labels:,}")
    return table
