"""Logits of an autoregressive law of bits, with an analytic gradient.

    a_1 = c,   a_{i+1} = a_i + x_i W_i,   logit_i = b_i + V_i . sigmoid(a_i),   i = 1..n

Both passes take one bit at a time and store one a_i, (rows, hidden_dim), instead of all n: the backward pass subtracts
the increments of a again, which costs one rounding error per entry. Source: Larochelle & Murray (2011).
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function

from pgm_rnn.kernels import doors, transforms


def logits(bias: Tensor, start: Tensor, x: Tensor, W: Tensor, V: Tensor) -> Tensor:
    """logit p(x_i = 1 | x_{1:i-1}), (rows, n), differentiable in all but the bits.

    Args:
        bias: b, (rows, n).
        start: c, (rows, hidden_dim).
        x: bits, (rows, n).
        W: (n, hidden_dim).
        V: (n, hidden_dim).

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    _check(bias, start, W, V)
    doors.tensor("x", x, bias, *bias.shape)
    arguments = (bias, start, x, W, V)
    if has_torch_function(arguments) or transforms.is_transformed(arguments):
        return _at_once(*arguments)
    found: Tensor = _Logits.apply(*arguments)
    return found


def _at_once(bias: Tensor, start: Tensor, x: Tensor, W: Tensor, V: Tensor) -> Tensor:
    """The same by torch operations, which stores all n vectors a_i, for autograd to differentiate again."""
    steps = x[:, :-1, None] * W[:-1]
    a = torch.cat([start[:, None], start[:, None] + steps.cumsum(1)], dim=1)  # (rows, n, hidden_dim)
    return bias + (a.sigmoid() * V).sum(-1)


@torch.no_grad()
def draw(bias: Tensor, start: Tensor, W: Tensor, V: Tensor) -> Tensor:
    """Bits (rows, n), each drawn given those before it; arguments as for `logits`.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    _check(bias, start, W, V)
    a, bits = start.clone(), []
    for b_i, W_i, V_i in zip(bias.unbind(1), W, V, strict=True):
        bits.append((b_i + a.sigmoid() @ V_i).sigmoid().bernoulli())
        a.addr_(bits[-1], W_i)
    return torch.stack(bits, dim=1)


def _check(bias: Tensor, start: Tensor, W: Tensor, V: Tensor) -> None:
    rows, num_bits = doors.main_tensor("bias", bias, "rows, n")
    hidden_dim = start.shape[-1] if start.dim() else 0
    doors.tensor("start", start, bias, rows, max(hidden_dim, 1))
    doors.tensor("W", W, bias, num_bits, hidden_dim)
    doors.tensor("V", V, bias, num_bits, hidden_dim)


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bias: Tensor, start: Tensor, x: Tensor, W: Tensor, V: Tensor) -> Tensor:
        packed = torch.contiguous_format
        columns, found = x.T.contiguous(), bias.T.clone(memory_format=packed)  # (n, rows)
        a, s = start.clone(memory_format=packed), torch.empty_like(start, memory_format=packed)
        for x_i, found_i, W_i, V_i in zip(columns, found, W, V, strict=True):
            torch.sigmoid(a, out=s)
            found_i.addmv_(s, V_i)
            a.addr_(x_i, W_i)
        ctx.save_for_backward(columns, W, V, bias, start, x)
        ctx.last = a
        return found.T

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        columns, W, V, bias, start, x = ctx.saved_tensors
        if torch.is_grad_enabled():
            pull = torch.func.vjp(lambda b, c, W, V: _at_once(b, c, x, W, V), bias, start, W, V)[1]
            of_bias, of_start, *of_weights = pull(grad)
            return of_bias, of_start, None, *of_weights
        a = ctx.last
        a, grads = a.clone(), grad.T.contiguous()  # (n, rows)
        grad_a, grad_W, grad_V, s = torch.zeros_like(a), torch.empty_like(W), torch.empty_like(V), torch.empty_like(a)
        for i in reversed(range(len(columns))):
            torch.mv(grad_a.T, columns[i], out=grad_W[i])
            a.addr_(columns[i], W[i], alpha=-1)
            torch.sigmoid(a, out=s)
            torch.mv(s.T, grads[i], out=grad_V[i])
            s.addcmul_(s, s, value=-1).mul_(V[i])  # s (1 - s) V_i
            grad_a.addcmul_(s, grads[i, :, None])
        return grad, grad_a, None, grad_W, grad_V
