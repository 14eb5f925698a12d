"""How well a law of labels given whole sequences predicts: nats per label, accuracy, and what it confuses.

A label is one of a sequence (classification) or of a step (tagging). Both figures are exact; the accuracy is the part
of the labels that are the law's most probable ones.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.emissions import Categorical
from pgm_rnn.inference.svi.evaluation import ratio_error
from pgm_rnn.sequences import Sequences, length_mask

if TYPE_CHECKING:
    from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN

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
def evaluate(model: "BidirectionalRNN", data: Labelled) -> LabelScore:
    """Nats per label and accuracy of a law of labels, both exact.

    Raises:
        ValueError, TypeError: data that do not fit the model.
    """
    check_labelled(data)
    chunks = [data.select(index) for index in torch.arange(len(data.labels), device=data.labels.device).split(CHUNK)]
    log_probs = torch.cat([model.log_prob(chunk.labels, *chunk.inputs[:2]) for chunk in chunks])
    counts = label_counts(model, data)
    if not isinstance(model.labels, Categorical):
        return score(log_probs, torch.full_like(log_probs, math.nan), counts)
    hits = torch.cat([_hits(model, chunk) for chunk in chunks])
    return score(log_probs, hits, counts)


@torch.no_grad()
def predicted(model: "BidirectionalRNN", inputs: Sequences) -> Tensor:
    """The most probable label of each sequence (batch,) or step (batch, T), whose labels are symbols."""
    found: Tensor = model.label_law(inputs.x, inputs.lengths).logits.argmax(-1)
    return found


def confusions(model: "BidirectionalRNN", data: Labelled) -> list[Confusion]:
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


def score(log_probs: Tensor, hits: Tensor, counts: Tensor) -> LabelScore:
    """The score of sequences with log p(y | x), and so many labels found of so many, (batch,) each."""
    total = int(counts.sum())
    means = (-float(log_probs.double().sum()) / total, float(hits.double().sum()) / total)
    errors = (ratio_error(-log_probs, counts), ratio_error(hits, counts))
    return LabelScore(means[0], errors[0], means[1], errors[1], len(counts), total)


def check_labelled(data: Labelled) -> None:
    """Raise a ValueError unless every sequence has its labels."""
    if len(data.labels) != len(data.inputs.lengths):
        raise ValueError(f"expected labels of {len(data.inputs.lengths)} sequences, got those of {len(data.labels)}")


def _hits(model: "BidirectionalRNN", data: Labelled) -> Tensor:
    right = (predicted(model, data.inputs) == data.labels).double()
    if model.task == "classification":
        return right
    return (right * length_mask(data.inputs.lengths, right.shape[1])).sum(1)


def label_counts(model: "BidirectionalRNN", data: Labelled) -> Tensor:
    """How many labels each sequence has, (batch,)."""
    lengths = data.inputs.lengths
    return lengths if model.task == "tagging" else torch.ones_like(lengths)
