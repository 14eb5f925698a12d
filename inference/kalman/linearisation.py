"""A function of a normal state replaced by a linear one with noise: f(z) ~ mean + M (z - E z) + N(0, S).

    extended     M = f'(E z),  mean = f(E z),  S = 0                     first-order Taylor expansion
    unscented    mean and covariances of f over 2 D + 1 points that have the state's first two moments;
                 M = Cov(f, z) Cov(z)^{-1},  S = Cov(f) - M Cov(z) M'

Sources: Vidal (2024), "Extended Kalman Filters for RNNs"; Julier & Uhlmann (1997), with the weight of the central point
(3 - D) / 3 where that is positive, which matches fourth moments, and 0 beyond, which keeps every covariance positive.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

StateFunction = Callable[[Tensor, Tensor | None], Tensor]
"""From states (..., D) and what drives them (..., U) to (..., N)."""


class Linear(NamedTuple):
    """The linear function with noise, for each of B states.

    Attributes:
        mean: (B, N).
        matrix: M, (B, N, D).
        cov: S, (B, N, N).
    """

    mean: Tensor
    matrix: Tensor
    cov: Tensor


def extended(f: StateFunction, driver: Tensor | None, mean: Tensor, cov: Tensor) -> Linear:
    """First-order Taylor expansion of f around the mean (B, D)."""
    if driver is None:
        matrix = torch.func.vmap(torch.func.jacrev(lambda z: f(z, None)))(mean)
    else:
        matrix = torch.func.vmap(torch.func.jacrev(f))(mean, driver)
    value = f(mean, driver)
    return Linear(value, matrix, value.new_zeros(*value.shape, value.shape[-1]))


def unscented(f: StateFunction, driver: Tensor | None, mean: Tensor, cov: Tensor) -> Linear:
    """The best linear function in mean square over sigma points of N(mean, cov), and what it leaves."""
    dim = mean.shape[-1]
    central = max(3 - dim, 0) / 3 if dim < 3 else 0.0
    spread = (dim / (1 - central)) ** 0.5 * torch.linalg.cholesky(cov).mT  # (B, D, D), a row a direction
    offsets = torch.cat([torch.zeros_like(mean)[:, None], spread, -spread], dim=1)  # (B, 2 D + 1, D)
    weights = mean.new_full((2 * dim + 1,), (1 - central) / (2 * dim))
    weights[0] = central
    driven = None if driver is None else driver[:, None].expand(-1, 2 * dim + 1, -1)
    values = f(mean[:, None] + offsets, driven)  # (B, 2 D + 1, N)
    value = weights @ values
    deviations = values - value[:, None]
    weighted = deviations.mT * weights  # (B, N, 2 D + 1)
    matrix = torch.linalg.solve(cov, (weighted @ offsets).mT).mT
    left = deviations - offsets @ matrix.mT
    return Linear(value, matrix, (left.mT * weights) @ left)


METHODS = {"extended": extended, "unscented": unscented}
"""By name, as `kalman.filter` takes them."""
