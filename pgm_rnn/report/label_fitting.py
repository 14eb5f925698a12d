"""`pgm-rnn fit` for label models: sequences of a data set are classified, or their steps tagged.

If the data set has a label for each sequence, the model learns these labels. If it was drawn from a model with known
states, the model learns the states, and the exact posterior is scored for comparison: the smoother's p(z_t | x_{1:T}),
or for a causal model the filter's p(z_t | x_{1:t}). On average no model of single labels with the same inputs has fewer
nats.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from pgm_rnn.checks import check_choice
from pgm_rnn.data import Dataset, load
from pgm_rnn.emissions import Categorical
from pgm_rnn.inference import forward_backward, svi
from pgm_rnn.inference.svi import label_scores, supervised
from pgm_rnn.inference.svi.label_scores import Labelled, LabelScore
from pgm_rnn.inference.svi.options import among
from pgm_rnn.inference.svi.plan import Plan
from pgm_rnn.inference.svi.processes import launched
from pgm_rnn.kernels.compilation import working_seconds
from pgm_rnn.models.hmm import HMM
from pgm_rnn.models.info import LabelInfo
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
from pgm_rnn.report.notes import as_notes, noted
from pgm_rnn.report.records import check_appendable
from pgm_rnn.report.terminal import console
from pgm_rnn.report.unfinished import finish_or_fail, fitted
from pgm_rnn.sequence_model.label_model import LabelModel, Task
from pgm_rnn.storage import holds_model

SPLITS = ("train", "valid", "test")
SHOWN = 3
"""Number of most often confused pairs of labels that are shown; they fit one line."""


class LabelData(NamedTuple):
    """A data set with the labels to learn.

    Attributes:
        dataset: the data set.
        task: "classification" of its sequences, or "tagging" of their steps.
        family: emission family of the labels.
        splits: labelled sequences by the name of the split.
        truth: the model that drew the states, or None.
    """

    dataset: Dataset
    task: Task
    family: Categorical
    splits: dict[str, Labelled]
    truth: HMM | None


class SplitScore(NamedTuple):
    """The `LabelScore` of one split."""

    split: str
    nats_per_label: float
    standard_error: float
    accuracy: float
    accuracy_error: float
    num_sequences: int
    num_labels: int


def fit_labels(job: Job, name: str, sizes: Mapping[str, Any], options: Mapping[str, Any]) -> Outcome:
    """Fit a label model to a data set, with early stopping by its validation split.

    Args:
        job: the data and the place of the results.
        name: name of the model in the registry of label models.
        sizes: options of the model, by the names of its arguments; None for those that were not given.
        options: options of `supervised.fit`, by the names of its arguments.

    Raises:
        ValueError: an argument is out of range, or the source is not a data set with labels.
        OSError: a file could not be written; what was fitted until then is saved, and the error says where.
    """
    check_choice("--data", job.source, sorted(job.registries.datasets))
    resumed = options["checkpoint"] if options["resume"] else None
    sizes = {size: value for size, value in sizes.items() if value is not None}
    folder = check_job(job, name, next(filter(_is_number, sizes.values()), "default"), resumed)
    job = replace(job, overwrite=job.overwrite or holds_model(folder))  # a resumed run may replace what it saved before
    _check_options(options)  # options are checked before the data are read
    data = label_data(job.source, job.seed, job.registries)
    model = _made(job.registries.label_models[name], sizes, data, job.seed)
    start_time = working_seconds()
    with launched(options["device"]) as first:
        if first:
            named = [
                f"{size.replace('_', ' ')} {value}" if _is_number(value) else value for size, value in sizes.items()
            ]
            shown = ", ".join([*named, data.task])
            announce(job, data.dataset, f"{name}, {shown} with {data.family.num_symbols} labels, AdamW on log p(y | x)")
        train, valid = data.splits["train"], data.splits.get("valid")
        with noted(svi.FitWarning) as said:
            found, failure = fitted(
                model, options, lambda: supervised.fit(model, train, valid, seed=job.seed, **options)
            )
    outcome = _outcome(model, found, data, options, working_seconds() - start_time)
    outcome = outcome._replace(remark="\n".join([outcome.remark, *as_notes(said)]))
    if first:
        way_out = "continue with --resume" if options["checkpoint"] else "fit again"
        finish_or_fail(lambda: _finish(job, folder, data, outcome), folder, failure, way_out)
    return outcome


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise a ValueError if an option is out of range, or an OSError if the metrics file cannot be written."""
    Plan(**among(options, Plan))
    if options["resume"] and options["checkpoint"] is None:
        raise ValueError("expected --checkpoint with --resume, got none; name the folder to continue from")
    if options["device"] is not None:
        svi.checked_device(options["device"])
    if options["metrics"] is not None:
        check_appendable(options["metrics"])


