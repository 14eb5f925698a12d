"""Log densities of vectors of independent entries, normal or bits, with analytic gradients: one compiled pass each.

    log N(x; m, s^2) = sum_d -((x_d - m_d) / s_d)^2 / 2 - log s_d - log(2 pi) / 2
    log N(m + s e; m, s^2) = sum_d -e_d^2 / 2 - log s_d - log(2 pi) / 2
    log p(x_d) = x_d l_d - log(1 + e^l_d)

Every vector has its own parameters, as a network gives them. With torch's operations each of subtraction, division,
logarithm, square and sum is a pass, in the backward pass too.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.overrides import has_torch_function
from typing_extensions import override

from pgm_rnn.kernels import doors, transforms
from pgm_rnn.kernels.threads import run_alone, run_compiled

LEAST = 2**12
"""Smallest number of entries that is worth a compiled call."""
MANY = 2**17
"""Number of entries from which on several threads take them."""


def suits(*tensors: Tensor) -> bool:
    """Whether entries run compiled: many, of one shape and dtype, on the CPU, and not inside a transform."""
    first = tensors[0]
    if first.numel() < LEAST or first.device.type != "cpu" or first.dtype not in doors.FLOATS:
        return False
    alike = all(part.shape == first.shape and part.dtype == first.dtype for part in tensors)
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return alike and not (has_torch_function(tensors) or transforms.is_transformed(tensors) or traced)


def normal(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log N(x; m, s^2) of vectors, nats, (...,), differentiable in all arguments, (..., D) each, on the CPU.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    _check(x, loc=loc, scale=scale)
    found: Tensor = _Normal.apply(x, loc, scale)
    return found


def drawn(noise: Tensor, scale: Tensor) -> Tensor:
    """log N(m + s e; m, s^2) of vectors, nats, (...,), of noise e and scales s, (..., D), differentiable in both.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    _check(noise, scale=scale)
    found: Tensor = _Drawn.apply(noise, scale)
    return found


def bits(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x_d) of every bit, nats, differentiable in the logits; arguments of one shape, on the CPU.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    _check(x, logits=logits)
    found: Tensor = _Bits.apply(x, logits)[0]
    return found


def _check(x: Tensor, **others: Tensor) -> None:
    doors.main_tensor("x", x if x.dim() < 2 else x.flatten(0, -2), "N, D")
    for name, part in others.items():
        doors.tensor(name, part, x, *x.shape)


def _flat(part: Tensor) -> Tensor:
    return part.detach().contiguous().view(-1)


def _run(name: str, numel: int, *arguments: Any) -> None:
    from pgm_rnn.kernels import vector_densities_compiled

    (run_compiled if numel >= MANY else run_alone)(getattr(vector_densities_compiled, name), *arguments)


def _normal_by_torch(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    entries = -((x - loc) / scale).square() / 2 - scale.log() - math.log(2 * math.pi) / 2
    return entries.sum(-1)


class _Normal(transforms.Function):
    @staticmethod
    @override
    def forward(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        value, limits = x.new_empty(x.shape[:-1]), torch.finfo(x.dtype)
        arrays = [_flat(part) for part in (x, loc, scale)]
        _run("normal", x.numel(), *arrays, value.view(-1), x.shape[-1], limits.tiny, limits.max)
        return value

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the gradient reads."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        if torch.is_grad_enabled() or transforms.is_transformed((grad,)):
            return torch.func.vjp(_normal_by_torch, *given)[1](grad)
        shape = given[0].shape
        of_loc, of_scale = (grad.new_empty(shape) for _ in range(2))
        arrays = [_flat(part) for part in (*given, grad)]
        _run("normal_gradient", len(arrays[0]), *arrays, shape[-1], of_loc.view(-1), of_scale.view(-1))
        return -of_loc if ctx.needs_input_grad[0] else None, of_loc, of_scale


class _Drawn(transforms.Function):
    @staticmethod
    @override
    def forward(noise: Tensor, scale: Tensor) -> Tensor:
        value, limits = noise.new_empty(noise.shape[:-1]), torch.finfo(noise.dtype)
        arrays = _flat(noise), _flat(scale), value.view(-1)
        _run("drawn", noise.numel(), *arrays, noise.shape[-1], limits.tiny, limits.max)
        return value

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the gradient reads."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        noise, scale = ctx.saved_tensors
        by = -grad[..., None]
        of_noise, of_scale = (by * noise if ctx.needs_input_grad[0] else None), by / scale
        return of_noise, of_scale


class _Bits(transforms.Function):
    """Log densities, then their slopes, which the gradient reads."""

    @staticmethod
    @override
    def forward(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = (logits.new_empty(logits.shape) for _ in range(2))
        _run("bits", x.numel(), _flat(x), _flat(logits), value.view(-1), slope.view(-1))
        return value, slope

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the gradient reads."""
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    @override
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[None, Tensor | None]:
        x, logits, slope = ctx.saved_tensors
        if grad is None:
            return None, None
        if torch.is_grad_enabled() or transforms.is_transformed((grad,)):
            return None, grad * (x - logits.sigmoid())
        return None, grad * slope
