"""A chain of discrete states that a recurrent network drives: a neural hidden Markov model, still exact.

    h_t = cell(h_{t-1}, x_{t-1})                              a network over past observations
    z_1 ~ softmax(a + A h_1),   z_t ~ softmax(b[z_{t-1}] + B[z_{t-1}] h_t)
    x_t ~ family(c[z_t] + C[z_t] h_t)

`reads` says which of the two laws sees h. The network reads observations only, never a state, so the states are summed
out exactly, however nonlinear the network is (`pgm_rnn.states`). With reads="transition" x depends on the past through
the chain alone; with "emission" every state has an output layer of its own, a mixture of K recurrent networks' outputs.
"""

from typing import Any, Literal, get_args

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.emissions import Emission, EmissionTable, chosen_family
from pgm_rnn.models.cells import CELL, CELLS, NUM_LAYERS
from pgm_rnn.models.info import HIDDEN_DIM, NUM_STATES, GradientFit, ModelInfo, Size
from pgm_rnn.models.rnn import symbol_embedding
from pgm_rnn.sequence_model import First, SequenceModel, UnrollsMemory
from pgm_rnn.states import FiniteStates

Reads = Literal["transition", "emission", "both"]


class RecurrentHMM(UnrollsMemory, SequenceModel):
    """A hidden Markov model whose probabilities depend on the past observations through a recurrent network.

    Args:
        num_states: K.
        num_symbols: short for emission=Categorical(num_symbols).
        hidden_dim: width of the network's hidden vector.
        cell: any cell of `pgm_rnn.models.cells`.
        num_layers: layers of the network.
        reads: which laws read the network: "transition" (the first state's included), "emission" or "both".
        emission: the family of the observations; give this or `num_symbols`.
        embedding_dim: width of a symbol's embedding, `hidden_dim` if None.
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        TypeError: a family whose members share weights.
        ValueError: an unknown cell or word, sizes below 1, or not exactly one of num_symbols and emission.

    Example:
        >>> model = RecurrentHMM(num_states=3, num_symbols=5, hidden_dim=8)
        >>> model.log_prob(torch.tensor([[0, 4, 2, 2]])).shape
        torch.Size([1])
    """

    def __init__(
        self,
        num_states: int,
        num_symbols: int | None = None,
        hidden_dim: int = 32,
        cell: str = "gru",
        num_layers: int = 1,
        *,
        reads: Reads = "transition",
        emission: Emission | None = None,
        embedding_dim: int | None = None,
        first: First = "model",
    ) -> None:
        super().__init__(chosen_family(num_symbols, emission), first)
        check_choice("cell", cell, CELLS)
        check_choice("reads", reads, get_args(Reads))
        check_counts(num_states=num_states, hidden_dim=hidden_dim, num_layers=num_layers)
        self.states, self.cell_name, self.num_layers, self.reads = FiniteStates(num_states), cell, num_layers, reads
        self.embedding = symbol_embedding(self.family, hidden_dim, embedding_dim)
        input_dim = self.family.input_dim if self.embedding is None else self.embedding.embedding_dim
        self.cell = CELLS[cell](input_dim, hidden_dim, num_layers)
        self.initial_memory = nn.Parameter(torch.zeros(self.cell.state_dim))
        self.initial_logits = nn.Parameter(torch.zeros(num_states))
        self.transition_logits = nn.Parameter(2.0 * torch.eye(num_states) + 0.1 * torch.randn(num_states, num_states))
        table = EmissionTable(self.family, 0.5 * torch.randn(num_states, self.family.num_params))
        self.emission_laws = table
        width = hidden_dim**-0.5
        if reads != "emission":
            self.initial_weight = nn.Parameter(torch.zeros(num_states, hidden_dim))
            self.transition_weight = nn.Parameter(width * torch.randn(num_states, num_states, hidden_dim))
        if reads != "transition":
            self.emission_weight = nn.Parameter(width * torch.randn(num_states, self.family.num_params, hidden_dim))

    @property
    def num_states(self) -> int:
        """K, the number of states."""
        return len(self.initial_logits)

    @property
    def recipe(self) -> tuple[str, dict[str, Any]]:
        """Name and sizes, which make a model of this shape."""
        embedding_dim = None if self.embedding is None else self.embedding.embedding_dim
        sizes = {"num_states": self.num_states, "hidden_dim": self.cell.hidden_dim, "cell": self.cell_name}
        sizes |= {"num_layers": self.num_layers, "reads": self.reads, "embedding_dim": embedding_dim}
        return "recurrent-hmm", sizes

    def recurrence(self, h: Tensor, z: None, x: Tensor) -> Tensor:
        """h_t = cell(h_{t-1}, x_{t-1}): (..., state_dim)."""
        return self.cell.step(self._input(x), h)

    def unroll_memory(self, x: Tensor, z: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """The top layer of h_1, ..., h_T, (batch, T, hidden_dim), by one run of the fused network."""
        assert self.initial_memory is not None
        return self.cell.unroll(self._input(x[:, :-1].transpose(0, 1)), self.initial_memory).transpose(0, 1)

    def initial(self, h: Tensor) -> TorchDistribution:
        """p(z_1 | h_1)."""
        logits: Tensor = self.initial_logits
        if self.reads != "emission":
            logits = logits + self._top(h) @ self.initial_weight.mT
        return dist.Categorical(logits=logits, validate_args=False)

    def transition(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(z_t | z_{t-1}, h_t)."""
        logits: Tensor = self.transition_logits[z]
        if self.reads != "emission":
            logits = logits + (self.transition_weight[z] @ self._top(h)[..., None])[..., 0]
        return dist.Categorical(logits=logits, validate_args=False)

    def emission(self, z: Tensor, h: Tensor) -> TorchDistribution:
        """p(x_t | z_t, h_t)."""
        params = self.emission_laws.params[z]
        if self.reads != "transition":
            params = self.family.within_range(params + (self.emission_weight[z] @ self._top(h)[..., None])[..., 0])
        return self.family.distribution(params)

    def _top(self, h: Tensor) -> Tensor:
        return h[..., : self.cell.hidden_dim]

    def _input(self, x: Tensor) -> Tensor:
        return self.family.as_input(x) if self.embedding is None else self.embedding(x)


INFO = ModelInfo(
    "recurrent-hmm",
    RecurrentHMM,
    "the network's hidden state",
    "discrete, enumerated",
    "Choe et al. sec. 2.2 and 3.1 in one model",
    {"num_states": 2, "num_symbols": 2},
    title="`RecurrentHMM`",
    fit=GradientFit(
        "A chain of discrete states that a recurrent network drives, by gradient steps on its exact likelihood.",
        {
            "num_states": NUM_STATES,
            "hidden_dim": HIDDEN_DIM,
            "cell": CELL,
            "num_layers": NUM_LAYERS,
            "reads": Size("Which laws read the network.", "transition", kind=str, choices=get_args(Reads)),
        },
    ),
    small={"num_states": 2, "hidden_dim": 3},
)
