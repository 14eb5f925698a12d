"""The tagger: labels of a sequence from one chain that runs forward over it.

    h_t = f(h_{t-1}, x_t),  h_0 = 0 or trained
    tagging          y_t ~ labels(W h_t + c)        p(y_t | x_{1:t}), independent given x_{1:T}
    classification   y ~ labels(W h_T + c)          p(y | x_{1:T})

Choe, Shin & Spencer (2017), sec. 2.1 and 4.1, where the label is the state z_t of a hidden Markov model and the best
law is the forward algorithm's p(z_t | x_{1:t}). A step's label never depends on what follows it; `BidirectionalRNN`
reads both directions. Differences from the paper: any cell, several layers, any family; h_0 can be trained.
"""

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Categorical, Emission
from pgm_rnn.models.cells import CELL, CELLS
from pgm_rnn.models.info import HIDDEN_DIM, LabelInfo, Size
from pgm_rnn.sequence_model.label_model import LabelModel, Task, one_family
from pgm_rnn.sequences import last_of, length_mask

NAME = "tagger"
"""The name of the model in saved models, the trained zoo and the command line."""
Start = Literal["zero", "trained"]


class Tagger(LabelModel):
    """A law of labels given the sequence up to each step, p(y_t | x_{1:t}); see `LabelModel` for its methods.

    Args:
        cell: any of `pgm_rnn.models.cells.CELLS`, such as "elman", "gru" or "lstm".
        num_symbols: short for inputs=Categorical(num_symbols).
        num_labels: short for labels=Categorical(num_labels).
        hidden_dim: width of the hidden vector from which labels are read.
        num_layers: stacked layers, or layers of the transition for "deep-transition".
        inputs: the family of the sequence's values; give this or `num_symbols`.
        labels: the family of the labels; give this or `num_labels`.
        task: "tagging" for a label at every step, "classification" for one label per sequence.
        embedding_dim: width of a symbol's embedding; None for one-hot symbols, as in the paper.
        start: whether h_0 is "zero" or "trained".

    Raises:
        TypeError: inputs or labels that are no family.
        ValueError: an unknown cell, task or start, sizes below 1, not exactly one argument of each pair, or an
            embedding_dim for inputs that are no symbols.

    Example:
        >>> tagger = Tagger("elman", num_symbols=5, num_labels=2, hidden_dim=8)
        >>> x = torch.tensor([[0, 1, 2, 3], [0, 1, 4, 4]])
        >>> probs = tagger.label_law(x).probs  # (2, 4, 2)
        >>> bool((probs[0, :2] == probs[1, :2]).all())  # equal beginnings have equal labels
        True
    """

    causal = True

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
        embedding_dim: int | None = None,
        start: Start = "zero",
    ) -> None:
        check_choice("cell", cell, CELLS)
        check_choice("start", start, ("zero", "trained"))
        check_counts(hidden_dim=hidden_dim, num_layers=num_layers)
        family_of_labels = one_family("num_labels", num_labels, "labels", labels)
        super().__init__(one_family("num_symbols", num_symbols, "inputs", inputs), family_of_labels, task)
        self.cell_name, self.num_layers = cell, num_layers
        self.start: Start = start
        self.embedding = _embedding(self.inputs, embedding_dim)
        input_dim = self.inputs.input_dim if self.embedding is None else self.embedding.embedding_dim
        self.cell = CELLS[cell](input_dim, hidden_dim, num_layers)
        self.readout = self.labels.head(hidden_dim)
        zero = torch.zeros(self.cell.state_dim)
        if start == "trained":
            self.initial_memory: Tensor = nn.Parameter(zero)
        else:
            self.register_buffer("initial_memory", zero)

    @property
    @override
    def recipe(self) -> tuple[str, dict[str, Any]]:
        embedding_dim = None if self.embedding is None else self.embedding.embedding_dim
        sizes = {"hidden_dim": self.cell.hidden_dim, "num_layers": self.num_layers, "embedding_dim": embedding_dim}
        return NAME, {"cell": self.cell_name, **sizes, "task": self.task, "start": self.start}

    @override
    def hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """h_t of the top layer, (batch, T, hidden_dim)."""
        values = self.inputs.as_input(x) if self.embedding is None else self.embedding(x)
        time_first = values.to(self.initial_memory.dtype).transpose(0, 1)  # (T, batch, input_dim)
        h = self.cell.unroll(time_first, self.initial_memory)[1:].transpose(0, 1)
        return h.where(length_mask(lengths, x.shape[1])[..., None], 0.0)

    @override
    def ends(self, h: Tensor, lengths: Tensor) -> Tensor:
        """h_T, (batch, hidden_dim)."""
        return last_of(h, lengths)


def _embedding(inputs: Emission, embedding_dim: int | None) -> nn.Embedding | None:
    if embedding_dim is None:
        return None
    check_counts(embedding_dim=embedding_dim)
    if not isinstance(inputs, Categorical):
        raise ValueError(f"expected embedding_dim only for symbols, got {embedding_dim} for {inputs}; leave it out")
    return nn.Embedding(inputs.num_symbols, embedding_dim)


INFO = LabelInfo(
    NAME,
    Tagger,
    "One recurrent network, a law of labels given the sequence up to each of them.",
    {
        "cell": replace(CELL, default="gru"),
        "hidden_dim": replace(HIDDEN_DIM, default=32),
        "num_layers": Size("Stacked layers.", default=1),
        "embedding_dim": Size("Width of a symbol's embedding.", shown="one-hot symbols"),
    },
)
