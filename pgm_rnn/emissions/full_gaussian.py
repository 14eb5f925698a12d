"""Real vectors with correlated entries: x ~ N(loc, L L'), L lower triangular with a positive diagonal.

params = (loc, diagonal of L before softplus, L below its diagonal row by row)
"""

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.checks import check_counts, check_covariance
from pgm_rnn.emissions.entries import inverse_softplus
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, normal_draws
from pgm_rnn.kernels import positive


@dataclass(frozen=True)
class FullGaussian(Emission):
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

    @property
    @override
    def support(self) -> str:
        return "finite real numbers"

    @property
    @override
    def continuous(self) -> bool:
        return True

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        num_below = self.num_params - 2 * self.size
        loc, raw_diagonal, below = params.split([self.size, self.size, num_below], dim=-1)
        packed = torch.cat([positive.scale(raw_diagonal), below, torch.zeros_like(loc[..., :1])], dim=-1)
        index = _places(self.size).to(params.device).flatten()
        scale_tril = packed.index_select(-1, index).unflatten(-1, (self.size, self.size))
        return dist.MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)

    @override
    def within_range(self, params: Tensor) -> Tensor:
        loc, raw_diagonal, below = params.tensor_split([self.size, 2 * self.size], dim=-1)
        return torch.cat([loc, positive.at_least(raw_diagonal), below], dim=-1)

    @override
    def invalid(self, x: Tensor) -> Tensor:
        return ~x.isfinite()

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
        diagonal = inverse_softplus("the diagonal of L", scale_tril.diagonal(dim1=-2, dim2=-1))
        rows, columns = torch.tril_indices(self.size, self.size, offset=-1)
        return EmissionTable(self, torch.cat([loc, diagonal, scale_tril[:, rows, columns]], dim=-1))


def _places(size: int) -> Tensor:
    """Index of each entry of L in the vector (diagonal, below the diagonal, zero), (size, size)."""
    places = torch.full((size, size), size * (size + 1) // 2)
    places.diagonal().copy_(torch.arange(size))
    rows, columns = torch.tril_indices(size, size, offset=-1)
    places[rows, columns] = torch.arange(size, size + len(rows))
    return places


INFO = FamilyInfo("full-gaussian", FullGaussian, normal_draws, examples={"correlated-reals": FullGaussian(2)})
