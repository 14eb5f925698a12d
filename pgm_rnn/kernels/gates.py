"""The gates of recurrent units in few operations, for recurrences that must run step by step.

    gru     s h + (1 - s) n,   r = sigmoid(a_r + b_r),  s = sigmoid(a_s + b_s),  n = tanh(a_n + r b_n)
    lstm    c' = f c + i g,  h' = o tanh(c'),   i, f, o = sigmoid(.),  g = tanh(.) of a + b in parts i, f, g, o

a = W x + bias comes from the input and b = U h + bias from the state; parts are in the order of torch's networks.
Vidal (2024), GRU and LSTM; for the GRU see "Differences" in `pgm_rnn.models.cells`.
"""

import torch
from torch import Tensor

from pgm_rnn.kernels import doors


def gru(from_x: Tensor, from_h: Tensor, h: Tensor) -> Tensor:
    """h after a step, (..., K), from a and b, each (..., 3 K) in parts r, s, n, and h before it, (..., K).

    Raises:
        TypeError: gates of another dtype than the state.
        ValueError: gates of another width, or rows that do not broadcast.
    """
    size = h.shape[-1] if h.dim() else 0
    doors.gates(h, (from_x, 3 * size), (from_h, 3 * size))
    gates_x, n_x = from_x.split_with_sizes([2 * size, size], -1)
    gates_h, n_h = from_h.split_with_sizes([2 * size, size], -1)
    r, s = torch.sigmoid(gates_x + gates_h).chunk(2, dim=-1)
    return torch.lerp(torch.tanh(torch.addcmul(n_x, r, n_h)), h, s)


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c after a step, (..., K) each, from a + b (..., 4 K) and c before it, (..., K).

    Raises:
        TypeError: gates of another dtype than the memory cell.
        ValueError: gates of another width, or rows that do not broadcast.
    """
    size = c.shape[-1] if c.dim() else 0
    doors.gates(c, (gates, 4 * size))
    i_f, g, o = gates.split_with_sizes([2 * size, size, size], -1)
    i, f = torch.sigmoid(i_f).chunk(2, dim=-1)
    c = torch.addcmul(f * c, i, torch.tanh(g))
    return torch.sigmoid(o) * torch.tanh(c), c
