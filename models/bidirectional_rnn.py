"""The bidirectional network: labels of a sequence from two chains that run over it in opposite directions.

    f_t = forward(f_{t-1}, x_t),  f_0 = 0        b_t = backward(b_{t+1}, x_t),  b_{T+1} = 0
    tagging          y_t ~ labels(W (f_t, b_t) + c)       p(y_t | x_{1:T}), independent given x_{1:T}
    classification   y ~ labels(W (f_T, b_1) + c)         p(y | x_{1:T})

Schuster & Paliwal (1997); Vidal (2024), variants of recurrent networks. In stacked layers, each chain reads both chains
of the layer below. T is each sequence's own length, so padding has no influence.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from typing_extensions import override

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.models.info import LabelInfo, Size
from pgm_rnn.sequence_model.label_model import LabelModel, one_family
from pgm_rnn.sequence_model.label_model import Task as Task  # its name of 0.1.0
from pgm_rnn.sequences import last_of

NETWORKS: dict[str, Callable[..., nn.RNNBase]] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
"""Torch's fused network of each cell."""
NAME = "bidirectional-rnn"
"""The name of the model in saved models, the trained zoo and the command line."""


class BidirectionalRNN(LabelModel):
    """A law of labels given a whole sequence, p(y | x_{1:T}); see `LabelModel` for its methods.

    Args:
        cell: "elman", "gru" or "lstm".
        num_symbols: short for inputs=Categorical(num_symbols).
        num_labels: short for labels=Categorical(num_labels).
        hidden_dim: width of each chain.
        num_layers: stacked layers.
        inputs: the family of the sequence's values; give this or `num_symbols`.
        labels: the family of the labels; give this or `num_labels`.
        task: "tagging" for a label at every step, "classification" for one label per sequence.

    Raises:
        TypeError: inputs or labels that are no family.
        ValueError: an unknown cell or task, sizes below 1, or not exactly one argument of each pair.

    Example:
        >>> tagger = BidirectionalRNN("gru", num_symbols=5, num_labels=2, hidden_dim=8)
        >>> x, lengths = torch.zeros(3, 4, dtype=torch.long), torch.tensor([4, 1, 3])
        >>> tagger.label_law(x, lengths).batch_shape, tagger.log_prob(x % 2, x, lengths).shape
        (torch.Size([3, 4]), torch.Size([3]))
    """

    causal = False

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
        check_choice("cell", cell, NETWORKS)
        check_counts(hidden_dim=hidden_dim, num_layers=num_layers)
        family_of_labels = one_family("num_labels", num_labels, "labels", labels)
        super().__init__(one_family("num_symbols", num_symbols, "inputs", inputs), family_of_labels, task)
        self.cell, self.hidden_dim, self.num_layers = cell, hidden_dim, num_layers
        self.embedding: nn.Embedding | None = None
        input_dim = self.inputs.input_dim
        if isinstance(self.inputs, Categorical):
            self.embedding, input_dim = nn.Embedding(self.inputs.num_symbols, hidden_dim), hidden_dim
        self.network = NETWORKS[cell](input_dim, hidden_dim, num_layers, batch_first=True, bidirectional=True)
        self.readout = self.labels.head(2 * hidden_dim)

    @property
    @override
    def recipe(self) -> tuple[str, dict[str, Any]]:
        sizes = {"hidden_dim": self.hidden_dim, "num_layers": self.num_layers}
        return NAME, {"cell": self.cell, **sizes, "task": self.task}

    @override
    def hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(f_t, b_t), (batch, T, 2 hidden_dim)."""
        values = self.inputs.as_input(x) if self.embedding is None else self.embedding(x)
        packed = pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.network(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    @override
    def ends(self, h: Tensor, lengths: Tensor) -> Tensor:
        """(f_T, b_1), (batch, 2 hidden_dim)."""
        forward, backward = h.chunk(2, dim=-1)
        return torch.cat([last_of(forward, lengths), backward[:, 0]], dim=-1)


INFO = LabelInfo(
    NAME,
    BidirectionalRNN,
    "Two recurrent networks in opposite directions, a law of labels given the whole sequence.",
    {
        "cell": Size("Cell of both networks: elman, gru or lstm.", default="gru", kind=str),
        "hidden_dim": Size("Width of each network's hidden state.", default=32),
        "num_layers": Size("Stacked layers; each reads both directions of the one below.", default=1),
    },
)