def _is_number(size: object) -> bool:
    return isinstance(size, int)


def _made(info: LabelInfo, sizes: Mapping[str, Any], data: LabelData, seed: int) -> LabelModel:
    """A new model for the data, in their dtype."""
    x = data.splits["train"].inputs.x
    with seeded(seed):
        model = info.make(**sizes, inputs=data.dataset.emission, labels=data.family, task=data.task)
    return model.to(x.dtype) if x.is_floating_point() else model


def _outcome(
    model: LabelModel,
    found: supervised.LabelFit | None,
    data: LabelData,
    options: Mapping[str, Any],
    seconds: float,
) -> Outcome:
    """The outcome of a fit; `found` is None if an error ended it, after `seconds`."""
    best = "those of the best epoch so far" if found is None else f"those of epoch {found.best_epoch}, the best"
    remark = f"the parameters are {f'{best} on the validation data' if 'valid' in data.splits else 'the last ones'}"
    plain = {option: str(value) if isinstance(value, Path) else value for option, value in options.items()}
    if found is None:
        return Outcome(model, "error", None, "epoch", seconds, remark, plain)
    return Outcome(model, found.stopped_by, len(found.history), "epoch", found.seconds, remark, plain)


def label_data(name: str, seed: int, registries: Registries = OWN) -> LabelData:
    """A data set with the labels of its sequences, or with the states that it was drawn with.

    Raises:
        ValueError: the data set has neither.
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


def exact_score(truth: HMM, data: Labelled, *, causal: bool) -> LabelScore:
    """The score of the model that drew the states: of p(z_t | x_{1:T}), or of p(z_t | x_{1:t}) if `causal`.

    On average no model of single labels with the same inputs has a better score.
    """
    x, lengths = data.inputs.x, data.inputs.lengths
    if causal:
        probs = forward_backward.filter(truth, x, lengths).filtered_probs
    else:
        probs = forward_backward.smooth(truth, x, lengths).smoothed_probs
    mask = data.inputs.mask
    log_probs = probs.gather(-1, data.labels[..., None]).squeeze(-1).log().where(mask, 0.0)  # (batch, T)
    hits = (probs.argmax(-1) == data.labels) & mask
    return label_scores.score(log_probs.sum(1), hits.sum(1), lengths)


def _finish(job: Job, folder: Path, data: LabelData, outcome: Outcome) -> None:
    """Score the model, print the scores, save the model and write the results."""
    say_how_it_ended(outcome)
    model, last = outcome.model.eval(), list(data.splits)[-1]
    with kept_if_it_fails(job, folder, outcome, record_of(job, data.dataset.description, outcome, [])):
        scores = [SplitScore(split, *supervised.evaluate(model, part)) for split, part in data.splits.items()]
        confused = supervised.confusions(model, data.splits[last])
    out = console()
    out.print("", label_table(scores), "± standard error over sequences", sep="\n")
    if confused:
        out.print(f"{last}, taken for another: {', '.join(map(str, confused[:SHOWN]))}")
    record = record_of(job, data.dataset.description, outcome, scores)
    record["confusions"] = [pair._asdict() for pair in confused]
    if data.truth is not None:
        which = "filter" if model.causal else "smoother"
        exact = [
            SplitScore(split, *exact_score(data.truth, part, causal=model.causal))
            for split, part in data.splits.items()
        ]
        out.print(f"\nthe exact {which} of the model that drew the data", label_table(exact), sep="\n")
        record[which] = [score._asdict() for score in exact]
    keep(job, folder, outcome, record)


def label_table(scores: Iterable[SplitScore]) -> Table:
    """A table of scores with one row per split, at most 80 columns wide."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("split")
    for name in ("nats per label", "±", "accuracy", "±", "sequences", "labels"):
        table.add_column(name, justify="right")
    for score in scores:
        figures = (score.nats_per_label, score.standard_error, score.accuracy, score.accuracy_error)
        numbers = ["-" if math.isnan(figure) else f"{figure:.4f}" for figure in figures]
        table.add_row(score.split, *numbers, f"{score.num_sequences:,}", f"{score.num_labels:,}")
    return table
