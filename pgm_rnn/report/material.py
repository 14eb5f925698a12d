"""The data that a model is fitted to and scored on: a data set by name, or the series in a user's file.

A data set has its own splits, or is a single series that is fitted and scored as a whole. If a file has several series,
the first ones are the training set and the last ones the test set. A single series in a file is split in time: its
first part is the training set, and each later part is scored by one-step-ahead prediction given everything before it,
log p(x_{n+1:T} | x_{1:n}) = log p(x_{1:T}) - log p(x_{1:n}).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.data import Dataset, load
from pgm_rnn.emissions import Emission
from pgm_rnn.inference import svi
from pgm_rnn.inference.diagnosis import check_scores
from pgm_rnn.inference.mixture_kalman.problem import sums_out_vectors
from pgm_rnn.inference.svi.evaluation import num_modelled
from pgm_rnn.legend import Legend
from pgm_rnn.registries import OWN, Registries
from pgm_rnn.report.driving import remarks_on_inputs
from pgm_rnn.report.one_step_terms import PARTICLES, one_step_terms, seen_steps
from pgm_rnn.report.tables import (
    Reading,
    check_emission,
    described,
    family_of,
    kind_of,
    kinds_of,
    named_family,
    observed_by,
    read,
    shaped,
    steps_of,
)
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.observations import check_observations, checked
from pgm_rnn.sequences import Sequences, length_mask, some_observed

REGIME_PATHS = 16
"""The same as `PARTICLES` for a Rao-Blackwellised filter, whose particles are paths of regimes."""
MAX_SCORED = 500
"""Number of training sequences that a particle filter scores, the first ones: a large data set would take too long."""


class Score(NamedTuple):
    """Negative log likelihood of one split, exact if the model allows it.

    Attributes:
        split: "train", "valid" or "test".
        nats_per_step: sum of nats divided by the number of steps with an observation.
        standard_error: standard error over sequences, or over the steps of a single series; NaN for one.
        bound: "exact", or the name of the bound, such as "FIVO_128".
        num_sequences: number of sequences.
        num_steps: number of steps of all sequences.
    """

    split: str
    nats_per_step: float
    standard_error: float
    bound: str
    num_sequences: int
    num_steps: int


@dataclass(frozen=True, eq=False)
class Material:
    """Observations to fit a model to and to score it on.

    Attributes:
        description: a description in one line.
        family: emission family of an observation.
        train: the training set.
        valid: the validation set, or None.
        single: whether the data are a single series, split in time.
        scores: function that scores a model on each split.
        file: how the file was read and split, or None.
        vocabulary: the characters of a text, None for other data.
        notes: a sentence on each part of a file that is left out.
        legend: the names, kinds and vocabularies of a file's columns, or None.
    """

    description: str
    family: Emission
    train: Sequences
    valid: Sequences | None
    single: bool
    scores: Callable[[SequenceModel], list[Score]]
    file: "FileOptions | None" = None
    vocabulary: str | None = None
    notes: tuple[str, ...] = ()
    legend: Legend | None = None


class FileOptions(NamedTuple):
    """How to read and split a file; None stands for the default of the command.

    Attributes:
        columns: the variables to use, all if empty.
        emission: name of the emission family of the file's values; None for that of the columns' kinds.
        valid_fraction: fraction of the series, or of the steps of a single one, that is the validation set.
        test_fraction: fraction that is the test set.
        sequence: the column of ids, for a table of several sequences.
        time: the column of times.
        kind: kinds of columns, KIND or COLUMN=KIND.
        inputs: the columns of inputs.
    """

    columns: Sequence[str] = ()
    emission: str | None = None
    valid_fraction: float | None = None
    test_fraction: float | None = None
    sequence: str | None = None
    time: str | None = None
    kind: Sequence[str] = ()
    inputs: Sequence[str] = ()

    @property
    def reading(self) -> Reading:
        """How the file is read."""
        return Reading(self.sequence, self.time, tuple(self.columns), kinds_of(self.kind), inputs=tuple(self.inputs))


def check_source(source: str, options: FileOptions, registries: Registries = OWN) -> None:
    """Check that `source` is a data set or a file, and that the options apply to it.

    Raises:
        ValueError: there is no such data set or file, or an option applies only to files.
    """
    if source in registries.datasets:
        for name, value in options._asdict().items():
            if name != "inputs" and value is not None and value != ():
                option = name.removesuffix("s").replace("_", "-")
                raise ValueError(f"expected --{option} only with a file, got it with the data set {source}")
        return
    if not Path(source).exists():
        check_choice("--data", source, [*sorted(registries.datasets), "or an existing file"])
    if options.emission is not None:
        check_emission(options.emission, registries)


def with_any_inputs(dataset: Dataset, inputs: Sequence[str]) -> Dataset:
    """The data set with these of its inputs, or as it is for none."""
    return dataset.with_inputs(inputs) if inputs else dataset


def named(name: str, seed: int, registries: Registries = OWN, inputs: Sequence[str] = ()) -> Material:
    """The data set called `name`, with these of its inputs; `seed` is the random seed for synthetic data.

    Raises:
        ValueError: the data set has no input of a name.
    """
    dataset = with_any_inputs(load(name, seed=seed, datasets=registries.datasets), inputs)

    def scores(model: SequenceModel) -> list[Score]:
        if dataset.is_series:
            return [score_of_series(model, dataset.train)]
        splits = {split: getattr(dataset, split) for split in ("train", "valid", "test")}
        return [_scored(model, split, data) for split, data in splits.items() if data is not None]

    parts = (dataset.description, dataset.emission, dataset.train, dataset.valid)
    legend = dataset.train.legend
    return Material(*parts, dataset.is_series, scores, vocabulary=dataset.vocabulary, legend=legend)


def score_of_series(model: SequenceModel, series: Sequences) -> Score:
    """Score of one sequence, the sum of its one-step terms, with the standard error over its steps."""
    data = in_dtype_of(model, series)
    nats, seen = -one_step_terms(model, data)[0], seen_steps(model, data) > 0
    return _score("train", nats[seen], seen[seen], True, "exact" if model.exact else f"FIVO_{PARTICLES}")


def in_dtype_of(model: SequenceModel, data: Sequences) -> Sequences:
    """The same sequences, with real numbers in the model's dtype.

    Raises:
        ValueError: a number is too large for this dtype.
    """
    if not data.x.is_floating_point():
        return data
    x = data.x.to(example_of(model).dtype)
    if bool((x.isinf() & ~data.x.isinf()).any()):
        largest = float(data.x[data.x.isfinite()].abs().max())
        limit = torch.finfo(x.dtype).max
        raise ValueError(
            f"expected numbers up to {limit:.2g}, the largest of the model's {x.dtype}, got {largest:.2g}; rescale them"
        )
    return data._replace(x=x)


def particles_of(model: SequenceModel, data: Sequences) -> int:
    """The number of particles of the filter that scores a model of a data set without a likelihood in closed form."""
    return REGIME_PATHS if sums_out_vectors(model, checked(model, data)) else PARTICLES


def _scored(model: SequenceModel, split: str, data: Sequences) -> Score:
    if not model.exact and split == "train":
        data = data.select(torch.arange(min(MAX_SCORED, len(data.lengths))))
    data = in_dtype_of(model, data)
    bound = "exact" if model.exact else "fivo"
    try:
        found = svi.evaluate(model, data, bound=bound, num_particles=particles_of(model, data))
    except FloatingPointError as error:  # an error here costs a score, but must not cost the fitted model
        warnings.warn(f"no score on the {split} data: {error}", stacklevel=2)
        nan = float("nan")
        return Score(split, nan, nan, bound, len(data.lengths), num_modelled(model, data))
    return Score(split, *found[:3], len(data.lengths), found.num_steps)


def from_file(path: Path, options: FileOptions, registries: Registries = OWN, of: Emission | None = None) -> Material:
    """The series in a file, of the emission that the options name or the kinds of columns suggest, or of `of`.

    Raises:
        DataError: the file cannot be read, or does not hold series.
        ValueError: the values do not fit the emission, or are too few to split.
    """
    emission = None if of is not None else options.emission
    kind = None if emission is None else registries.families[named_family(emission)[0]].kind
    found, notes = read(path, options.reading, kind if of is None else kind_of(of))
    legend = found.legend
    assert legend is not None  # a reader always makes one
    family, data = (family_of(legend), found) if emission is None else observed_by(found, emission, registries, path)
    if of is not None:
        family, data = of, shaped(found, of, path)
    check_observations(family, data.x, None, data.x, data.observed)
    single = len(data.lengths) == 1
    parts = _cut(data.x.shape[1] if single else len(data.lengths), options, "steps" if single else "series")
    units = {split: steps_of(data, part) if single else data.select(part) for split, part in parts.items()}
    inside = length_mask(data.lengths, data.x.shape[1])
    seen = inside if data.observed is None else some_observed(data.observed)  # (batch, T)

    def scores(model: SequenceModel) -> list[Score]:
        given = in_dtype_of(model, data)
        terms = one_step_terms(model, given)
        _warn_of_no_score(model, family, given, terms.where(inside, 0.0).sum(1))
        nats, steps = (-terms[0], seen[0]) if single else (-terms.where(inside, 0).sum(1), seen.sum(1))
        bound = "exact" if model.exact else f"FIVO_{PARTICLES}"
        return [_score(split, nats[part], steps[part], single, bound) for split, part in parts.items()]

    notes = (*notes, *remarks_on_inputs(data))
    options = options._replace(columns=tuple(column.name for column in legend.columns))  # as they were taken
    description, train, valid = described(data), units["train"], units.get("valid")
    return Material(description, family, train, valid, single, scores, options, notes=notes, legend=legend)


def _cut(num: int, options: FileOptions, unit: str) -> dict[str, slice]:
    """The range of each split among `num` series or steps: train, valid, test in this order, without empty ones."""
    fractions = {"valid": options.valid_fraction or 0.0, "test": options.test_fraction or 0.0}
    if not (min(fractions.values()) >= 0 and sum(fractions.values()) < 1):
        raise ValueError(
            "expected --valid-fraction and --test-fraction to be at least 0 and together below 1, "
            f"got {fractions['valid']} and {fractions['test']}"
        )
    counts = {split: max(1, round(part * num)) for split, part in fractions.items() if part > 0}
    counts = {"train": num - sum(counts.values()), **counts}
    if counts["train"] < 1 or (unit == "steps" and counts["train"] < 2):
        least, way_out = (2 if unit == "steps" else 1), "try --test-fraction 0"
        if num < least:  # no fraction helps
            way_out = "a series needs at least 2 rows; where each row is a series of its own, say so by --sequence"
        elif fractions["valid"] > 0:
            way_out = "try --valid-fraction 0 --test-fraction 0"
        raise ValueError(f"expected more {unit} to train on, got {num} for all splits; {way_out}")
    parts, start = {}, 0
    for split, count in counts.items():
        parts[split] = slice(start, start + count)
        start += count
    return parts


def _warn_of_no_score(model: SequenceModel, family: Emission, data: Sequences, values: Tensor) -> None:
    """Warn of a log likelihood, (batch,), that is not a number: it costs a score, not the fitted model."""
    try:
        check_scores(model, family, data, values, "log likelihood")
    except FloatingPointError as error:
        warnings.warn(f"no score on all of the data: {error}", stacklevel=3)


def _score(split: str, nats: Tensor, steps: Tensor, single: bool, bound: str) -> Score:
    nats, steps, total = nats[steps > 0], steps[steps > 0], int(steps.sum())
    nats_per_step = float(nats.sum()) / total if total else float("nan")
    return Score(split, nats_per_step, svi.ratio_error(nats, steps), bound, 1 if single else len(nats), total)
