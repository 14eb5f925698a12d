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
        tensors: where it ended, with the names and shapes of the start.
        value: of the loss there.
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
    """A minimum of a loss, as far as L-BFGS comes.

    Args:
        loss: a scalar of tensors with these names and shapes.
        start: the first.
        num_iterations: at most, and at most twice as many values of the loss.
        memory: steps that it remembers.
        gain: it stops where an iteration gains less than this part of the loss, or of the unit where that is larger.
        derivative: it stops where no derivative is larger, in the unit.
        unit: of the loss.
        after: called with the tensors after each iteration.
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
