"""Many small taggers computed as one: the parameters of `pgm_rnn.models.Tagger`s of one shape, stacked.

    h_0 = 0,   h_t = tanh(W x_t + U h_{t-1} + b)        x_t one-hot
    y_t ~ Categorical(softmax(V h_t + c))               p(y_t | x_{1:t})

Choe, Shin & Spencer (2017), sec. 2.1 and 4.1; the label is the hidden Markov model's state z_t, or the next symbol.
`stacked` makes a stack of Taggers and `tagger_of` makes a Tagger of a stack; between them stand matrix products over
all networks at once, which are faster than torch.func.vmap of a Tagger (docs/benchmarks.md, "Many small networks").
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pgm_rnn.models.tagger import Start, Tagger
from pgm_rnn.randomness import seeded

Weights = dict[str, Tensor]
"""W (S, k, p), U (S, k, k), b (S, k), V (S, m, k), c (S, m) and h_0 (S, k) of S networks."""
NAMES = {
    "W": "cell.network.weight_ih_l0",
    "U": "cell.network.weight_hh_l0",
    "b": "cell.network.bias_ih_l0",
    "V": "readout.weight",
    "c": "readout.bias",
    "h_0": "initial_memory",
}
"""Names of these tensors in a Tagger; b is the sum of the cell's two biases, which occur only as a sum."""
OTHER_BIAS = "cell.network.bias_hh_l0"


def parameter_count(num_symbols: int, num_labels: int, hidden_dim: int) -> int:
    """Entries of W, U, b, V and c: k p + k k + k + m k + m."""
    return hidden_dim * (num_symbols + hidden_dim + 1 + num_labels) + num_labels


def initial_weights(num_symbols: int, num_labels: int, hidden_dim: int, seeds: Sequence[int]) -> Weights:
    """Fresh taggers with torch's initialisation, one per seed, in float32."""
    networks = []
    for seed in seeds:
        with seeded(seed):
            networks.append(Tagger("elman", num_symbols, num_labels, hidden_dim).float())
    return stacked(networks)


@torch.no_grad()
def stacked(networks: Sequence[Tagger]) -> Weights:
    """The weights of Elman taggers of one shape that read one-hot symbols."""
    tables = [{**dict(network.named_parameters()), **dict(network.named_buffers())} for network in networks]

    def stack(name: str) -> Tensor:
        return torch.stack([table[name] for table in tables])

    weights = {symbol: stack(name) for symbol, name in NAMES.items()}
    return {**weights, "b": weights["b"] + stack(OTHER_BIAS)}


def tagger_of(weights: Weights, index: int = 0) -> Tagger:
    """One network of a stack, in its dtype; its h_0 counts as trained unless it is zero."""
    one = {symbol: value[index].detach().clone() for symbol, value in weights.items()}
    (hidden_dim, num_symbols), num_labels = one["W"].shape, len(one["c"])
    with torch.device("meta"):  # no numbers, which would be drawn only to be replaced
        start: Start = "trained" if bool(one["h_0"].any()) else "zero"
        network = Tagger("elman", num_symbols, num_labels, hidden_dim, start=start)
    state = {name: one[symbol] for symbol, name in NAMES.items()}
    network.load_state_dict({**state, OTHER_BIAS: torch.zeros_like(one["b"])}, assign=True)
    return network


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
