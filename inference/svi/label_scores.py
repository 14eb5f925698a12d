"""Scores of a label model: nats per label, accuracy, and the labels that it confuses.

There is one label per sequence (classification) or per step (tagging). Both scores are exact. The accuracy is the
fraction of labels that the model holds to be the most probable.
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
"""Number of sequences that are scored at a time."""
MOST = 5
"""Number of most often confused pairs of labels that are reported."""


class Labelled(NamedTuple):
    """Sequences with their labels.

    Attributes:
        inputs: the sequences, a padded batch.
        labels: (batch, *label), one label per sequence, or (batch, T, *label), one per step.
    """

    inputs: Sequences
    labels: Tensor

    def select(self, index: Tensor) -> "Labelled":
        """The sequences at `index` (k,) with their labels; both are still padded to T steps."""
        x, lengths = self.inputs.x[index], self.inputs.lengths[index]
        return Labelled(Sequences(x, lengths), self.labels[index])

    def to(self, device: torch.device) -> "Labelled":
        """Sequences and labels on another device."""
        return Labelled(self.inputs.to(device), self.labels.to(device))


class LabelScore(NamedTuple):
    """Result of `evaluate`; errors are standard errors over the sequences as a sample, NaN for one.

    Attributes:
        nats_per_label: sum of -log p(y | x), divided by the number of labels.
        standard_error: standard error of nats_per_label.
        accuracy: fraction of labels that the model holds to be the most probable; NaN if labels are not symbols.
        accuracy_error: standard error of accuracy.
        num_sequences: number of sequences.
        num_labels: number of labels of all sequences.
    """

    nats_per_label: float
    standard_error: float
    accuracy: float
    accuracy_error: float
    num_sequences: int
    num_labels: int


class Confusion(NamedTuple):
    """One label that was predicted in place of another, with the number of times."""

    label: int
    taken_for: int
    times: int
    of: int

    def __str__(self) -> str:
        """Such as "5 as 9 (28 of 335)"."""
        return f"{self.label} as {self.taken_for} ({self.times:,} of {self.of:,})"


@torch.no_grad()
def evaluate(model: LabelModel, data: Labelled) -> LabelScore:
    """Nats per label and accuracy of a label model, both exact.

    Raises:
        ValueError, TypeError: the data do not fit the model.
    """
    values, counts = log_probs(model, data), label_counts(model, data)
    if not isinstance(model.labels, Categorical):
        return score(values, torch.full_like(values, math.nan), counts)
    return score(values, torch.cat([_hits(model, chunk) for chunk in _chunks(data)]), counts)


@torch.no_grad()
def log_probs(model: LabelModel, data: Labelled) -> Tensor:
    """log p(y | x) of each sequence, nats, (batch,).

    Raises:
        ValueError, TypeError: the data do not fit the model.
    """
    check_labelled(data)
    return torch.cat([model.log_prob(chunk.labels, *chunk.inputs[:2]) for chunk in _chunks(data)])


@torch.no_grad()
def predicted(model: LabelModel, inputs: Sequences) -> Tensor:
    """The most probable label of each sequence (batch,) or step (batch, T), for labels that are symbols."""
    return model.predict(inputs.x, inputs.lengths)


def confusions(model: LabelModel, data: Labelled) -> list[Confusion]:
    """The most often confused pairs of labels, the worst first, for a model whose labels are symbols."""
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
    """The score of sequences from log p(y | x) and the numbers of correct labels and of labels, each (batch,)."""
    total = int(counts.sum())
    means = (-float(values.double().sum()) / total, float(hits.double().sum()) / total)
    errors = (ratio_error(-values, counts), ratio_error(hits, counts))
    return LabelScore(means[0], errors[0], means[1], errors[1], len(counts), total)


def check_labelled(data: Labelled) -> None:
    """Check that every sequence has its labels.

    Raises:
        ValueError: the labels belong to more or fewer sequences.
    """
    if len(data.labels) != len(data.inputs.lengths):
        raise ValueError(f"expected labels of {len(data.inputs.lengths)} sequences, got those of {len(data.labels)}")


def _chunks(data: Labelled) -> list[Labelled]:
    """The data in chunks of `CHUNK` sequences."""
    numbers = torch.arange(len(data.labels), device=data.labels.device)
    return [data.select(index) for index in numbers.split(CHUNK)]


def _hits(model: LabelModel, data: Labelled) -> Tensor:
    right = (predicted(model, data.inputs) == data.labels).double()
    if model.task == "classification":
        return right
    return (right * length_mask(data.inputs.lengths, right.shape[1])).sum(1)


def label_counts(model: LabelModel, data: Labelled) -> Tensor:
    """Number of labels of each sequence, (batch,)."""
    lengths = data.inputs.lengths
    return lengths if model.task == "tagging" else torch.ones_like(lengths)
