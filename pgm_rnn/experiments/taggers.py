"""Many small recurrent networks that label sequences, computed as one: their weights are stacked.

    h_0 = 0,   h_t = tanh(W x_t + U h_{t-1} + b)        x_t one-hot
    y_t ~ Categorical(softmax(V h_t + c))               p(y_t | x_{1:t})

Choe, Shin & Spencer (2017), sec. 2.1 and 4.1; the label is the hidden Markov model's state z_t, or the next symbol.
A network is an "elman" cell of `pgm_rnn.models.cells` under the head of `Categorical`; what is stacked is their
parameters. Differences from the paper: on request h_0 is trained, as in `pgm_rnn.models.RNN`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgm_rnn.emissions import Categorical
from pgm_rnn.models.cells import CELLS, Cell
from pgm_rnn.randomness import seeded

Weights = dict[str, Tensor]
"""W (S, k, p), U (S, k, k), b (S, k), V (S, m, k), c (S, m) and h_0 (S, k) of S networks."""


class Tagger(nn.Module):
    """One network: the law p(y_t | x_{1:t}) of a label at every step.

    Args:
        num_symbols: p, of the sequence.
        num_labels: m.
        hidden_dim: k.
    """

    def __init__(self, num_symbols: int, num_labels: int, hidden_dim: int) -> None:
        super().__init__()
        self.inputs = Categorical(num_symbols)
        self.cell: Cell = CELLS["elman"](num_symbols, hidden_dim, 1)
        self.readout = Categorical(num_labels).head(hidden_dim)
        self.start = nn.Parameter(torch.zeros(hidden_dim))

    def forward(self, x: Tensor) -> Tensor:
        """log p(y_t | x_{1:t}) in nats, (B, T, m), for symbols (B, T)."""
        after = self.cell.unroll(F.one_hot(x.mT, self.inputs.num_symbols).to(self.start.dtype), self.start)[1:]
        log_probs: Tensor = self.readout(after).logits
        return log_probs.transpose(0, 1)


def parameter_count(num_symbols: int, num_labels: int, hidden_dim: int) -> int:
    """Entries of W, U, b, V and c: k p + k k + k + m k + m."""
    return hidden_dim * (num_symbols + hidden_dim + 1 + num_labels) + num_labels


def initial_weights(num_symbols: int, num_labels: int, hidden_dim: int, seeds: Sequence[int]) -> Weights:
    """Fresh networks, torch's initialisation, one a seed, in float32."""
    networks = []
    for seed in seeds:
        with seeded(seed):
            networks.append(Tagger(num_symbols, num_labels, hidden_dim).float())
    return stacked(networks)


@torch.no_grad()
def stacked(networks: Sequence[Tagger]) -> Weights:
    """The weights of networks of one shape; the cell's two biases, which are only ever added, become one."""
    tables = [dict(network.named_parameters()) for network in networks]

    def stack(name: str) -> Tensor:
        return torch.stack([table[name] for table in tables])

    return {
        "W": stack("cell.network.weight_ih_l0"),
        "U": stack("cell.network.weight_hh_l0"),
        "b": stack("cell.network.bias_ih_l0") + stack("cell.network.bias_hh_l0"),
        "V": stack("readout.weight"),
        "c": stack("readout.bias"),
        "h_0": stack("start"),
    }


def hidden_states(weights: Weights, x: Tensor) -> Tensor:
    """h_1, ..., h_T of every network on its own sequences: x is (S, B, T), the result (S, T, B, k)."""
    num_networks, batch, num_steps = x.shape
    symbols = F.one_hot(x.mT.reshape(num_networks, -1), weights["W"].shape[-1]).to(weights["W"].dtype)  # (S, T B, p)
    from_x = torch.baddbmm(weights["b"][:, None], symbols, weights["W"].mT).view(num_networks, num_steps, batch, -1)
    recurrent = weights["U"].mT
    h, states = weights["h_0"][:, None].expand(-1, batch, -1), []
    for from_x_t in from_x.unbind(1):
        h = torch.tanh(torch.baddbmm(from_x_t, h, recurrent))
        states.append(h)
    return torch.stack(states, dim=1)


def label_log_probs(weights: Weights, x: Tensor) -> Tensor:
    """log p(y_t | x_{1:t}) of every network, nats: x is (S, B, T), the result (S, T, B, m)."""
    h = hidden_states(weights, x)
    return read(weights, h.flatten(1, 2)).view(*h.shape[:3], -1)


def read(weights: Weights, h: Tensor) -> Tensor:
    """log softmax(V h + c), (S, N, m), of hidden states (S, N, k)."""
    return torch.baddbmm(weights["c"][:, None], h, weights["V"].mT).log_softmax(-1)
