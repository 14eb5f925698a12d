"""State-space models with normal states and observations, whose means are functions of the state.

z_1 ~ N(m, P),   z_t ~ N(transition_mean(z_{t-1}, h_t), Q),   x_t ~ N(emission_mean(z_t, h_t), R)
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.checks import check_counts
from pgm_rnn.emissions import Emission, Gaussian
from pgm_rnn.emissions.natural import Natural
from pgm_rnn.models.covariance import SingularCovariance, covariance_module
from pgm_rnn.sequence_model import First, SequenceModel
from pgm_rnn.states import GaussianStates

Model = TypeVar("Model", bound="GaussianStateModel")

COVARIANCES = {
    "initial_cov": "initial_covariance",
    "transition_cov": "transition_covariance",
    "emission_cov": "emission_covariance",
}
"""Attributes of the modules that hold the covariances, by the names of the constructor's arguments."""


class GaussianStateModel(SequenceModel):
    """Base class of these models: the initial law, the two noises and the two matrices, copied into parameters.

    Args:
        initial_mean: m, (D,).
        initial_cov: P, (D, D), positive semidefinite like the other covariances; training keeps the range of each.
        transition_matrix: A, (D, D).
        transition_cov: Q, (D, D).
        emission_matrix: C, (M, D).
        emission_cov: R, (M, M).
        first: "model" for p(x_{1:T}), "condition" for p(x_{2:T} | x_1).

    Raises:
        ValueError: shapes that do not fit, NaN, covariances that are not positive semidefinite.
    """

    def __init__(
        self,
        initial_mean: Tensor,
        initial_cov: Tensor,
        transition_matrix: Tensor,
        transition_cov: Tensor,
        emission_matrix: Tensor,
        emission_cov: Tensor,
        first: First,
    ) -> None:
        mean, emission_matrix = torch.as_tensor(initial_mean), torch.as_tensor(emission_matrix)
        check_matrix("initial_mean", mean, (None,))
        dim = mean.shape[0]
        check_matrix("emission_matrix", emission_matrix, (None, dim))
        obs_dim = emission_matrix.shape[0]
        super().__init__(Gaussian(obs_dim), first)
        self.states = GaussianStates(dim, linear=self.linear)
        self.initial_mean = nn.Parameter(mean.detach().clone())
        self.transition_matrix = as_parameter("transition_matrix", transition_matrix, (dim, dim), mean)
        self.emission_matrix = as_parameter("emission_matrix", emission_matrix, (obs_dim, dim), mean)
        self.initial_covariance = covariance_module("initial_cov", torch.as_tensor(initial_cov).to(mean), dim)
        self.transition_covariance = covariance_module("transition_cov", torch.as_tensor(transition_cov).to(mean), dim)
        self.emission_covariance = covariance_module("emission_cov", torch.as_tensor(emission_cov).to(mean), obs_dim)

    linear: bool = False
    """Whether both means are linear in z."""

    @abstractmethod
    def transition_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """E(z_t | z_{t-1} = z, h_t = h), (..., D), for states (..., D) and memory or inputs (..., U)."""

    @abstractmethod
    def emission_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """E(x_t | z_t = z, h_t = h), (..., M), for states (..., D) and memory or inputs (..., U)."""

    @property
    def latent_dim(self) -> int:
        """D, the number of entries of a state."""
        return self.initial_mean.shape[0]

    @property
    def obs_dim(self) -> int:
        """M, the number of entries of an observation."""
        return self.emission_matrix.shape[0]

    @property
    def initial_cov(self) -> Tensor:
        """P, (D, D)."""
        return self.initial_covariance.matrix

    @property
    def transition_cov(self) -> Tensor:
        """Q, (D, D)."""
        return self.transition_covariance.matrix

    @property
    def emission_cov(self) -> Tensor:
        """R, (M, M)."""
        return self.emission_covariance.matrix

    @property
    def ranges(self) -> dict[str, Tensor]:
        """Orthonormal bases of the ranges of the singular covariances, (D, rank), by the constructor's names."""
        modules = {name: getattr(self, module) for name, module in COVARIANCES.items()}
        return {name: module.basis for name, module in modules.items() if isinstance(module, SingularCovariance)}

    @property
    def ranks(self) -> list[int] | None:
        """The ranks of P, Q and R, or None if all three are regular."""
        if not self.ranges:
            return None
        return [len(getattr(self, module).raw) for module in COVARIANCES.values()]

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """Each covariance as "initial_cov", "initial_scale", "initial_correlation", "initial_correlation_cholesky"."""
        return {
            f"{name.removesuffix('cov')}{view}": natural.within(module)
            for name, module in COVARIANCES.items()
            for view, natural in getattr(self, module).natural_views().items()
        }

    def initial(self, h: Any) -> TorchDistribution:
        """p(z_1), batch shape ()."""
        return self.initial_covariance.law(self.initial_mean)

    def transition(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(z_t | z_{t-1}, h_t); its batch shape is that of z."""
        return self.transition_covariance.law(self.transition_mean(z, h))

    def emission(self, z: Tensor, h: Any) -> TorchDistribution:
        """p(x_t | z_t, h_t); its batch shape is that of z."""
        return self.emission_covariance.law(self.emission_mean(z, h))


def chosen_obs_dim(obs_dim: int | None, emission: Emission | None) -> int:
    """The number of outputs M, given as `obs_dim` or as emission=Gaussian(M); exactly one of the two is given.

    Raises:
        ValueError: both or none of them, another family, or a number below 1.
    """
    if (obs_dim is None) == (emission is None):
        raise ValueError(
            "expected exactly one of obs_dim and emission, such as obs_dim=2, got "
            f"{'neither' if emission is None else 'both'}"
        )
    if emission is not None:
        if not isinstance(emission, Gaussian) or emission.size is None:
            raise ValueError(f"expected emission=Gaussian(M), the law of real vectors, got {emission}")
        return emission.size
    check_counts(obs_dim=obs_dim)
    assert obs_dim is not None
    return obs_dim


def with_ranks(model: Model, ranks: Sequence[int] | None) -> Model:
    """The model after P, Q and R were replaced by random ones of these ranks; None leaves them.

    Raises:
        ValueError: not three ranks between 0 and the sizes of the matrices.
    """
    if ranks is None:
        return model
    sizes = [len(getattr(model, name)) for name in COVARIANCES]
    if len(ranks) != 3 or any(not 0 <= rank <= size for rank, size in zip(ranks, sizes, strict=True)):
        raise ValueError(f"expected the ranks of P, Q and R, at most {sizes}, got {list(ranks)}")
    for module, rank, size in zip(COVARIANCES.values(), ranks, sizes, strict=True):
        if rank < size:
            basis = torch.linalg.qr(torch.randn(size, size)).Q[:, :rank].contiguous()
            setattr(model, module, SingularCovariance(basis, torch.eye(rank)))
    return model


def random_cov(size: int) -> Tensor:
    """A random covariance near half the identity, (size, size), drawn by torch's global generator."""
    root = torch.randn(size, size) / size**0.5
    return 0.5 * torch.eye(size) + 0.5 * root @ root.mT


def random_parts(latent_dim: int, obs_dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Random m, P, A, Q, C, R of a stable system: A is 0.9 times a random rotation, C is normal."""
    rotation = torch.linalg.qr(torch.randn(latent_dim, latent_dim)).Q
    emission_matrix = torch.randn(obs_dim, latent_dim) / latent_dim**0.5
    covs = [random_cov(size) for size in (latent_dim, latent_dim, obs_dim)]
    return torch.zeros(latent_dim), covs[0], 0.9 * rotation, covs[1], emission_matrix, covs[2]


def as_parameter(name: str, value: Tensor, shape: tuple[int | None, ...], like: Tensor) -> nn.Parameter:
    """A checked copy of a matrix in the dtype of `like`.

    Raises:
        ValueError: another shape, another kind of numbers, NaN or infinity.
    """
    value = torch.as_tensor(value)
    check_matrix(name, value, shape)
    return nn.Parameter(value.detach().to(like).clone(memory_format=torch.contiguous_format))


def check_matrix(name: str, value: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raise unless `value` has `shape` (None for any size) and finite floating-point entries.

    Raises:
        ValueError: another shape, another kind of numbers, NaN or infinity.
    """
    fits = value.dim() == len(shape) and all(n in (None, m) for n, m in zip(shape, value.shape, strict=True))
    if not fits or 0 in value.shape:
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"expected {name} of shape ({expected}), got {tuple(value.shape)}")
    if not value.is_floating_point():
        raise ValueError(f"expected {name} as floating-point numbers, got {value.dtype}; use .to(torch.float64)")
    if not bool(value.isfinite().all()):
        raise ValueError(f"expected {name} as finite floating-point numbers, got NaN or infinity")
