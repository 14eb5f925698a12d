"""Cells that are linear in their state: h_t = a_t h_{t-1} + b_t, entry by entry, where a_t and b_t read only the input.

All steps are then one `diagonal_recurrence`, whose time grows with log T on a GPU.

    min-gru   h' = (1 - s) h + s n,   s = sigmoid(W x + b),  n = V x + c          Feng et al. (2024), sec. 3.1
    lru       h' = lambda h + gamma B x,   h complex,   gamma = sqrt(1 - |lambda|^2)    Orvieto et al. (2023), sec. 3
              |lambda| = exp(-exp(log_decay)),   arg lambda = exp(log_angle)

Differences from the sources. The hidden vector of the LRU holds the real parts of h and then the imaginary ones, so
that a linear emission is their output Re(C h); of an odd number of entries, the last real part stands alone, as a real
eigenvalue would. It has no direct path D x, and gamma follows lambda, where they start it there and train it beside B.
A layer above another reads Re(C h) + c of it through the activation gelu in an LRU, and its hidden vector as it is in a
minGRU; they put blocks of feed-forward layers and normalisation between.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.kernels.diagonal import diagonal_recurrence
from pgm_rnn.models.cell import Cell


class LinearLayer(nn.Module, ABC):
    """A layer h' = a h + b with a and b from its input."""

    @property
    @abstractmethod
    def projected_dim(self) -> int:
        """Width of `project`."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The linear map of an input (..., input_dim) from which `coefficients` are made, (..., projected_dim)."""

    @abstractmethod
    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficient a and the input b of a step, (..., units); a may lack the axes of b."""

    def to_units(self, h: Tensor) -> Tensor:
        """The entries of the recurrence, (..., units), from real ones, (..., hidden_dim)."""
        return h

    def to_real(self, h: Tensor) -> Tensor:
        """The inverse of `to_units`."""
        return h


class MinGRU(LinearLayer):
    """h' = (1 - s) h + s n with s = sigmoid(W x + b) and n = V x + c.

    Args:
        input_dim: width of the input, which may be the hidden vector of a layer below.
        hidden_dim: number of entries of h.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_dim, 2 * hidden_dim)

    @property
    @override
    def projected_dim(self) -> int:
        return self.input.out_features

    @override
    def project(self, x: Tensor) -> Tensor:
        return self.input(x)

    @override
    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        gate, candidate = projected.chunk(2, dim=-1)
        return torch.sigmoid(-gate), torch.sigmoid(gate) * candidate


class LRU(LinearLayer):
    """h' = lambda h + sqrt(1 - |lambda|^2) B x.

    Args:
        input_dim: width of the input.
        hidden_dim: number of real entries of h.
        above: whether the input is the hidden vector of a layer of this kind, of which it then reads gelu(Re(C h) + c).

    Attributes:
        log_decay: log(-log |lambda|), (units,).
        log_angle: log arg lambda, (hidden_dim // 2,), radians; the angle of a real unit is zero.
    """

    def __init__(self, input_dim: int, hidden_dim: int, above: bool = False) -> None:
        super().__init__()
        self.num_real, num_imaginary = hidden_dim - hidden_dim // 2, hidden_dim // 2
        self.output = nn.Linear(input_dim, input_dim) if above else None
        self.input = nn.Linear(input_dim, hidden_dim, bias=False)
        area = torch.rand(self.num_real).clamp(1e-4, 1 - 1e-4)  # |lambda|^2, so that lambda is uniform on the disc
        self.log_decay = nn.Parameter((-area.log() / 2).log())
        self.log_angle = nn.Parameter((2 * math.pi * torch.rand(num_imaginary).clamp(min=1e-4)).log())

    @property
    def eigenvalues(self) -> Tensor:
        """The factors lambda, (units,), complex, inside the unit circle."""
        angle = F.pad(self.log_angle.exp(), (0, self.num_real - len(self.log_angle)))
        return torch.polar(torch.exp(-self.log_decay.exp()), angle)

    @property
    @override
    def projected_dim(self) -> int:
        return self.input.out_features

    @override
    def project(self, x: Tensor) -> Tensor:
        return self.input(x if self.output is None else F.gelu(self.output(x)))

    @override
    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        gamma = torch.sqrt(-torch.expm1(-2 * self.log_decay.exp()))
        return self.eigenvalues, gamma * self.to_units(projected)

    @override
    def to_units(self, h: Tensor) -> Tensor:
        real, imaginary = h.split([self.num_real, h.shape[-1] - self.num_real], dim=-1)
        return torch.complex(real, F.pad(imaginary, (0, 2 * self.num_real - h.shape[-1])))

    @override
    def to_real(self, h: Tensor) -> Tensor:
        return torch.cat([h.real, h.imag[..., : len(self.log_angle)]], dim=-1)


class LinearCell(Cell):
    """Stacked layers, each linear in its own state.

    Args:
        layers: the layers from the bottom up; each but the first reads the hidden vector of the one below.
        input_dim: width of an input.
        hidden_dim: real entries of the state of a layer.
    """

    def __init__(self, layers: Sequence[LinearLayer], input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input_dim, self.hidden_dim, self.num_layers = input_dim, hidden_dim, len(layers)
        self.state_dim = hidden_dim * len(layers)
        self.layers = nn.ModuleList(layers)

    @property
    @override
    def projected_dim(self) -> int:
        return self._stack()[0].projected_dim

    @override
    def project(self, x: Tensor) -> Tensor:
        return self._stack()[0].project(x)

    @override
    def advance(self, projected: Tensor, h: Tensor) -> Tensor:
        new: list[Tensor] = []
        for layer, before in zip(self._stack(), self._parts(h), strict=True):
            a, b = layer.coefficients(layer.project(new[-1]) if new else projected)
            new.append(layer.to_real(a * layer.to_units(before) + b))
        return new[0] if len(new) == 1 else torch.cat(new[::-1], dim=-1)

    @override
    def unroll(self, x: Tensor, h: Tensor) -> Tensor:
        starts = [part.expand(x.shape[1], -1) for part in self._parts(h)]
        if len(x) == 0:
            return starts[-1][None]
        for layer, start in zip(self._stack(), starts, strict=True):
            a, b = layer.coefficients(layer.project(x))
            a = a.expand(1, 1, -1) if a.dim() == 1 else a
            x = layer.to_real(diagonal_recurrence(a, b, layer.to_units(start)))
        return torch.cat([starts[-1][None], x])

    def _stack(self) -> list[LinearLayer]:
        return [layer for layer in self.layers if isinstance(layer, LinearLayer)]

    def _parts(self, h: Tensor) -> list[Tensor]:
        """The state of each layer from the bottom up, (..., hidden_dim)."""
        return list(h.split(self.hidden_dim, dim=-1))[::-1]


def min_gru(input_dim: int, hidden_dim: int, num_layers: int) -> LinearCell:
    """A cell of stacked minGRU layers."""
    layers = [MinGRU(hidden_dim if i else input_dim, hidden_dim) for i in range(num_layers)]
    return LinearCell(layers, input_dim, hidden_dim)


def lru(input_dim: int, hidden_dim: int, num_layers: int) -> LinearCell:
    """A cell of stacked LRU layers."""
    layers = [LRU(hidden_dim if i else input_dim, hidden_dim, above=i > 0) for i in range(num_layers)]
    return LinearCell(layers, input_dim, hidden_dim)
