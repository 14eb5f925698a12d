"""How well a law of labels predicts: nats per label, accuracy, and what it confuses.

A label is one of a sequence (classification) or of a step (tagging). Both figures are exact; the accuracy is the part
of the labels that are the law's most probable ones.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical
from pgm_rnn.inference.svi.evaluation import ratio_error
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.sequences import Sequences, length_mask

CHUNK = 1024
"""Sequences that are scored at a time."""
MOST = 5
"""Pairs of labels, those most often confused, that are told."""


class Labelled(NamedTuple):
    """Sequences and what is said of them.

    Attributes:
        inputs: a padded batch.
        labels: (batch, *label) of the sequences, or (batch, T, *label) of their steps.
    """

    inputs: Sequences
    labels: Tensor

    def select(self, index: Tensor) -> "Labelled":
        """The sequences at `index` (k,) with their labels, still T steps wide."""
        x, lengths = self.inputs.x[index], self.inputs.lengths[index]
        return Labelled(Sequences(x, lengths), self.labels[index])

    def to(self, device: torch.device) -> "Labelled":
        """The same on a device."""
        return Labelled(self.inputs.to(device), self.labels.to(device))


class LabelScore(NamedTuple):
    """Result of `evaluate`; errors are standard errors over the sequences as a sample, NaN for one.

    Attributes:
        nats_per_label: sum of -log p(y | x) over the number of labels.
        standard_error: of it.
        accuracy: the part of the labels that are the law's most probable ones; NaN where labels are no symbols.
        accuracy_error: of it.
        num_sequences: how many.
        num_labels: of all of them.
    """

    nats_per_label: float
    standard_error: float
    accuracy: float
    accuracy_error: float
    num_sequences: int
    num_labels: int


class Confusion(NamedTuple):
    """One label taken for another: so many times of all that have it."""

    label: int
    taken_for: int
    times: int
    of: int

    def __str__(self) -> str:
        """Such as "5 as 9 (28 of 335)"."""
        return f"{self.label} as {self.taken_for} ({self.times:,} of {self.of:,})"


@torch.no_grad()
def evaluate(model: LabelModel, data: Labelled) -> LabelScore:
    """Nats per label and accuracy of a law of labels, both exact.

    Raises:
        ValueError, TypeError: data that do not fit the model.
    """
    values, counts = log_probs(model, data), label_counts(model, data)
    if not isinstance(model.labels, Categorical):
        return score(values, torch.full_like(values, math.nan), counts)
    return score(values, torch.cat([_hits(model, chunk) for chunk in _chunks(data)]), counts)


@torch.no_grad()
def log_probs(model: LabelModel, data: Labelled) -> Tensor:
    """log p(y | x) of each sequence, nats, (batch,).

    Raises:
        ValueError, TypeError: data that do not fit the model.
    """
    check_labelled(data)
    return torch.cat([model.log_prob(chunk.labels, *chunk.inputs[:2]) for chunk in _chunks(data)])


@torch.no_grad()
def predicted(model: LabelModel, inputs: Sequences) -> Tensor:
    """The most probable label of each sequence (batch,) or step (batch, T), whose labels are symbols."""
    return model.predict(inputs.x, inputs.lengths)


def confusions(model: LabelModel, data: Labelled) -> list[Confusion]:
    """The pairs of labels that are most often confused, the worst first, of a model whose labels are symbols."""
    size = model.labels.num_params
    labels, found = data.labels, predicted(model, data.inputs)
    if model.task == "tagging":
        labels, found = labels[data.inputs.mask], found[data.inputs.mask]
    table = torch.bincount(labels * size + found, minlength=size * size).reshape(size, size)
    wrong = table - table.diag().diag()
    worst = wrong.flatten().sort(descending=True, stable=True).indices[:MOST].tolist()
    pairs = [divmod(index, size) for index in worst]
    return [Confusion(a, b, int(wrong[a, b]), int(table[a].sum())) for a, b in pairs if wrong[a, b] > 0]


def score(values: Tensor, hits: Tensor, counts: Tensor) -> LabelScore:
    """The score of sequences with log p(y | x), and so many labels found of so many, (batch,) each."""
    total = int(counts.sum())
    means = (-float(values.double().sum()) / total, float(hits.double().sum()) / total)
    errors = (ratio_error(-values, counts), ratio_error(hits, counts))
    return LabelScore(means[0], errors[0], means[1], errors[1], len(counts), total)


def check_labelled(data: Labelled) -> None:
    """Raise a ValueError unless every sequence has its labels."""
    if len(data.labels) != len(data.inputs.lengths):
        raise ValueError(f"expected labels of {len(data.inputs.lengths)} sequences, got those of {len(data.labels)}")


def _chunks(data: Labelled) -> list[Labelled]:
    """A few sequences at a time."""
    numbers = torch.arange(len(data.labels), device=data.labels.device)
    return [data.select(index) for index in numbers.split(CHUNK)]


def _hits(model: LabelModel, data: Labelled) -> Tensor:
    right = (predicted(model, data.inputs) == data.labels).double()
    if model.task == "classification":
        return right
    return (right * length_mask(data.inputs.lengths, right.shape[1])).sum(1)


def label_counts(model: LabelModel, data: Labelled) -> Tensor:
    """How many labels each sequence has, (batch,)."""
    lengths = data.inputs.lengths
    return lengths if model.task == "tagging" else torch.ones_like(lengths)
