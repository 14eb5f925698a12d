"""Real vectors around a mean, with one standard deviation in all directions: x ~ N(loc, scale^2 I).

params = (loc, inverse softplus of the scale)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import override

from pgm_rnn.checks import check_counts
from pgm_rnn.distributions.normal import ScaledNormal
from pgm_rnn.emissions.entries import Gaussian, inverse_softplus
from pgm_rnn.emissions.family import Emission, EmissionTable
from pgm_rnn.emissions.info import FamilyInfo, normal_draws
from pgm_rnn.emissions.natural import IDENTITY, SOFTPLUS, Natural, columns
from pgm_rnn.emissions.supports import Reals
from pgm_rnn.kernels import positive


@dataclass(frozen=True)
class SphericalGaussian(Reals, Emission):
    """Real vectors of `size` independent normal entries with the same standard deviation.

    `Gaussian(size)` has one for each entry, `FullGaussian(size)` any covariance. The entries should have the same unit.

    Example:
        >>> table = SphericalGaussian(2).table(loc=torch.zeros(1, 2), scale=torch.tensor([2.0]))
        >>> table(torch.tensor([0])).variance.detach()
        tensor([[4., 4.]])
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
        return self.size + 1

    @property
    @override
    def natural_parameters(self) -> Mapping[str, Natural]:
        loc = columns("params", 0, self.size, IDENTITY, _same, _same)
        scale = columns("params", self.size, self.size + 1, SOFTPLUS, _without_axis, _with_axis)
        return {"loc": loc, "scale": scale}

    @override
    def distribution(self, params: Tensor) -> TorchDistribution:
        loc, raw_scale = params.tensor_split([self.size], dim=-1)
        return ScaledNormal(loc, positive.scale(raw_scale).expand(loc.shape), validate_args=False).to_event(1)

    @override
    def within_range(self, params: Tensor) -> Tensor:
        loc, raw_scale = params.tensor_split([self.size], dim=-1)
        return torch.cat([loc, positive.at_least(raw_scale)], dim=-1)

    def table(self, loc: Tensor, scale: Tensor) -> EmissionTable:
        """One law for each state from means (num_states, size) and standard deviations (num_states,).

        Raises:
            ValueError: other shapes, NaN, or scales that are not positive.
        """
        loc, scale = torch.as_tensor(loc), torch.as_tensor(scale)
        if loc.dim() != 2 or loc.shape[1] != self.size or not loc.is_floating_point():
            raise ValueError(
                f"expected loc of shape (num_states, {self.size}) and floating point, "
                f"got {tuple(loc.shape)} of {loc.dtype}"
            )
        if scale.shape != loc.shape[:1]:
            raise ValueError(f"expected scale of shape ({len(loc)},), one for each state, got {tuple(scale.shape)}")
        if not bool(loc.isfinite().all() and scale.isfinite().all()):
            raise ValueError("expected loc and scale as finite floating-point numbers, got NaN or infinity")
        return EmissionTable(self, torch.cat([loc, inverse_softplus("scale", scale)[:, None].to(loc)], dim=-1))


def _same(value: Tensor) -> Tensor:
    return value


def _without_axis(value: Tensor) -> Tensor:
    return value[..., 0]


def _with_axis(value: Tensor) -> Tensor:
    return value[..., None]


INFO = FamilyInfo(
    "spherical-gaussian",
    SphericalGaussian,
    normal_draws,
    examples={"spherical-reals": SphericalGaussian(2)},
    estimated={},
    numbers="real numbers with one scale for all columns",
    of_numbers=lambda x: SphericalGaussian(x.shape[-1]) if x.dim() > 2 else Gaussian(),
)
