"""Recurrent networks beside torch's own layers with the same weights."""

import torch
from torch import Tensor, nn

from pgm_rnn.models import RNN
from tools.published.chains import value_of
from tools.published.data import SYMBOL_WORDS, symbols
from tools.published.problem import SAME, Number, Peer, Problem

LAYERS = {
    "rnn-elman": ("elman", "nn.RNN", lambda: nn.RNN(8, 8, batch_first=True)),
    "rnn-elman-relu": ("elman-relu", "nn.RNN with relu", lambda: nn.RNN(8, 8, nonlinearity="relu", batch_first=True)),
    "rnn-gru": ("gru", "nn.GRU", lambda: nn.GRU(8, 8, batch_first=True)),
    "rnn-lstm": ("lstm", "nn.LSTM", lambda: nn.LSTM(8, 8, batch_first=True)),
}
"""Cell, torch's layer and its maker, by the name of the model."""


def network(cell: str) -> RNN:
    """A network of eight hidden units over two symbols, with fixed weights."""
    model = RNN(cell, num_symbols=2, hidden_dim=8).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@torch.no_grad()
def of_torch(name: str) -> Number:
    """sum_t log softmax(readout(h_t))[x_t], h_2, ..., h_T from torch's layer."""
    cell, _, make = LAYERS[name]
    model, x = network(cell), symbols()
    layer: nn.RNNBase = make().double()
    layer.load_state_dict({key: model.cell.state_dict()[f"network.{key}"] for key in layer.state_dict()})
    embedding, readout, start = (getattr(model, part) for part in ("embedding", "readout", "initial_memory"))
    halves = tuple(half.contiguous() for half in start[None, None].split(8, -1))  # h and, of an LSTM, c; (1, 1, 8)
    begun: Tensor | tuple[Tensor, ...] = halves if cell == "lstm" else halves[0]
    outputs, _ = layer(embedding(x[:, :-1]), begun)
    h = torch.cat([halves[0], outputs], 1)  # (1, T, 8)
    return Number(
        float(nn.functional.linear(h, readout.weight, readout.bias).log_softmax(-1).gather(-1, x[..., None]).sum())
    )


def _problem(name: str) -> Problem:
    cell, words, _ = LAYERS[name]
    peer = Peer("torch", f"{words}, then log_softmax", lambda: of_torch(name))
    test = "tests/models/test_cells.py::test_a_step_is_that_of_torchs_own_cell"
    return Problem(
        f"{name}-torch",
        name,
        SYMBOL_WORDS,
        "log likelihood",
        SAME,
        peer,
        lambda: value_of(network(cell), symbols()),
        1e-9,
        test,
    )


NETWORKS = tuple(_problem(name) for name in LAYERS)
"""Comparisons of networks."""
