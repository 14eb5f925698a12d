"""Held-out scores of models that are fitted anew: K-fold cross-validation, and rolling origin for one series.

    K-fold            n_i = -log p(x^(i) | fit to the folds without i)                for every sequence i
    rolling origin    n_t = -log p(x_t | x_{1:t-1}, fit to x_{1:o}),  o <= t - 1       the latest origin o before t
                      or, with a horizon h, -log p(x_{o+1:o+h} | x_{1:o}, fit to x_{1:o})     for every origin o

All models see the same folds or origins, in turn, so that a comparison that is interrupted still has pairs. Geisser
(1975); Tashman (2000).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from pgm_rnn.randomness import seeded
from pgm_rnn.report.comparison.entries import Entry
from pgm_rnn.report.comparison.refitting import refitted
from pgm_rnn.report.comparison.scores import Bound, Scores, in_blocks, sequence_scores, series_terms
from pgm_rnn.report.material import in_dtype_of
from pgm_rnn.report.one_step_terms import seen_steps
from pgm_rnn.report.tables import steps_of

FOLD_STREAM = 22
Part = TypeVar("Part")
Found = TypeVar("Found")


class HeldOut(NamedTuple):
    """Scores on data that the models were not fitted to.

    Attributes:
        measure: what was done, in words.
        scores: of each model by its name; only of the parts that were finished.
        remark: how far it came, if it was interrupted; else empty.
    """

    measure: str
    scores: dict[str, Scores]
    remark: str = ""


class Origins(NamedTuple):
    """Where a series is cut.

    Attributes:
        starts: numbers of steps before each cut, to which the models are fitted.
        stops: numbers of steps after which scoring ends; that of the next cut, or a horizon beyond each.
        horizon: h, or None for all steps up to the next cut.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    horizon: int | None = None


class Terms(NamedTuple):
    """Scored steps: their nats, whether each was observed, and the kind of likelihood."""

    nats: Tensor
    steps: Tensor
    label: str


def fold_places(num_sequences: int, num_folds: int, seed: int) -> list[Tensor]:
    """The places of the sequences of each fold, of nearly equal size, in random order.

    Raises:
        ValueError: a single sequence, or fewer sequences than folds.
    """
    if num_sequences == 1:
        raise ValueError(
            "expected several sequences for cross-validation, got 1; use rolling origin, origins=5, for a single series"
        )
    if not 2 <= num_folds <= num_sequences:
        raise ValueError(
            f"expected folds in 2..{num_sequences}, the number of sequences, got {num_folds}; use fewer folds, or "
            "rolling origin, origins=5, on one long series"
        )
    with seeded(seed, stream=FOLD_STREAM):
        order = torch.randperm(num_sequences)
    return [part.sort().values for part in order.tensor_split(num_folds)]


