"""Recurrent cells: h' = f(h, x), one step at a time or a whole padded batch at once.

The state of a cell is one vector, so that it can be one Delta site: the top layer's hidden vector first, then the
other layers' from the top down, then, for the LSTM, the memory cells in the same order. An emission reads the first
`hidden_dim` entries. A layer's input is the hidden vector of the layer below at the same step.

    elman            h' = a(W x + b + U h + c), a = tanh, relu, sigmoid, none      Choe et al. (2017), sec. 2.1
    gru              h' = (1 - s) n + s h, n = tanh(W x + b + r (U h + c))        Vidal (2024), GRU; see below
    lstm             c' = f c + i g,  h' = o tanh(c')                             Vidal (2024), LSTM
    deep-transition  h' = a_L(U_L ... a_1(U_1 h + W x + b)), a = tanh             Pascanu et al. (2014), DT(S)-RNN
    min-gru          h' = (1 - s) h + s n, linear in h; s and n read only x       `pgm_rnn.models.linear_cells`
    lru              h' = lambda h + gamma B x, complex and diagonal              the same

Differences from the sources: the gates of the GRU follow torch, where the reset gate multiplies U h + c (after the
matrix product) and s weighs the old state; the slide multiplies h before the product and lets 1 - s weigh it.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.kernels.gates import gru, lstm
from pgm_rnn.kernels.transforms import is_transformed
from pgm_rnn.models.cell import Cell
from pgm_rnn.models.info import Size
from pgm_rnn.models.linear_cells import lru, min_gru
from pgm_rnn.models.networks import GRU


class StackedCell(Cell):
    """Layers of Elman, GRU or LSTM units whose weights live in one of torch's fused networks.

    Args:
        network: `torch.nn.RNN`, `GRU` or `LSTM`; `unroll` runs it over the whole batch.
        layer_step: the equations of one layer; maps (W x + b, U h + c, hidden vector, memory cell) to the new pair.
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

    def input_map(self, layer: int) -> tuple[Tensor, Tensor]:
        """W and b of a layer."""
        return getattr(self.network, f"weight_ih_l{layer}"), getattr(self.network, f"bias_ih_l{layer}")

    def recurrent_map(self, layer: int) -> tuple[Tensor, Tensor]:
        """U and c of a layer."""
        return getattr(self.network, f"weight_hh_l{layer}"), getattr(self.network, f"bias_hh_l{layer}")

    @property
    @override
    def projected_dim(self) -> int:
        return self.input_map(0)[0].shape[0]

    @override
    def project(self, x: Tensor) -> Tensor:
        return F.linear(x, *self.input_map(0))

    @override
    def advance(self, projected: Tensor, h: Tensor) -> Tensor:
        hidden, cells = self.layers(h)
        new_hidden: list[Tensor] = []
        new_cells: list[Tensor | None] = []
        for i, (h_i, c_i) in enumerate(zip(hidden, cells, strict=True)):
            from_x = projected if i == 0 else F.linear(new_hidden[-1], *self.input_map(i))
            after, cell = self.layer_step(from_x, F.linear(h_i, *self.recurrent_map(i)), h_i, c_i)
            new_hidden.append(after)
            new_cells.append(cell)
        parts = [*new_hidden[::-1], *(c for c in new_cells[::-1] if c is not None)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def gated(self, from_x: Tensor, from_h: Tensor, h: Tensor) -> Tensor:
        """The state after a step of a single layer, from W x + b and U h + c, each (..., projected_dim)."""
        if not self.has_cells:
            return self.layer_step(from_x, from_h, h, None)[0]
        hidden, cell = self.layer_step(from_x, from_h, *h.chunk(2, dim=-1))
        assert cell is not None  # an LSTM has memory cells
        return torch.cat([hidden, cell], dim=-1)

    @override
    def unroll(self, x: Tensor, h: Tensor) -> Tensor:
        if len(x) == 0 or is_transformed((x, h, *self.network.parameters())):  # vmap has no rule for these networks
            return super().unroll(x, h)
        hidden, cells = self.layers(h)
        start = torch.stack([part.expand(x.shape[1], -1) for part in hidden])  # (layers, batch, hidden_dim)
        if self.has_cells:
            start_cells = torch.stack([part.expand(x.shape[1], -1) for part in cells if part is not None])
            after = self.network(x, (start, start_cells))[0]
        else:
            after = self.network(x, start)[0]
        return torch.cat([start[-1:], after])


class UnfusedElmanCell(StackedCell):
    """Elman layers with an activation for which torch has no fused network."""

    def __init__(
        self, activation: Callable[[Tensor], Tensor], input_dim: int, hidden_dim: int, num_layers: int
    ) -> None:
        super().__init__(nn.RNN(input_dim, hidden_dim, num_layers), partial(_elman_step, activation))
        self.activation = activation

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

    @property
    @override
    def projected_dim(self) -> int:
        return self.hidden_dim

    @override
    def project(self, x: Tensor) -> Tensor:
        return self.input(x)

    @override
    def advance(self, projected: Tensor, h: Tensor) -> Tensor:
        first, *deeper = self.recurrent
        h = torch.tanh(projected + first(h))
        for layer in deeper:
            h = torch.tanh(layer(h))
        return h


LayerStep = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


def _elman_step(
    activation: Callable[[Tensor], Tensor], from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    return activation(from_x + from_h), None


def _gru_step(from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return gru(from_x, from_h, h), None


def _lstm_step(from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    assert c is not None
    return lstm(from_x + from_h, c)


def _identity(x: Tensor) -> Tensor:
    return x


CELLS: dict[str, Callable[[int, int, int], Cell]] = {
    "elman": lambda d, k, n: StackedCell(nn.RNN(d, k, n), partial(_elman_step, torch.tanh)),
    "elman-relu": lambda d, k, n: StackedCell(nn.RNN(d, k, n, nonlinearity="relu"), partial(_elman_step, torch.relu)),
    "elman-sigmoid": partial(UnfusedElmanCell, torch.sigmoid),
    "elman-linear": partial(UnfusedElmanCell, _identity),
    "gru": lambda d, k, n: StackedCell(GRU(d, k, n), _gru_step),
    "lstm": lambda d, k, n: StackedCell(nn.LSTM(d, k, n), _lstm_step),
    "deep-transition": DeepTransitionCell,
    "min-gru": min_gru,
    "lru": lru,
}
"""Makers of the cells by name, each a function of (input_dim, hidden_dim, num_layers)."""


CELL = Size("Cell of the recurrence, such as elman, gru or lstm.", kind=str, choices=tuple(CELLS))
NUM_LAYERS = Size("Number of stacked layers.", shown="1")
