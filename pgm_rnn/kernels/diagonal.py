"""A diagonal linear recurrence, entry by entry, with an analytic gradient.

    h_t = a_t h_{t-1} + b_t                          t = 1..T, h_0 given, real or complex
    d_t = g_t + conj(a_{t+1}) d_{t+1}                g_t = dL / dh_t
    dL / db_t = d_t,   dL / da_t = conj(h_{t-1}) d_t,   dL / dh_0 = conj(a_1) d_1

On the CPU both recursions are compiled loops. Elsewhere they are scans over the pairs (a_t, b_t), which compose as
(a, b) * (a', b') = (a a', a' b + b'), so that no loop over T is run and no graph through time is built. The scan forms
products of the a_t, which must not overflow; where |a_t| <= 1 they cannot.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function
from typing_extensions import override

from pgm_rnn.kernels import doors, transforms
from pgm_rnn.kernels.scan import Elements, associative_scan, with_identities
from pgm_rnn.kernels.threads import run_compiled

_BLOCK = 64
"""Units that a thread takes through all steps."""


def diagonal_recurrence(a: Tensor, b: Tensor, start: Tensor, lengths: Tensor | None = None) -> Tensor:
    """h_1, ..., h_T of h_t = a_t h_{t-1} + b_t, (T, B, D), differentiable in all three.

    Args:
        a: coefficients, (T, B, D), where each axis may have size 1 instead.
        b: inputs, (T, B, D).
        start: h_0, (B, D).
        lengths: number of steps of each sequence, (B,); after them h stays as it is. None if all have T steps.

    Raises:
        TypeError: tensors of different dtypes, or neither real nor complex in single or double precision.
        ValueError: shapes, devices or lengths that do not fit each other.
    """
    doors.diagonal(a, b, start)
    if lengths is not None:
        doors.lengths(lengths, b, b.shape[1], len(b))
        a, b = with_identities((a.expand(b.shape), b), (a.new_ones(()), b.new_zeros(())), lengths)
    return _applied(a, b, start)


def _applied(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """The recurrence; torch operations alone where torch.func differentiates them, or tensors record what is done."""
    tensors = a, b, start
    if has_torch_function(tensors) or transforms.is_differentiated(tensors):
        return by_scan(a, b, start)
    found: Tensor = _Recurrence.apply(a, b, start)
    return found


def by_scan(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """The same by torch operations alone, a number of them in proportion to log T; arguments are not checked."""
    a = a.expand(len(b), -1, -1)
    first = a[:1] * start + b[:1]
    return associative_scan(_composed, (a, torch.cat([first, b[1:]])))[1]


def _composed(earlier: Elements, later: Elements) -> Elements:
    """The map h -> a' (a h + b) + b'."""
    (a, b), (a_later, b_later) = earlier, later
    return a * a_later, torch.addcmul(b_later, a_later, b)


class _Recurrence(transforms.Function):
    @staticmethod
    @override
    def forward(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
        return _forward(a, b, start)

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the gradient reads."""
        a, _, start = inputs
        ctx.save_for_backward(a, start, output)

    @staticmethod
    @override
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int | None]:
        """Rows of `torch.func.vmap` as further sequences."""
        a, b, start = inputs
        if in_dims == (None, None, None):
            return _applied(a, b, start), None
        a, b, start = _with_rows(a, in_dims[0], 1), _with_rows(b, in_dims[1], 1), _with_rows(start, in_dims[2], 0)
        num, batch = info.batch_size, b.shape[2]
        a = a if a.shape[1:3] == (1, 1) else a.expand(-1, num, batch, -1)
        b, start = b.expand(-1, num, -1, -1), start.expand(num, -1, -1)
        found = _applied(a.flatten(1, 2), b.flatten(1, 2), start.flatten(0, 1))
        return found.unflatten(1, (num, batch)), 1

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, start, h = ctx.saved_tensors
        of_a, _, of_start = ctx.needs_input_grad
        d = _adjoint(a, grad)
        first = a[:1].conj() * d[:1]
        return (
            _of_coefficients(a, start, h, d) if of_a else None,
            d,
            first[0] if of_start else None,
        )


def _with_rows(part: Tensor, axis: int | None, place: int) -> Tensor:
    """The part with its axis of rows at a place, of size 1 if it has none."""
    return part.unsqueeze(place) if axis is None else part.movedim(axis, place)


def _adjoint(a: Tensor, grad: Tensor) -> Tensor:
    """d_T = g_T, d_t = g_t + conj(a_{t+1}) d_{t+1}: the recurrence from the end, of the next step's coefficients."""
    if grad.device.type == "cpu" and not torch.is_grad_enabled() and not transforms.is_transformed((a, grad)):
        from pgm_rnn.kernels import diagonal_compiled

        found = torch.empty_like(grad, memory_format=torch.contiguous_format)
        run_compiled(diagonal_compiled.backward, _plain(a), _plain(grad), _BLOCK, found)
        return found
    following = a if len(a) == 1 else torch.cat([a[:1], a[1:].flip(0)])
    return diagonal_recurrence(following.conj(), grad.flip(0), torch.zeros_like(grad[0])).flip(0)


def _of_coefficients(a: Tensor, start: Tensor, h: Tensor, d: Tensor) -> Tensor:
    """conj(h_{t-1}) d_t, summed over the axes along which a has size 1."""
    products = torch.cat([start[None], h[:-1]]).conj() * d
    summed = [axis for axis, (size, full) in enumerate(zip(a.shape, d.shape, strict=True)) if size < full]
    return products.sum(summed, keepdim=True) if summed else products


def _forward(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    if b.device.type != "cpu":
        return by_scan(a, b, start)
    from pgm_rnn.kernels import diagonal_compiled

    h = torch.empty_like(b, memory_format=torch.contiguous_format)
    run_compiled(diagonal_compiled.forward, _plain(a), _plain(b), _plain(start), _BLOCK, h)
    return h


def _plain(value: Tensor) -> Tensor:
    """The numbers without a graph and without a pending conjugation, in contiguous memory."""
    return value.detach().resolve_conj().resolve_neg().contiguous()
