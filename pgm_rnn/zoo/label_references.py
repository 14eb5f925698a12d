"""Reference sequences for a label model, with labels whose log probabilities are known.

    x_t^{(i)} ~ the inputs' family with all of its unconstrained numbers zero: uniform symbols, fair bits, normal reals
    y^{(i)} ~ p(y | x^{(i)}),   log p(y^{(i)} | x^{(i)}), i = 1..n, exact

So an entry contains no real data. All numbers are computed in float64.
"""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.emissions import Emission
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.zoo.references import LENGTHS, SEED


class LabelReference(NamedTuple):
    """Sequences with labels, and the labels' log probabilities.

    Attributes:
        data: a padded batch of inputs, real numbers in float64.
        labels: (batch, *label) of the sequences, or (batch, T, *label) of their steps, zeros in the padding.
        log_probs: log p(y | x), (batch,), nats, float64.
        num_labels: number of labels of all sequences.
    """

    data: Sequences
    labels: Tensor
    log_probs: Tensor
    num_labels: int

    @property
    def nats_per_label(self) -> float:
        """The number on the card: the sum of nats divided by the number of labels."""
        return -float(self.log_probs.sum()) / self.num_labels


@torch.no_grad()
def made(model: LabelModel) -> LabelReference:
    """The reference of a label model, a deterministic function of its parameters."""
    model = copy.deepcopy(model).double()
    lengths = torch.tensor(LENGTHS)
    with seeded(SEED, stream=14):
        x = _zero_law(model.inputs, len(LENGTHS), max(LENGTHS)).sample()
        data = Sequences(_without_padding(x, lengths), lengths)
        labels = model.label_law(*data[:2]).sample()
    if model.task == "tagging":
        labels = _without_padding(labels, lengths)
    num_labels = data.num_steps if model.task == "tagging" else len(LENGTHS)
    return LabelReference(data, labels, model.log_prob(labels, *data[:2]), num_labels)


def as_json(reference: LabelReference) -> dict[str, Any]:
    """The content of reference.json, from which a float64 is read back to the bit."""
    return {
        "x": reference.data.x.tolist(),
        "dtype": _name(reference.data.x),
        "lengths": reference.data.lengths.tolist(),
        "labels": reference.labels.tolist(),
        "labels_dtype": _name(reference.labels),
        "log_probs": reference.log_probs.tolist(),
        "num_labels": reference.num_labels,
    }


def from_json(content: dict[str, Any]) -> LabelReference:
    """The reference that `as_json` wrote."""
    x = torch.tensor(content["x"], dtype=getattr(torch, content["dtype"]))
    labels = torch.tensor(content["labels"], dtype=getattr(torch, content["labels_dtype"]))
    log_probs = torch.tensor(content["log_probs"], dtype=torch.float64)
    return LabelReference(Sequences(x, torch.tensor(content["lengths"])), labels, log_probs, content["num_labels"])


def _zero_law(family: Emission, *batch: int) -> Any:
    """The law of independent values, (*batch)."""
    head = family.head(1).double()
    for parameter in head.parameters():
        parameter.zero_()
    return head(torch.zeros(*batch, 1, dtype=torch.float64))


def _without_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Values (batch, T, *event) with zeros in the padding."""
    inside = torch.arange(values.shape[1]) < lengths[:, None]
    return values.where(inside.reshape(*inside.shape, *[1] * (values.dim() - 2)), 0)


def _name(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")
