"""An ascent that never ends below its start: a few iterations of L-BFGS, or else the first gradient step that rises."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

NUM_ITERATIONS = 8
"""Largest number of iterations of L-BFGS in a call: with more of them EM took hardly fewer iterations, each longer."""
_HALVINGS = 30
"""Gradient steps that are tried, each half as long as the one before."""


def ascend(parameters: Sequence[nn.Parameter], value: Callable[[], Tensor], scale: float) -> float:
    """Raise `value()`, (), by changing the parameters in place; returns by how much, 0 if no step rises.

    Args:
        parameters: the parameters to change.
        value: differentiable in them.
        scale: the size of the value, by which it is divided inside.
    """
    before, start = float(_value(value)), [parameter.detach().clone() for parameter in parameters]
    gain = _by_lbfgs(parameters, value, scale, before)
    if not gain > 0:
        _set(parameters, start)
        gain = _by_halving(parameters, value, start, before)
    return gain


def _by_lbfgs(parameters: Sequence[nn.Parameter], value: Callable[[], Tensor], scale: float, before: float) -> float:
    optimizer = torch.optim.LBFGS(
        list(parameters),
        max_iter=NUM_ITERATIONS,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        history_size=NUM_ITERATIONS,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        with torch.enable_grad():
            result = -value() / scale
        for parameter, gradient in zip(parameters, _gradient(result, parameters), strict=True):
            parameter.grad = gradient
        return result.detach()

    try:
        optimizer.step(loss)
    except (ArithmeticError, IndexError, ValueError):  # the line search lost its way among values that are no numbers
        return 0.0
    finally:
        optimizer.zero_grad()
    return float(_value(value)) - before


def _gradient(value: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(value, list(parameters), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _by_halving(
    parameters: Sequence[nn.Parameter], value: Callable[[], Tensor], start: Sequence[Tensor], before: float
) -> float:
    """The first of a row of ever shorter gradient steps that raises the value; the first step has length 1."""
    with torch.enable_grad():
        gradient = _gradient(value(), parameters)
    length = float(torch.stack([g.double().square().sum() for g in gradient]).sum().sqrt())
    if not 0 < length < float("inf"):
        return 0.0
    for halving in range(_HALVINGS):
        _set(parameters, [p + 0.5**halving / length * g for p, g in zip(start, gradient, strict=True)])
        gain = float(_value(value)) - before
        if gain > 0:
            return gain
    _set(parameters, start)
    return 0.0


@torch.no_grad()
def _value(value: Callable[[], Tensor]) -> Tensor:
    return value()


@torch.no_grad()
def _set(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, new in zip(parameters, values, strict=True):
        parameter.copy_(new)
