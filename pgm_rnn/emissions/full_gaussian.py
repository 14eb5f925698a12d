"""Real vectors with correlated entries: x ~ N(loc, L L'), L lower triangular with a positive diagonal.

params = (loc, diagonal of L before softplus, L below its diagonal row by row)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.checks import check_counts, check_covariance
from pgm_rnn.emissions.entries import Gaussian, inverse_softplus
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, normal_draws
from pgm_rnn.emissions.natural import IDENTITY, Natural, columns, of_covariance
from pgm_rnn.emissions.supports import Reals
from pgm_rnn.kernels import positive, triangles


@dataclass(frozen=True)
class FullGaussian(Reals, Emission):
    """Real vectors of `size` entries with any covariance; `Gaussian(size)` has independent entries.

    Every vector of size + size (size + 1) / 2 parameters gives a valid law, so gradient steps cannot leave the family.

    Example:
        >>> table = FullGaussian(2).table(loc=torch.zeros(1, 2), cov=torch.tensor([[[2.0, 1.0], [1.0, 2.0]]]))
        >>> table.log_probs(torch.zeros(5, 2)).shape
        torch.Size([5, 1])
    """

    size: int

    def __post_init__(self) -> None:
        check_counts(size=self.size)

    @property
    @override
    def event_shape(self) -> torch.Size:
        return torch.Size([self.size])

    @property
    @override
    def num_params(self) -> int:
        return self.size + self.size * (self.size + 1) // 2

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        return dist.MultivariateNormal(params[..., : self.size], scale_tril=self._factor(params), validate_args=False)

    def _factor(self, params: Tensor) -> Tensor:
        """L, (..., size, size)."""
        raw_diagonal, below = params[..., self.size : 2 * self.size], params[..., 2 * self.size :]
        return triangles.from_parts(positive.scale(raw_diagonal), below)

    def _with_factor(self, params: Tensor, scale_tril: Tensor) -> Tensor:
        """The parameters with another L."""
        diagonal, below = triangles.parts_of(scale_tril.to(params.dtype))
        return torch.cat([params[..., : self.size], positive.inverse_softplus(diagonal), below], dim=-1)

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The mean, and the covariance under each of its names in `pgm_rnn.emissions.natural.of_covariance`."""

        def same(value: Tensor) -> Tensor:
            return value

        loc = columns("params", 0, self.size, IDENTITY, same, same)
        return {"loc": loc, **of_covariance("params", self._factor, self._with_factor)}

    @override
    def within_range(self, params: Tensor) -> Tensor:
        loc, raw_diagonal, below = params.tensor_split([self.size, 2 * self.size], dim=-1)
        return torch.cat([loc, positive.at_least(raw_diagonal), below], dim=-1)

    def table(self, loc: Tensor, cov: Tensor) -> EmissionTable:
        """One law for each state from means (num_states, size) and covariances (num_states, size, size).

        Raises:
            ValueError: other shapes, NaN, or a covariance that is not symmetric and positive definite.
        """
        loc, cov = torch.as_tensor(loc), torch.as_tensor(cov)
        if loc.dim() != 2 or loc.shape[1] != self.size or not loc.is_floating_point():
            raise ValueError(
                f"expected loc of shape (num_states, {self.size}) and floating point, "
                f"got {tuple(loc.shape)} of {loc.dtype}"
            )
        if not bool(loc.isfinite().all()):
            raise ValueError("expected loc as finite floating-point numbers, got NaN or infinity")
        if cov.shape != (*loc.shape, self.size):
            raise ValueError(f"expected cov of shape {(*loc.shape, self.size)}, got {tuple(cov.shape)}")
        factors = [check_covariance(f"cov of state {k}", matrix, self.size) for k, matrix in enumerate(cov)]
        return self.table_of_factors(loc, torch.stack(factors))

    def table_of_factors(self, loc: Tensor, scale_tril: Tensor) -> EmissionTable:
        """One law for each state from means and Cholesky factors L (num_states, size, size), without checks."""
        diagonal, below = triangles.parts_of(scale_tril)
        raw_diagonal = inverse_softplus("the diagonal of L", diagonal)
        return EmissionTable(self, torch.cat([loc, raw_diagonal, below], dim=-1))


def full_of(x: Tensor) -> Emission:
    """Normal laws of the numbers in a file, with any covariance where there are several columns."""
    return FullGaussian(x.shape[-1]) if x.dim() > 2 else Gaussian()


INFO = FamilyInfo(
    "full-gaussian",
    FullGaussian,
    normal_draws,
    examples={"correlated-reals": FullGaussian(2)},
    numbers="real numbers with any covariance",
    of_numbers=full_of,
)