def origins_of(num_steps: int, num: int, first: int | None = None, horizon: int | None = None) -> Origins:
    """Evenly spaced cuts of a series, from `first` on, by default half of it.

    Example:
        >>> origins_of(100, 2)
        Origins(starts=(50, 75), stops=(75, 100), horizon=None)
        >>> origins_of(100, 3, first=80, horizon=4)
        Origins(starts=(80, 88, 96), stops=(84, 92, 100), horizon=4)

    Raises:
        ValueError: too short a series for so many cuts.
    """
    first = num_steps // 2 if first is None else first
    last = num_steps - (horizon or 1)
    if not 1 < first <= last:
        raise ValueError(
            f"expected first_origin in 2..{last}, so that there are steps to fit and steps to score, got {first}; use "
            "another one, or a shorter horizon"
        )
    if num > last - first + 1:
        raise ValueError(
            f"expected at most {last - first + 1} origins from step {first} of {num_steps} on, got {num}; take fewer, "
            "or an earlier first_origin"
        )
    if horizon is None:
        starts = tuple(first + (number * (num_steps - first)) // num for number in range(num))
        return Origins(starts, (*starts[1:], num_steps))
    starts = tuple(first + (number * (last - first)) // max(1, num - 1) for number in range(num))
    return Origins(starts, tuple(start + horizon for start in starts), horizon)


def cross_validated(
    entries: Sequence[Entry], folds: Sequence[Tensor], bound: Bound, seed: int, *, progress: bool
) -> HeldOut:
    """Scores of each sequence under the models fitted to the other folds.

    Raises:
        KeyboardInterrupt: interrupted before the first fold was finished.
    """
    everything = torch.arange(entries[0].num_series)

    def of_fold(fold: Tensor) -> dict[str, Scores]:
        others = everything[~torch.isin(everything, fold)]
        return {entry.name: _of_fold(entry, others, fold, bound, seed) for entry in entries}

    parts = _each(folds, of_fold, "fold", progress)
    scores = {entry.name: _joined([part[entry.name] for part in parts]) for entry in entries}
    cut = f"interrupted after {len(parts)} of {len(folds)} folds: only their sequences are scored"
    measure = f"{len(folds)}-fold cross-validation over sequences"
    return HeldOut(measure, scores, cut if len(parts) < len(folds) else "")


def _of_fold(entry: Entry, others: Tensor, fold: Tensor, bound: Bound, seed: int) -> Scores:
    model = refitted(entry.model, entry.data.select(others), entry.refit, seed=seed)
    return sequence_scores(model, in_dtype_of(model, entry.data.select(fold)), bound)


def _joined(parts: Sequence[Scores]) -> Scores:
    nats, steps = torch.cat([part.nats for part in parts]), torch.cat([part.steps for part in parts])
    return Scores(parts[0].label, nats, steps, "sequences")


def rolled(entries: Sequence[Entry], origins: Origins, bound: Bound, seed: int, *, progress: bool) -> HeldOut:
    """Scores of the steps after each origin under the models fitted to the steps before it.

    Raises:
        KeyboardInterrupt: interrupted before the first origin was finished.
    """
    cuts = list(zip(origins.starts, origins.stops, strict=True))
    parts = _each(cuts, lambda cut: {e.name: _beyond(e, *cut, bound, seed) for e in entries}, "origin", progress)
    scores = {entry.name: _of_origins([part[entry.name] for part in parts], origins.horizon) for entry in entries}
    cut = f"interrupted after {len(parts)} of {len(cuts)} origins: only the steps after them are scored"
    return HeldOut(_described(origins), scores, cut if len(parts) < len(cuts) else "")


def _described(origins: Origins) -> str:
    ahead = "one step ahead" if origins.horizon is None else f"the {origins.horizon} steps after each"
    return f"rolling origin, {len(origins.starts)} origins from step {origins.starts[0]}, {ahead}"


def _beyond(entry: Entry, start: int, stop: int, bound: Bound, seed: int) -> Terms:
    """Terms of the steps start + 1..stop under the model fitted to the steps before them."""
    model = refitted(entry.model, steps_of(entry.data, slice(0, start)), entry.refit, seed=seed)
    seen = in_dtype_of(model, steps_of(entry.data, slice(0, stop)))
    terms, label = series_terms(model, seen, bound)
    return Terms(-terms[start:stop], seen_steps(model, seen)[start:stop], label)


def _of_origins(parts: Sequence[Terms], horizon: int | None) -> Scores:
    """Blocks of the steps of all origins, or one value per origin where a horizon lies beyond each."""
    nats, steps, labels = zip(*parts, strict=True)
    if horizon is None:
        return in_blocks(torch.cat(nats), torch.cat(steps), labels[0])
    sums = [torch.stack([one.double().sum() for one in values]) for values in (nats, steps)]
    kept = sums[1] > 0
    return Scores(labels[0], sums[0][kept], sums[1][kept], "origins")


def _each(parts: Sequence[Part], work: Callable[[Part], Found], unit: str, progress: bool) -> list[Found]:
    """The results for the parts under a progress bar, up to the part during which Ctrl-C is pressed.

    Raises:
        KeyboardInterrupt: it was pressed during the first one.
    """
    found: list[Found] = []
    try:
        for part in tqdm(parts, unit=unit, disable=None if progress else True, leave=False):
            found += [work(part)]
    except KeyboardInterrupt:
        if not found:
            raise
    return found
