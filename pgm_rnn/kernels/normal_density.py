"""Log densities of normal observations under the laws of all K states, with an analytic gradient.

    log p(x_t | k) = sum_d -((x_td - m_ktd) / s_ktd)^2 / 2 - log s_ktd - log(2 pi) / 2,   d over the observed entries

One compiled pass computes it and one its gradient. With torch's operations each of subtraction, division, square,
logarithm and sum is a pass, in the backward pass too, and most of the time goes into reading and writing memory.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function
from typing_extensions import override

from pgm_rnn.kernels import doors, transforms
from pgm_rnn.kernels.threads import run_compiled

_HALF_LOG_TWO_PI = math.log(2 * math.pi) / 2
_ROWS = 256
"""Steps that a thread takes at a time, whose gradients are summed separately, so that rounding does not grow with T."""


def log_density(x: Tensor, loc: Tensor, scale: Tensor, observed: Tensor | None = None) -> Tensor:
    """log p(x_t | k), nats, (B, T, K), differentiable in `loc` and `scale`; NaN where a scale is negative.

    Args:
        x: observations, (B, T, D); any finite number where an entry is missing.
        loc: m, (K, B, T, D), where each axis may have size 1 instead.
        scale: s, axes as for `loc`; K is the larger of the two first axes.
        observed: True where an entry was observed, (B, T, D); None for everywhere.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    batch, num_steps, size = doors.main_tensor("x", x, "B, T, D")
    num_states = max(len(part) if isinstance(part, Tensor) and part.dim() else 1 for part in (loc, scale))
    axes = (1, num_states), (1, batch), (1, num_steps), (1, size)
    doors.tensor("loc", loc, x, *axes)
    doors.tensor("scale", scale, x, *axes)
    if observed is not None:
        doors.mask("observed", observed, x, batch, num_steps, size)
    tensors = x, loc, scale
    if x.device.type != "cpu" or x.requires_grad or has_torch_function(tensors) or transforms.is_transformed(tensors):
        return _by_torch(x, loc, scale, observed)
    found: Tensor = _LogDensity.apply(x, loc, scale, observed)
    return found


def _by_torch(x: Tensor, loc: Tensor, scale: Tensor, observed: Tensor | None) -> Tensor:
    """The same by torch operations, for autograd to differentiate again."""
    entries = -((x - loc) / scale).square() / 2 - scale.log() - _HALF_LOG_TWO_PI
    if observed is not None:
        entries = entries.where(observed, 0.0)
    return entries.sum(-1).permute(1, 2, 0)


class _LogDensity(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, loc: Tensor, scale: Tensor, observed: Tensor | None) -> Tensor:
        from pgm_rnn.kernels import normal_density_compiled

        ctx.save_for_backward(x, loc, scale)
        ctx.observed = observed
        found = x.new_empty(*x.shape[:2], max(len(loc), len(scale)))
        arrays = *_rows(x, observed), *_flat(_in_rows(loc, x)), *_flat(_in_rows(scale, x))
        run_compiled(normal_density_compiled.log_density, *arrays, found.flatten(0, 1), _ROWS)
        return found

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from pgm_rnn.kernels import normal_density_compiled

        (x, loc, scale), observed = ctx.saved_tensors, ctx.observed
        if torch.is_grad_enabled():
            pull = torch.func.vjp(lambda m, s: _by_torch(x, m, s, observed), loc, scale)[1]
            return None, *pull(grad), None
        parts = [_in_rows(part, x) for part in (loc, scale)]
        rows = _rows(x, observed)
        sums = [_sums(part, -(-len(rows[0]) // _ROWS)) for part in parts]
        arrays = *rows, *_flat(parts[0]), *_flat(parts[1])
        run_compiled(normal_density_compiled.gradient, *arrays, grad.flatten(0, 1), *sums, _ROWS)
        return None, _like(loc, parts[0], sums[0]), _like(scale, parts[1], sums[1]), None


def _rows(x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
    """x (N, D) and truth values (N or 1, D), with one axis for sequences and steps."""
    every = torch.ones(1, x.shape[-1], dtype=torch.bool) if observed is None else observed.flatten(0, 1)
    return x.detach().flatten(0, 1), every


def _in_rows(part: Tensor, x: Tensor) -> Tensor:
    """A parameter (K or 1, B, T, D or 1), or with both axes B and T of size 1, whose rows have one distance in memory.

    An axis along which it repeats itself has size 1, and its entries fill their memory. It is copied where they do not.
    """
    part = part.detach()
    for axis, (size, stride) in enumerate(zip(part.shape, part.stride(), strict=True)):
        if size > 1 and stride == 0:
            part = part.narrow(axis, 0, 1)
    if part.shape[1:3] != (1, 1):
        part = part.expand(-1, *x.shape[:2], -1)
    _, b, t, _ = part.stride()
    span = 1 + sum((size - 1) * stride for size, stride in zip(part.shape, part.stride(), strict=True))
    in_order = 1 in part.shape[1:3] or b == t * part.shape[2]
    return part if in_order and span == part.numel() else part.contiguous()


def _flat(part: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """The memory of a parameter `_in_rows`, and its strides along states, rows and entries, 0 for an axis of size 1."""
    k, b, t, d = (0 if size == 1 else stride for size, stride in zip(part.shape, part.stride(), strict=True))
    return part.as_strided((part.numel(),), (1,)), (k, t or b, d)


def _sums(part: Tensor, num_chunks: int) -> Tensor:
    """Memory for the gradient of a parameter `_in_rows`, one row for each chunk if it does not differ by row."""
    return part.new_empty(num_chunks if part.shape[1:3] == (1, 1) else 1, part.numel())


def _like(given: Tensor, part: Tensor, sums: Tensor) -> Tensor:
    """The gradient of a parameter as it was given, from that of what was made of it."""
    found = (sums[0] if len(sums) == 1 else sums.sum(0)).as_strided(part.shape, part.stride())
    for axis, (size, known) in enumerate(zip(given.shape, part.shape, strict=True)):
        if size < known:
            found = found.sum(axis, keepdim=True)
        elif size > known:
            found = (found / size).expand(*found.shape[:axis], size, *found.shape[axis + 1 :])
    return found
