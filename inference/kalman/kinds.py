"""The attributes and methods of a model that the Kalman engine uses."""

from typing import Protocol

from torch import Tensor
from typing_extensions import TypeIs

from pgm_rnn.kernels import kalman
from pgm_rnn.states import GaussianStates


class GaussianStateModel(Protocol):
    """A model with Gaussian states: the attributes and methods that the engine uses."""

    input_dim: int | None

    @property
    def initial_mean(self) -> Tensor:
        """E(z_1), (D,)."""

    @property
    def initial_cov(self) -> Tensor:
        """Cov(z_1), (D, D)."""

    @property
    def transition_cov(self) -> Tensor:
        """Cov(z_t | z_{t-1}), (D, D)."""

    @property
    def emission_cov(self) -> Tensor:
        """Cov(x_t | z_t), (M, M)."""

    def transition_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """E(z_t | z_{t-1} = z, h_t = h), (..., D)."""

    def emission_mean(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """E(x_t | z_t = z, h_t = h), (..., M)."""

    def check(self, x: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Valid observations and explicit lengths."""


class LinearGaussianModel(GaussianStateModel, Protocol):
    """A model to which the recursions apply exactly."""

    def chain(self, inputs: Tensor | None = None) -> kalman.GaussianChain:
        """The parameters in the form of the kernels."""

    def centred(self, x: Tensor, inputs: Tensor | None = None) -> Tensor:
        """x_t minus the contribution of the inputs."""


def has_gaussian_states(model: object) -> TypeIs[GaussianStateModel]:
    """Whether a model has Gaussian states, and `transition_mean` and `emission_mean`."""
    states = getattr(model, "states", None)
    named = hasattr(model, "transition_mean") and hasattr(model, "emission_mean")
    return named and (isinstance(states, GaussianStates) or not hasattr(model, "states"))


def is_linear(model: object) -> TypeIs[LinearGaussianModel]:
    """Whether the recursions apply exactly: whether a model with Gaussian states has `chain` too."""
    return has_gaussian_states(model) and hasattr(model, "chain")
