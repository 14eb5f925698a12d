"""A function of a normal state replaced by a linear one with noise: f(z) ~ mean + M (z - E z) + N(0, S).

    extended     M = f'(E z),  mean = f(E z),  S = 0                     first-order Taylor expansion
    unscented    mean and covariances of f over 2 D + 1 points that have the state's first two moments;
                 M = Cov(f, z) Cov(z)^{-1},  S = Cov(f) - M Cov(z) M'

Sources: Vidal (2024), "Extended Kalman Filters for RNNs"; Särkkä (2013), alg. 5.4 (extended) and 5.14 (unscented).
The central sigma point has the weight kappa / (D + kappa) of Julier & Uhlmann (1997): kappa = 3 - D for D < 3, which
matches fourth moments, and 0 from D = 3 on, which keeps every covariance positive semidefinite.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

StateFunction = Callable[[Tensor, Tensor | None], Tensor]
"""Maps states (..., D) and their drivers, memory or inputs (..., U), to (..., N)."""


class Linear(NamedTuple):
    """The linear function with noise, for each of B states.

    Attributes:
        mean: mean of f(z), (B, N).
        matrix: M, (B, N, D).
        cov: S, (B, N, N).
    """

    mean: Tensor
    matrix: Tensor
    cov: Tensor


def extended(f: StateFunction, driver: Tensor | None, mean: Tensor, cov: Tensor) -> Linear:
    """First-order Taylor expansion of f around the mean (B, D): Särkkä (2013), alg. 5.4."""
    if driver is None:
        matrix = torch.func.vmap(torch.func.jacrev(lambda z: f(z, None)))(mean)
    else:
        matrix = torch.func.vmap(torch.func.jacrev(f))(mean, driver)
    value = f(mean, driver)
    return Linear(value, matrix, value.new_zeros(*value.shape, value.shape[-1]))


def unscented(f: StateFunction, driver: Tensor | None, mean: Tensor, cov: Tensor) -> Linear:
    """Least-squares linear function over the sigma points of N(mean, cov), and its residual: Särkkä (2013), alg. 5.14.

    Adding S to the noise gives the same predicted moments and gain as the algorithm: C P C' + S = Cov(f).
    """
    dim = mean.shape[-1]
    central = max(3 - dim, 0) / 3 if dim < 3 else 0.0
    spread = (dim / (1 - central)) ** 0.5 * torch.linalg.cholesky(cov).mT  # (B, D, D), one direction per row
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
"""The linearisations by the names that `kalman.filter` takes."""
