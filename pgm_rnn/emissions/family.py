"""The base class of families of observation laws, and the two ways to pick their members.

    head     a linear map from a hidden vector to the family's unconstrained numbers:  p(x | h) = family(W h + b)
    table    one row of unconstrained numbers for each of finitely many states:        p(x | z = k) = family(params[k])

A new family subclasses `Emission`; a family whose members share weights defines its own head.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.emissions.mixing import log_weights, mixture
from pgm_rnn.emissions.natural import Natural


class Emission(ABC):
    """One family of laws for an observation; see `Categorical`, `Bernoulli`, `Gaussian`, `Poisson`.

    `FullGaussian` and `Pen` have entries that depend on each other; `NadeBits` is one whose members share weights.
    `Joint` is the product of others, one for each column.
    """

    @property
    @abstractmethod
    def event_shape(self) -> torch.Size:
        """Shape of one observation."""

    @property
    @abstractmethod
    def num_params(self) -> int:
        """Number of unconstrained parameters that pick one law."""

    @property
    def num_own(self) -> int:
        """Number of parameters, the first ones, that each state of a table has of its own; all by default."""
        return self.num_params

    @abstractmethod
    def distribution(self, params: Tensor) -> TorchDistribution:
        """The law with unconstrained `params` (..., num_params): batch shape (...), event shape `event_shape`.

        Raises:
            TypeError: a family that `needs_head`.
        """

    @abstractmethod
    def invalid(self, x: Tensor) -> Tensor:
        """True at each entry of x that the family cannot emit, NaN included; shape of x."""

    def takes(self, x: Tensor) -> bool:
        """Whether the family can emit every entry of x."""
        return not bool(self.invalid(x).any())

    @property
    @abstractmethod
    def support(self) -> str:
        """Description of the valid values for error messages."""

    def support_of(self, entry: tuple[int, ...]) -> str:
        """Description of the valid values of one entry of an observation; `support` by default."""
        return self.support

    @property
    def needs_integers(self) -> bool:
        """Whether observations must have an integer dtype."""
        return False

    @property
    def continuous(self) -> bool:
        """Whether the laws are densities on the real numbers that are positive everywhere."""
        return False

    @property
    def needs_head(self) -> bool:
        """Whether the members share trainable parameters, which only a head can hold; such a family has no tables."""
        return False

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The natural parameters of the rows of a table, by the names of the arguments of `table`; none by default."""
        return {}

    @property
    def input_dim(self) -> int:
        """Width of `as_input`."""
        return self.event_shape.numel()

    def as_input(self, x: Tensor) -> Tensor:
        """Observations (..., *event) as the input of a recurrence, (..., input_dim)."""
        return x.reshape(*x.shape[: x.dim() - len(self.event_shape)], self.input_dim)

    def within_range(self, params: Tensor) -> Tensor:
        """A network's unconstrained parameters, (..., num_params), moved to where densities are finite.

        It is the identity by default. A family with scales keeps them at or above
        `pgm_rnn.kernels.positive.least_scale`, because a network that reads large numbers may output scales that
        underflow.
        """
        return params

    def head(self, width: int) -> "EmissionHead":
        """A trainable map from features (..., width) to laws, initialised by torch's global generator."""
        return EmissionHead(self, width)

    def log_probs(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | params[k]) for every row k of a table: (..., num_states) for observations x (..., *event)."""
        x = x.unsqueeze(x.dim() - len(self.event_shape))  # (..., 1, *event)
        return self.distribution(params).log_prob(x)

    def entries_log_probs(self, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """`log_probs` of the entries where `observed` (..., *event) is true, the others integrated out.

        Raises:
            ValueError: an observation is partly missing, and the family cannot integrate out single entries.
        """
        axis = x.dim() - len(self.event_shape)
        return observed_log_prob(self.distribution(params), x.unsqueeze(axis), observed.unsqueeze(axis))

    def mixture(self, params: Tensor, probs: Tensor) -> TorchDistribution:
        """sum_k probs[k] p(x | params[k]) for a table of params and rows of probabilities (..., num_states)."""
        return mixture(self.distribution(params), log_weights(probs))

    def random_table(self, num_states: int) -> "EmissionTable":
        """One law for each state with standard normal unconstrained parameters, drawn by torch's global generator."""
        return EmissionTable(self, torch.randn(num_states, self.num_params))


