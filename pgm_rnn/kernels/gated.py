"""A GRU layer over all steps of a batch, compiled, with an analytic gradient.

    r, s = sigmoid(a_t + U h + c),   n = tanh(a_t + r (U h + c)),   h' = s h + (1 - s) n,   a_t = W x_t + b given

The parts r, s, n are in torch's order. torch's own layer spends most of a step of a small network on starting
operations; here a step of eight sequences is one pass over U. Backward, the chain of the states is compiled, and the
derivatives by U and c are one matrix product over all steps. (torch's LSTM is fused, and as fast as such a kernel.)
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function
from typing_extensions import override

from pgm_rnn.kernels import doors, gates, transforms
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.threads import run_alone, run_compiled

LARGEST = 256
"""Largest number H of units of a layer, as far as it was measured to be faster than torch's operations."""


def suits(*tensors: Tensor, units: int) -> bool:
    """Whether a layer with tensors like these runs compiled: the one rule by which others fall back to torch.

    Args:
        tensors: inputs, states and weights.
        units: H.
    """
    here = all(tensor.device.type == "cpu" and tensor.dtype == tensors[0].dtype for tensor in tensors)
    plain = not (has_torch_function(tensors) or transforms.is_transformed(tensors) or torch.jit.is_tracing())  # type: ignore[attr-defined]
    return here and plain and tensors[0].dtype in doors.FLOATS and units <= LARGEST and tensors[0].numel() > 0


def gru(from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """h_1, ..., h_T of a GRU layer, (T, B, H), differentiable in every argument.

    Args:
        from_x: W x_t + b in parts r, s, n, (T, B, 3 H).
        start: h_0, (B, H).
        matrix: U, (3 H, H).
        bias: c, (3 H,).

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other, or no step.
    """
    _, batch, size = doors.main_tensor("from_x", from_x, "T, B, 3 H")
    if size % 3:
        raise ValueError(f"expected from_x with 3 parts of H numbers, got {size} numbers per step")
    doors.tensor("start", start, from_x, batch, size // 3)
    doors.tensor("matrix", matrix, from_x, size, size // 3)
    doors.tensor("bias", bias, from_x, size)
    if not suits(from_x, start, matrix, bias, units=size // 3):
        return _gru_by_torch(from_x, start, matrix, bias)
    keep = torch.is_grad_enabled() and any(part.requires_grad for part in (from_x, start, matrix, bias))
    found: Tensor = _GRU.apply(keep, from_x, start, matrix, bias)[0]
    return found


def _gru_by_torch(from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    states = [start]
    for given in from_x.unbind(0):
        states.append(gates.gru(given, torch.nn.functional.linear(states[-1], matrix, bias), states[-1]))
    return torch.stack(states[1:])


def run_lanes(function: Any, batch: int, *arguments: Tensor | float) -> None:
    """Call a compiled function with flat arrays of the tensors and with B; in one thread if B needs no other.

    Args:
        function: takes arrays of tensors, B, and numbers, in this order.
        batch: B.
        arguments: tensors, and the numbers.
    """
    flat = [argument.detach().contiguous().view(-1) for argument in arguments if isinstance(argument, Tensor)]
    numbers = [argument for argument in arguments if not isinstance(argument, Tensor)]
    (run_alone if batch <= LANES else run_compiled)(function, *flat, batch, *numbers)


def _run(name: str, batch: int, *arguments: Tensor) -> None:
    from pgm_rnn.kernels import gated_compiled

    run_lanes(getattr(gated_compiled, name), batch, *arguments)


def with_zeros(grads: Sequence[Tensor | None], values: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives by some values, zeros by those on which nothing depends."""
    return [torch.zeros_like(of) if grad is None else grad for grad, of in zip(grads, values, strict=True)]


def _memory(like: Tensor, parts: int, size: int, *, keep: bool) -> Tensor:
    """Room for the activations of every step, or of one that is overwritten, (groups, T or 1, parts, H, 8)."""
    steps, batch = like.shape[:2]
    return like.new_empty(-(-batch // LANES), steps if keep else 1, parts, size, LANES)


class _GRU(transforms.Function):
    """Hidden vectors, and the activations that the gradient reads; the first argument says whether to keep them."""

    @staticmethod
    @override
    def forward(keep: bool, from_x: Tensor, start: Tensor, matrix: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        hidden = from_x.new_empty(len(from_x), *start.shape)
        kept = _memory(from_x, 4, start.shape[1], keep=keep)
        _run("gru", len(start), from_x, start, matrix, bias, hidden, kept)
        return hidden, kept

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the gradient reads."""
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # or the gradient of what is kept would be made, all zeros
        ctx.save_for_backward(*inputs[1:], *output)

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        from_x, start, matrix, bias, hidden, kept = ctx.saved_tensors
        (grad,) = with_zeros((grad,), (hidden,))
        if torch.is_grad_enabled() or transforms.is_transformed((grad,)):
            return None, *torch.func.vjp(_gru_by_torch, from_x, start, matrix, bias)[1](grad)
        of_x, of_inside, of_start = torch.empty_like(from_x), torch.empty_like(hidden), torch.empty_like(start)
        _run("gru_backward", len(start), grad, start, hidden, kept, matrix.mT, of_x, of_inside, of_start)
        of_h = torch.cat([of_x[..., : -start.shape[1]], of_inside], -1)
        return None, of_x, of_start, *_of_weights(of_h, start, hidden)


def _of_weights(of_h: Tensor, start: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives by U and c from those by U h_{t-1} + c, (T, B, parts H)."""
    before = torch.cat([start[None], hidden[:-1]])
    return of_h.flatten(0, 1).mT @ before.flatten(0, 1), of_h.sum((0, 1))
