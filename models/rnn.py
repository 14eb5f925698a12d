"""The recurrent network as a graphical model with Delta-distributed hidden states.

    h_t = f(h_{t-1}, x_{t-1})        P(H_t | h_{t-1}, x_{t-1}) = delta(H_t = f(h_{t-1}, x_{t-1}))
    x_t ~ g(h_t)

Choe, Shin & Spencer (2017), sec. 3.1 and fig. 3; Sohl-Dickstein & Kingma (2015), eq. (1)-(2).
Differences from the papers: h_1 is a trained parameter as in the second (the first has h_0 = 0), and the first
observation has a law, the emission at h_1, unless first="condition".
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Categorical, Emission, chosen_family
from pgm_rnn.models.cells import CELL, CELLS, NUM_LAYERS
from pgm_rnn.models.info import HIDDEN_DIM, GradientFit, ModelInfo
from pgm_rnn.sequence_model import First, SequenceModel, UnrollsMemory


class RNN(UnrollsMemory, SequenceModel):
    """A recurrent network with any cell and any emission.

    Args:
        cell: "elman", "elman-relu", "elman-sigmoid", "elman-linear", "gru", "lstm", "deep-transition", or one that is
            linear in its state, "min-gru" or "lru"; see `pgm_rnn.models.cells`.
        num_symbols: short for emission=Categorical(num_symbols).
        hidden_dim: width of the hidden vector that the emission reads.
        num_layers: stacked layers, or layers of the transition for "deep-transition".
        emission: the family of the observations; give this or `num_symbols`.
        embedding_dim: width of a symbol's embedding, `hidden_dim` if None; other observations enter as they are.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        ValueError: an unknown cell, sizes below 1, or not exactly one of num_symbols and emission.

    Example:
        >>> rnn = RNN(cell="lstm", num_symbols=3, hidden_dim=8)
        >>> batch = rnn.sample(num_sequences=5, num_steps=4, seed=0)
        >>> rnn.log_prob(batch.x).shape
        torch.Size([5])
    """

    def __init__(
        self,
        cell: str = "elman",
        num_symbols: int | None = None,
        hidden_dim: int = 32,
        num_layers: int = 1,
        *,
        emission: Emission | None = None,
        embedding_dim: int | None = None,
        first: First = "model",
    ) -> None:
        super().__init__(chosen_family(num_symbols, emission), first)
        check_choice("cell", cell, CELLS)
        check_counts(
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            embedding_dim=hidden_dim if embedding_dim is None else embedding_dim,
        )
        self.cell_name, self.num_layers = cell, num_layers
        self.embedding = symbol_embedding(self.family, hidden_dim, embedding_dim)
        input_dim = self.family.input_dim if self.embedding is None else self.embedding.embedding_dim
        self.cell = CELLS[cell](input_dim, hidden_dim, num_layers)
        self.readout = self.family.head(hidden_dim)
        self.initial_memory = nn.Parameter(torch.zeros(self.cell.state_dim))

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name, cell and sizes, which make a model of this shape."""
        embedding_dim = None if self.embedding is None else self.embedding.embedding_dim
        sizes = {"hidden_dim": self.cell.hidden_dim, "num_layers": self.num_layers, "embedding_dim": embedding_dim}
        return f"rnn-{self.cell_name}", sizes

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """h_t = f(h_{t-1}, x_{t-1}): (..., state_dim)."""
        return self.cell.step(self._input(x), h)

    def emission(self, z: None, h: Tensor) -> TorchDistribution:
        """g(h_t), which reads the top layer: h is (..., state_dim) or already (..., hidden_dim)."""
        law: TorchDistribution = self.readout(h[..., : self.cell.hidden_dim])
        return law

    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """The top layer of h_1, ..., h_T, (batch, T, hidden_dim), by one run of the fused network."""
        assert self.initial_memory is not None
        previous = self._input(x[:, :-1].transpose(0, 1))  # (T - 1, batch, input_dim)
        return self.cell.unroll(previous, self.initial_memory).transpose(0, 1)

    def _input(self, x: Tensor) -> Tensor:
        return self.family.as_input(x) if self.embedding is None else self.embedding(x)


def symbol_embedding(family: Emission, hidden_dim: int, embedding_dim: int | None) -> nn.Embedding | None:
    """The embedding of symbols that a recurrence reads, of width hidden_dim by default; None for other observations.

    Raises:
        ValueError: an embedding_dim for observations that are no symbols.
    """
    if isinstance(family, Categorical):
        return nn.Embedding(family.num_symbols, embedding_dim or hidden_dim)
    if embedding_dim is not None:
        raise ValueError(f"expected embedding_dim only for symbols, got {embedding_dim} for {family}")
    return None


_FIT = GradientFit(
    "A recurrent network, by gradient steps until the validation loss stops improving.",
    {"cell": replace(CELL, default="lstm"), "hidden_dim": replace(HIDDEN_DIM, default=64), "num_layers": NUM_LAYERS},
    command="rnn",
    named_by="cell",
)
INFOS = tuple(
    ModelInfo(
        f"rnn-{cell}",
        partial(RNN, cell),
        "the hidden state",
        "-",
        "Choe et al. sec. 3.1, fig. 3; Sohl-Dickstein & Kingma sec. 1",
        {"num_symbols": 2},
        shares_weights=True,
        title="`RNN`: Elman (tanh, relu, sigmoid, linear), GRU, LSTM, stacked, deep transition, minGRU, LRU",
        fit=_FIT,
        small={"hidden_dim": 3},
        unbounded_memory=cell in ("elman-linear", "min-gru", "lru"),
    )
    for cell in CELLS
)
"""One entry for each cell."""
