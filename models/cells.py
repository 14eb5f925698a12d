"""Recurrent cells: h' = f(h, x), one step at a time or a whole padded batch at once.

The state of a cell is one vector, so that it can be one Delta site: the top layer's hidden vector first, then the
other layers' from the top down, then, for the LSTM, the memory cells in the same order. What an emission reads is
the first `hidden_dim` entries. A layer's input is the hidden vector of the layer below at the same step.

    elman            h' = a(W x + b + U h + c), a = tanh, relu or sigmoid         Choe et al. (2017), sec. 2.1
    gru              h' = (1 - s) n + s h, n = tanh(W x + b + r (U h + c))        Vidal (2024), GRU; see below
    lstm             c' = f c + i g,  h' = o tanh(c')                             Vidal (2024), LSTM
    deep-transition  h' = a_L(U_L ... a_1(U_1 h + W x + b)), a = tanh             Pascanu et al. (2014), DT(S)-RNN

Differences from the sources: the gates of the GRU follow torch, where the reset gate multiplies U h + c (after the
matrix product) and s weighs the old state; the slide multiplies h before the product and lets 1 - s weigh it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override


class Cell(nn.Module, ABC):
    """A deterministic state transition h' = f(h, x).

    Attributes:
        input_dim: width of an input.
        hidden_dim: width of what an emission reads.
        state_dim: width of the whole state.
    """

    input_dim: int
    hidden_dim: int
    state_dim: int

    @abstractmethod
    def step(self, x: Tensor, h: Tensor) -> Tensor:
        """The state (..., state_dim) after input x (..., input_dim) in state h (..., state_dim)."""

    def unroll(self, x: Tensor, h: Tensor) -> Tensor:
        """Hidden vectors before and after each of T >= 0 inputs, time first as torch's networks are fastest.

        Args:
            x: inputs, (T, batch, input_dim).
            h: the state before all of them, (state_dim,).

        Returns:
            (T + 1, batch, hidden_dim), its first row the hidden vector of h.
        """
        states = [h.expand(x.shape[1], -1)]
        for x_t in x.unbind(0):
            states.append(self.step(x_t, states[-1]))
        return torch.stack([state[:, : self.hidden_dim] for state in states])


class StackedCell(Cell):
    """Layers of Elman, GRU or LSTM units whose weights live in one of torch's fused networks.

    Args:
        network: `torch.nn.RNN`, `GRU` or `LSTM`; `unroll` runs it over the whole batch.
        layer_step: the equations of one layer: (W x + b, U h + c, hidden vector, memory cell) to the new pair.
    """

    def __init__(self, network: nn.RNNBase, layer_step: "LayerStep") -> None:
        super().__init__()
        self.network = network
        self.layer_step = layer_step
        self.input_dim, self.hidden_dim = network.input_size, network.hidden_size
        self.num_layers = network.num_layers
        self.has_cells = isinstance(network, nn.LSTM)
        self.state_dim = self.hidden_dim * self.num_layers * (2 if self.has_cells else 1)

    def layers(self, h: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        """Hidden vectors and memory cells from the bottom layer up, each (..., hidden_dim)."""
        parts = list(h.split(self.hidden_dim, dim=-1))
        hidden, cells = parts[: self.num_layers], parts[self.num_layers :]
        return hidden[::-1], list(cells[::-1]) if cells else [None] * self.num_layers

    @override
    def step(self, x: Tensor, h: Tensor) -> Tensor:
        hidden, cells = self.layers(h)
        new_hidden, new_cells = [], []
        for i, (h_i, c_i) in enumerate(zip(hidden, cells, strict=True)):
            w_ih, w_hh, b_ih, b_hh = (
                getattr(self.network, f"{name}_l{i}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            x, cell = self.layer_step(F.linear(x, w_ih, b_ih), F.linear(h_i, w_hh, b_hh), h_i, c_i)
            new_hidden.append(x)
            new_cells.append(cell)
        return torch.cat([*new_hidden[::-1], *(c for c in new_cells[::-1] if c is not None)], dim=-1)

    @override
    def unroll(self, x: Tensor, h: Tensor) -> Tensor:
        if len(x) == 0:
            return super().unroll(x, h)
        hidden, cells = self.layers(h)
        start = torch.stack(hidden)[:, None].expand(-1, x.shape[1], -1).contiguous()  # (layers, batch, hidden_dim)
        if self.has_cells:
            start_cells = torch.stack([c for c in cells if c is not None])[:, None].expand_as(start).contiguous()
            after = self.network(x, (start, start_cells))[0]
        else:
            after = self.network(x, start)[0]
        return torch.cat([start[-1:], after])


class SigmoidElmanCell(StackedCell):
    """Elman layers with a logistic activation, for which torch has no fused network."""

    def __init__(self, input_dim: int, hidden_dim: int, num_layers: int) -> None:
        super().__init__(nn.RNN(input_dim, hidden_dim, num_layers), partial(_elman_step, torch.sigmoid))

    @override
    def unroll(self, x: Tensor, h: Tensor) -> Tensor:
        return Cell.unroll(self, x, h)


class DeepTransitionCell(Cell):
    """A transition that is itself a network of `num_layers` layers; the state is its last layer."""

    def __init__(self, input_dim: int, hidden_dim: int, num_layers: int) -> None:
        super().__init__()
        self.input_dim, self.hidden_dim, self.state_dim = input_dim, hidden_dim, hidden_dim
        self.input = nn.Linear(input_dim, hidden_dim)
        self.recurrent = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim, bias=layer > 0) for layer in range(num_layers))

    @override
    def step(self, x: Tensor, h: Tensor) -> Tensor:
        first, *deeper = self.recurrent
        h = torch.tanh(self.input(x) + first(h))
        for layer in deeper:
            h = torch.tanh(layer(h))
        return h


LayerStep = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


def _elman_step(
    activation: Callable[[Tensor], Tensor], from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    return activation(from_x + from_h), None


def _gru_step(from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    (r_x, s_x, n_x), (r_h, s_h, n_h) = from_x.chunk(3, dim=-1), from_h.chunk(3, dim=-1)
    r, s = torch.sigmoid(r_x + r_h), torch.sigmoid(s_x + s_h)
    return (1 - s) * torch.tanh(n_x + r * n_h) + s * h, None


def _lstm_step(from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    assert c is not None
    i, f, g, o = (from_x + from_h).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


CELLS: dict[str, Callable[[int, int, int], Cell]] = {
    "elman": lambda d, k, n: StackedCell(nn.RNN(d, k, n), partial(_elman_step, torch.tanh)),
    "elman-relu": lambda d, k, n: StackedCell(nn.RNN(d, k, n, nonlinearity="relu"), partial(_elman_step, torch.relu)),
    "elman-sigmoid": SigmoidElmanCell,
    "gru": lambda d, k, n: StackedCell(nn.GRU(d, k, n), _gru_step),
    "lstm": lambda d, k, n: StackedCell(nn.LSTM(d, k, n), _lstm_step),
    "deep-transition": DeepTransitionCell,
}
"""Name to maker (input_dim, hidden_dim, num_layers) of each cell."""