class EmissionHead(nn.Module):
    """The law of an observation given features h: p(x | h) = family.distribution(W h + b).

    `family.within_range` moves the few parameters that would make a density infinite.

    A family whose members share further parameters has its own class of head, which holds them.

    Args:
        family: the family of the observations.
        width: number of features.

    Attributes:
        weight: W, (num_params, width), trainable.
        bias: b, (num_params,), trainable.
    """

    def __init__(self, family: Emission, width: int) -> None:
        super().__init__()
        linear = nn.Linear(width, family.num_params)
        self.family, self.weight, self.bias = family, linear.weight, linear.bias

    def forward(self, features: Tensor) -> TorchDistribution:
        """p(x | h) of features (..., width): batch shape (...)."""
        return self.family.distribution(self.family.within_range(F.linear(features, self.weight, self.bias)))


class EmissionTable(nn.Module):
    """One member of a family for each of finitely many states: p(x | z = k), k = 0..num_states - 1.

    Args:
        family: the family of the observations.
        params: unconstrained parameters, (num_states, num_params), copied.

    Attributes:
        family: the family of the observations.
        params: unconstrained parameters, (num_states, num_params), trainable.

    Raises:
        TypeError: a family whose members share parameters.
        ValueError: parameters of another shape.
    """

    def __init__(self, family: Emission, params: Tensor) -> None:
        super().__init__()
        if family.needs_head:
            raise TypeError(
                f"expected a family whose laws share no weights for a table of states, got {family}; "
                "use a network such as RNN, or the family Bernoulli"
            )
        if params.dim() != 2 or params.shape[1] != family.num_params:
            raise ValueError(
                f"expected parameters of shape (num_states, {family.num_params}) for {family}, "
                f"got {tuple(params.shape)}"
            )
        self.family = family
        self.params = nn.Parameter(params.clone(memory_format=torch.contiguous_format))

    @property
    def num_states(self) -> int:
        """Number of states."""
        return self.params.shape[0]

    @torch.no_grad()
    def set_params(self, params: Tensor) -> None:
        """Replace the unconstrained parameters, (num_states, num_params), in place.

        Raises:
            ValueError: states that share parameters have different ones.
        """
        self.params.copy_(params)

    @property
    def natural_parameters(self) -> Mapping[str, Natural]:
        """The family's natural parameters, each (num_states, ...), in the shapes that its `table` takes."""
        return self.family.natural_parameters

    def forward(self, z: Tensor) -> TorchDistribution:
        """p(x | z); its batch shape is that of z."""
        return self.family.distribution(self.params[z])

    def log_probs(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """log p(x | z = k) for every state k: (..., num_states) for observations x (..., *event).

        Args:
            x: the observations, any valid number where one is missing.
            observed: True where x was observed, (...) or (..., *event), None for everywhere; what is missing is
                integrated out.

        Raises:
            ValueError: an observation is partly missing, and the family cannot integrate out single entries.
        """
        if observed is not None and observed.dim() == x.dim() and self.family.event_shape:
            return self.family.entries_log_probs(self.params, x, observed)
        log_probs = self.family.log_probs(self.params, x)
        return log_probs if observed is None else log_probs.where(observed[..., None], 0.0)

    def mixture(self, probs: Tensor) -> TorchDistribution:
        """sum_k probs[k] p(x | z = k) for rows of probabilities (..., num_states): batch shape (...)."""
        return self.family.mixture(self.params, probs)
