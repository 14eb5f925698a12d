"""A normal law given a normal state, y | z ~ N(f(z), S(z)), replaced by a linear one: y ~ mean + M (z - E z) + N(0, S).

    extended     M = f'(E z),  mean = f(E z),  S = S(E z)                first-order Taylor expansion
    unscented    mean and covariances of f over 2 D + 1 points that have the state's first two moments;
                 M = Cov(f, z) Cov(z)^{-1},  S = Cov(f) - M Cov(z) M' + E S(z)
    iterated     `extended` for transitions; for observations, expansions at the latest estimate of z, repeated
                 (`linearised_filter`)

Where the noise covariance depends on z, the expansions take it at the state around which they expand, and the unscented
method takes its average over the points, by the law of total covariance: Cov(y) = Cov(f) + E S(z).

Sources: Vidal (2024), "Extended Kalman Filters for RNNs"; Särkkä (2013), alg. 5.4 (extended) and 5.14 (unscented).
The central sigma point has the weight kappa / (D + kappa) of Julier & Uhlmann (1997): kappa = 3 - D for D < 3, which
matches fourth moments, and 0 from D = 3 on, which keeps every covariance positive semidefinite.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.distributions.normal_moments import NormalMoments
from pgm_rnn.kernels.gaussian_backward import root_of
from pgm_rnn.kernels.singular import generalised_inverse, is_regular

StateLaw = Callable[[Tensor, Tensor | None], NormalMoments]
"""Maps states (..., D) and their drivers, memory or inputs (..., U), to means (..., N) and covariances (..., N, N)."""


class Linear(NamedTuple):
    """The linear law, for each of B states.

    Attributes:
        mean: mean of y, (B, N).
        matrix: M, (B, N, D).
        cov: S, (1 or B, N, N).
    """

    mean: Tensor
    matrix: Tensor
    cov: Tensor


Linearise = Callable[[StateLaw, Tensor | None, Tensor, Tensor], Linear]


class Method(NamedTuple):
    """An approximation of the filter.

    Attributes:
        linearise: how a law is replaced.
        num_updates: how often the law of an observation is linearised at most, each time at the latest estimate of z.
    """

    linearise: Linearise
    num_updates: int = 1


def extended(law: StateLaw, driver: Tensor | None, mean: Tensor, cov: Tensor) -> Linear:
    """First-order Taylor expansion around the mean (B, D): Särkkä (2013), alg. 5.4."""
    rows = torch.func.jacrev(lambda z: law(z, driver).mean.sum(0))(mean)  # (N, B, D), for row b reads state b alone
    value = law(mean, driver)
    return Linear(value.mean, rows.movedim(0, 1), value.cov)


def unscented(law: StateLaw, driver: Tensor | None, mean: Tensor, cov: Tensor) -> Linear:
    """Least-squares linear function over the sigma points of N(mean, cov), and its residual: Särkkä (2013), alg. 5.14.

    Adding S to the noise gives the same predicted moments and gain as the algorithm: C P C' + S = Cov(f) + E S(z).
    """
    dim = mean.shape[-1]
    central = max(3 - dim, 0) / 3 if dim < 3 else 0.0
    spread = (dim / (1 - central)) ** 0.5 * root_of(cov).mT  # (B, D, D), one direction per row
    offsets = torch.cat([torch.zeros_like(mean)[:, None], spread, -spread], dim=1)  # (B, 2 D + 1, D)
    weights = mean.new_full((2 * dim + 1,), (1 - central) / (2 * dim))
    weights[0] = central
    values, covs = law(mean[:, None] + offsets, None if driver is None else driver[:, None])  # (B, 2 D + 1, N)
    value = weights @ values
    deviations = values - value[:, None]
    weighted = deviations.mT * weights  # (B, N, 2 D + 1)
    matrix = _solved(cov, (weighted @ offsets).mT).mT
    left = deviations - offsets @ matrix.mT
    noise = covs[:, 0] if covs.shape[1] == 1 else torch.einsum("s,bsij->bij", weights, covs)
    return Linear(value, matrix, (left.mT * weights) @ left + noise)


def _solved(cov: Tensor, right: Tensor) -> Tensor:
    """cov^{-1} right, by a generalised inverse where a covariance is singular."""
    if is_regular(cov):
        return torch.linalg.solve(cov, right)
    return generalised_inverse(cov, cov.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()) @ right


METHODS = {
    "extended": Method(extended),
    "unscented": Method(unscented),
    "iterated": Method(extended, num_updates=30),
}
"""The methods by the names that `kalman.filter` takes."""
