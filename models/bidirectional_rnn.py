"""The bidirectional network: labels of a sequence from two chains that run over it in opposite directions.

    f_t = forward(f_{t-1}, x_t),  f_0 = 0        b_t = backward(b_{t+1}, x_t),  b_{T+1} = 0
    tagging          y_t ~ labels(W (f_t, b_t) + c)       p(y_t | x_{1:T}), independent given x_{1:T}
    classification   y ~ labels(W (f_T, b_1) + c)         p(y | x_{1:T})

Schuster & Paliwal (1997); Vidal (2024), variants of recurrent networks. In stacked layers both chains read both chains
of the layer below. T is each sequence's own length, so padding has no influence.
"""

from collections.abc import Callable
from itertools import count
from typing import Any, Literal

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.sequence_model.observations import check_observations
from pgm_rnn.sequences import length_mask

Task = Literal["tagging", "classification"]
NETWORKS: dict[str, Callable[..., nn.RNNBase]] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
"""Torch's fused network of each cell."""
NAME = "bidirectional-rnn"
"""What saved models and the trained zoo call it."""


class BidirectionalRNN(nn.Module):
    """A law of labels given a whole sequence, p(y | x_{1:T}).

    It says nothing of how probable the sequence itself is, so it is no `SequenceModel`, not in the zoo's list, and
    `svi.fit` and the other engines do not take it. It learns by `supervised.fit`, by `pgm-rnn fit bidirectional-rnn`,
    or through Pyro's `Trace_ELBO`; `save_model` and the trained zoo keep it.

    Args:
        cell: "elman", "gru" or "lstm".
        num_symbols: short for inputs=Categorical(num_symbols).
        num_labels: short for labels=Categorical(num_labels).
        hidden_dim: width of each chain.
        num_layers: stacked layers.
        inputs: the family whose values the sequence has; give this or `num_symbols`.
        labels: the family of the labels; give this or `num_labels`.
        task: "tagging" for a label at every step, "classification" for one of the sequence.

    Raises:
        TypeError: inputs or labels that are no family.
        ValueError: an unknown cell or task, sizes below 1, or not exactly one of each pair.

    Example:
        >>> tagger = BidirectionalRNN("gru", num_symbols=5, num_labels=2, hidden_dim=8)
        >>> x, lengths = torch.zeros(3, 4, dtype=torch.long), torch.tensor([4, 1, 3])
        >>> tagger.label_law(x, lengths).batch_shape, tagger.log_prob(x % 2, x, lengths).shape
        (torch.Size([3, 4]), torch.Size([3]))
    """

    _instances = count()

    def __init__(
        self,
        cell: str = "gru",
        num_symbols: int | None = None,
        num_labels: int | None = None,
        hidden_dim: int = 32,
        num_layers: int = 1,
        *,
        inputs: Emission | None = None,
        labels: Emission | None = None,
        task: Task = "tagging",
    ) -> None:
        super().__init__()
        check_choice("cell", cell, NETWORKS)
        check_choice("task", task, ("tagging", "classification"))
        check_counts(hidden_dim=hidden_dim, num_layers=num_layers)
        self.inputs = _chosen("num_symbols", num_symbols, "inputs", inputs)
        self.labels = _chosen("num_labels", num_labels, "labels", labels)
        self.cell, self.hidden_dim, self.num_layers = cell, hidden_dim, num_layers
        self.task: Task = task
        self.embedding: nn.Embedding | None = None
        input_dim = self.inputs.input_dim
        if isinstance(self.inputs, Categorical):
            self.embedding, input_dim = nn.Embedding(self.inputs.num_symbols, hidden_dim), hidden_dim
        self.network = NETWORKS[cell](input_dim, hidden_dim, num_layers, batch_first=True, bidirectional=True)
        self.readout = self.labels.head(2 * hidden_dim)
        self.site_prefix = f"{type(self).__name__}_{next(BidirectionalRNN._instances)}"

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Its name and the options, beside inputs and labels, that make a model of the same shape."""
        sizes = {"hidden_dim": self.hidden_dim, "num_layers": self.num_layers}
        return NAME, {"cell": self.cell, **sizes, "task": self.task}

    def features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the labels are read from: (f_t, b_t) at every step, (batch, T, 2 hidden_dim), or (f_T, b_1).

        Args:
            x: a sequence each, (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.

        Returns:
            (batch, T, 2 hidden_dim) with zeros in the padding for tagging, (batch, 2 hidden_dim) for classification.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        return self._features(*self._checked_inputs(x, lengths))

    def label_law(self, x: Tensor, lengths: Tensor | None = None) -> TorchDistribution:
        """p(y_t | x_{1:T}), batch shape (batch, T), or p(y | x_{1:T}), batch shape (batch,); arguments as `features`.

        What it says in the padding means nothing.
        """
        law: TorchDistribution = self.readout(self.features(x, lengths))
        return law

    def log_prob(self, y: Tensor, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """log p(y | x_{1:T}), summed over the steps for tagging: nats, (batch,).

        Args:
            y: labels, (batch, T, *label) for tagging, (batch, *label) for classification.
            x: a sequence each, (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        x, lengths = self._checked_inputs(x, lengths)
        y = self._checked_labels(y, x, lengths)
        law: TorchDistribution = self.readout(self._features(x, lengths))
        log_probs: Tensor = law.log_prob(y)
        if self.task == "classification":
            return log_probs
        return log_probs.where(length_mask(lengths, x.shape[1]), 0.0).sum(-1)

    def model(self, x: Tensor, lengths: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """The Pyro program of p(y | x_{1:T}): a deterministic site "h", the features, and a site "y", the labels.

        Args:
            x: a sequence each, (batch, T, *event).
            lengths: (batch,) steps of each sequence, None for T.
            y: labels as for `log_prob`; None draws them.

        Returns:
            The labels.

        Raises:
            ValueError, TypeError: values that do not fit the model.
        """
        x, lengths = self._checked_inputs(x, lengths)
        y = None if y is None else self._checked_labels(y, x, lengths)
        if not pyro.settings.get("module_local_params"):
            pyro.module(self.site_prefix, self)
        with pyro.plate("sequences", len(x), dim=-1):
            h = pyro.deterministic("h", self._features(x, lengths), event_dim=2 if self.task == "tagging" else 1)
            law = self.readout(h)
            if self.task == "tagging":
                law = law.mask(length_mask(lengths, x.shape[1])).to_event(1)
            found: Tensor = pyro.sample("y", law, obs=y)
        return found

    def guide(self, x: Tensor, lengths: Tensor | None = None, y: Tensor | None = None) -> None:
        """The Pyro guide: nothing is latent once the labels are given."""

    def _features(self, x: Tensor, lengths: Tensor) -> Tensor:
        values = self.inputs.as_input(x) if self.embedding is None else self.embedding(x)
        packed = pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)
        both, _ = pad_packed_sequence(self.network(packed)[0], batch_first=True, total_length=x.shape[1])
        if self.task == "tagging":
            return both
        forward, backward = both.chunk(2, dim=-1)
        last = torch.arange(len(x), device=x.device), lengths - 1
        return torch.cat([forward[last], backward[:, 0]], dim=-1)

    def _checked_inputs(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        return check_observations(self.inputs, x, lengths, self.readout.weight)

    def _checked_labels(self, y: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
        """Labels in the model's dtype, with zeros in the padding."""
        expected = (*x.shape[: 2 if self.task == "tagging" else 1], *self.labels.event_shape)
        if not isinstance(y, Tensor) or y.shape != expected:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"expected labels of shape {expected} for {self.task}, got {got}")
        if self.task == "classification":
            return check_observations(self.labels, y[:, None], None, self.readout.weight, name="labels")[0][:, 0]
        return check_observations(self.labels, y, lengths, self.readout.weight, name="labels")[0]


def _chosen(number_name: str, number: int | None, family_name: str, family: Emission | None) -> Emission:
    if (number is None) == (family is None):
        raise ValueError(f"expected exactly one of {number_name} and {family_name}, such as {number_name}=3")
    if number is not None:
        return Categorical(number)
    if not isinstance(family, Emission):
        raise TypeError(f"expected a family such as Bernoulli(88) as {family_name}, got {type(family).__name__}")
    return family
