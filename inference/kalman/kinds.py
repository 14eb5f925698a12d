"""The models that the Kalman engine takes, recognised by the kind of their states."""

from typing import Any, Protocol

from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from typing_extensions import TypeIs

from pgm_rnn.sequence_model.chains import has_chain
from pgm_rnn.states import GaussianStates


class GaussianStateModel(Protocol):
    """A model whose states are `GaussianStates`, read by no memory, and whose laws are normal."""

    @property
    def input_dim(self) -> int | None:
        """Width of the exogenous inputs, or None."""

    def initial(self, h: Any) -> TorchDistribution:
        """The law of z_1 given h_1."""

    def transition(self, z: Any, h: Any) -> TorchDistribution:
        """The law of z_t given z_{t-1} and h_t."""

    def emission(self, z: Any, h: Any) -> TorchDistribution:
        """The law of x_t given z_t and h_t."""

    def check(self, x: Tensor, lengths: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Valid observations and explicit lengths."""


class LinearGaussianModel(GaussianStateModel, Protocol):
    """A model with `GaussianStates(D, linear=True)`, to which the recursions apply exactly."""


def has_gaussian_states(model: object) -> TypeIs[GaussianStateModel]:
    """Whether a model has Gaussian states that no memory reads."""
    return isinstance(getattr(model, "states", None), GaussianStates) and not getattr(
        model, "memory_reads_state", False
    )


def is_linear(model: object) -> TypeIs[LinearGaussianModel]:
    """Whether the recursions apply exactly."""
    return has_chain(model)
