"""The gates of recurrent units in few operations, for steps that cannot be taken together.

    gru     s h + (1 - s) n,   r = sigmoid(a_r + b_r),  s = sigmoid(a_s + b_s),  n = tanh(a_n + r b_n)
    lstm    c' = f c + i g,  h' = o tanh(c'),   i, f, o = sigmoid(.),  g = tanh(.) of a + b in parts i, f, g, o

a = W x + b comes from the input and b = U h + c from the state, in the order of torch's networks.
"""

import torch
from torch import Tensor

from pgm_rnn.kernels import doors


def gru(from_x: Tensor, from_h: Tensor, h: Tensor) -> Tensor:
    """The state after a step, (..., K), of a (..., 3 K) and b (..., 3 K) in parts r, s, n, and h (..., K)."""
    size = h.shape[-1] if h.dim() else 0
    doors.gates(h, (from_x, 3 * size), (from_h, 3 * size))
    gates_x, n_x = from_x.split_with_sizes([2 * size, size], -1)
    gates_h, n_h = from_h.split_with_sizes([2 * size, size], -1)
    r, s = torch.sigmoid(gates_x + gates_h).chunk(2, dim=-1)
    return torch.lerp(torch.tanh(torch.addcmul(n_x, r, n_h)), h, s)


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden vector and memory cell after a step, (..., K) each, of a + b (..., 4 K) and the cell before (..., K)."""
    size = c.shape[-1] if c.dim() else 0
    doors.gates(c, (gates, 4 * size))
    i_f, g, o = gates.split_with_sizes([2 * size, size, size], -1)
    i, f = torch.sigmoid(i_f).chunk(2, dim=-1)
    c = torch.addcmul(f * c, i, torch.tanh(g))
    return torch.sigmoid(o) * torch.tanh(c), c
