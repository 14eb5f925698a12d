"""L-BFGS on named tensors: scipy's, which has no learning rate to choose, with gradients by torch, in float64."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

Tensors = dict[str, Tensor]


class Minimum(NamedTuple):
    """Result of `minimized`.

    Attributes:
        tensors: the final tensors, with the names and shapes of the start.
        value: loss of these tensors.
        converged: whether it stopped before its last iteration.
    """

    tensors: Tensors
    value: float
    converged: bool


def minimized(
    loss: Callable[[Tensors], Tensor],
    start: Tensors,
    *,
    num_iterations: int,
    memory: int,
    gain: float,
    derivative: float,
    unit: float = 1.0,
    after: Callable[[Tensors], None] = lambda tensors: None,
) -> Minimum:
    """Minimise a loss by L-BFGS.

    Args:
        loss: function from tensors with these names and shapes to a scalar.
        start: the initial tensors.
        num_iterations: largest number of iterations; the loss is evaluated at most twice as often.
        memory: number of past steps that L-BFGS stores.
        gain: L-BFGS stops if an iteration gains less than this fraction of the loss, or of `unit` if that is larger.
        derivative: L-BFGS stops if no derivative is larger than this, in units of `unit`.
        unit: scale of the loss.
        after: function called with the tensors after each iteration.
    """
    shapes = {name: value.shape for name, value in start.items()}

    def unpacked(vector: NDArray[np.float64]) -> Tensors:
        parts = torch.tensor(vector, dtype=torch.float64).split([math.prod(shape) for shape in shapes.values()])
        return {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}

    def value_and_gradient(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        leaves = {name: value.requires_grad_() for name, value in unpacked(vector).items()}
        value = loss(leaves)
        gradients = torch.autograd.grad(value, list(leaves.values()))
        gradient = torch.cat([gradient.flatten() for gradient in gradients]).numpy()
        return float(value.detach()) / unit, gradient / unit

    def callback(xk: NDArray[np.float64]) -> None:
        after(unpacked(xk))

    found = minimize(
        value_and_gradient,
        torch.cat([value.detach().flatten() for value in start.values()]).numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        options={
            "maxiter": num_iterations,
            "maxfun": 2 * num_iterations,
            "maxcor": memory,
            "ftol": gain,
            "gtol": derivative,
        },
    )
    return Minimum(unpacked(found.x), float(found.fun) * unit, bool(found.success))
