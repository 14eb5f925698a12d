"""Kinds of latent state z_t: the values of a model's attribute `states`, which determines the engines that are exact.

None                            no latent state: log p(x) is exact
FiniteStates(K)                 z_t in 0..K - 1: the forward-backward and Viterbi algorithms
ProductStates(K1, K2, ...)      z_t of several chains that move independently: the same, one chain at a time
SemiMarkovStates(K, D)          the same where a state lasts 1..D steps by a law of its own: their forms for segments
GaussianStates(D, linear=True)  z_t in R^D, all laws normal, their means linear in z: the Kalman filter
GaussianStates(D)               the same with any means: extended, unscented and iterated filters, SMC, SVI
SwitchingStates(K, D)           a regime and a vector, linear Gaussian given the regimes: particles of Kalman filters
States()                        anything else: SMC and SVI
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pgm_rnn.checks import check_counts

__all__ = [
    "NO_STATE",
    "FiniteStates",
    "GaussianStates",
    "ProductStates",
    "SemiMarkovStates",
    "States",
    "SwitchingStates",
    "described",
]
NO_STATE = -1
"""Stands in results in place of one of the states 0..K - 1 where there is none, behind the end of a sequence."""


@dataclass(frozen=True)
class States:
    """A latent state about which nothing more is known."""


@dataclass(frozen=True)
class FiniteStates(States):
    """A latent state with finitely many values, the integers 0..num_states - 1; event shape ().

    Args:
        num_states: K, at least 1.

    Raises:
        ValueError: K is below 1.
    """

    num_states: int

    def __post_init__(self) -> None:
        check_counts(num_states=self.num_states)


@dataclass(frozen=True, init=False, repr=False)
class ProductStates(FiniteStates):
    """The states of several chains, z_t = (z_t^1, ..., z_t^M), that move independently of each other a priori.

    A value is one integer in 0..num_states - 1, with num_states = K_1 ... K_M, so that every engine for finite states
    takes it; `split` gives the states of the chains. `initial` and `transition` return a
    `pgm_rnn.distributions.ProductOfCategoricals`, whose law of a chain depends on the state before of that chain alone,
    and on the memory. Exact inference then costs O(T num_states (K_1 + ... + K_M)).

    Args:
        sizes: K_1, ..., K_M, the number of states of each chain, at least 1.

    Raises:
        ValueError: no chain, or a number of states below 1.

    Example:
        >>> import torch
        >>> states = ProductStates(2, 3)
        >>> states.num_states, [int(part) for part in states.split(torch.tensor(4))]
        (6, [1, 1])
    """

    sizes: tuple[int, ...]

    def __init__(self, *sizes: int) -> None:
        if not sizes:
            raise ValueError("expected the number of states of at least one chain, got none")
        for size in sizes:
            check_counts(num_states=size)
        object.__setattr__(self, "sizes", tuple(int(size) for size in sizes))
        super().__init__(math.prod(self.sizes))

    def __repr__(self) -> str:
        return f"ProductStates({', '.join(map(str, self.sizes))})"

    @property
    def are_few(self) -> bool:
        """Whether the values are few enough for tables of all of them, which the exact engines make."""
        return self.num_states <= LARGEST_PRODUCT

    def split(self, z: Tensor) -> tuple[Tensor, ...]:
        """The states of the chains, each of the shape of z; that of the last chain changes fastest in z."""
        parts = []
        for size in reversed(self.sizes):
            parts.append(z % size)
            z = z // size
        return tuple(reversed(parts))

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """The integers that stand for the states of the chains, M tensors that broadcast."""
        total = parts[0]
        for part, size in zip(parts[1:], self.sizes[1:], strict=True):
            total = total * size + part
        return total


LARGEST_PRODUCT = 2**20
"""Largest number of values of `ProductStates` that are summed over exactly."""


@dataclass(frozen=True)
class SemiMarkovStates(States):
    """A latent state 0..num_states - 1 that lasts some steps, then gives way to another one; event shape ().

    The number of steps has a law of its own in each state, so that z_t alone is no Markov chain; z_t and the steps that
    its segment has lasted are one. `pgm_rnn.sequence_model.SemiMarkov` makes the laws of a model from its tables.

    Args:
        num_states: K, at least 2, because a segment ends by a move to another state.
        max_duration: D, the longest duration in steps, at least 1.

    Raises:
        ValueError: K is below 2, or D below 1.
    """

    num_states: int
    max_duration: int

    def __post_init__(self) -> None:
        check_counts(num_states=self.num_states, max_duration=self.max_duration)
        if self.num_states < 2:
            raise ValueError(
                f"expected num_states of at least 2, because each segment ends by a move to another state, got "
                f"{self.num_states}"
            )


NUMBERED = FiniteStates | SemiMarkovStates
"""States that are numbers 0..num_states - 1."""


@dataclass(frozen=True)
class GaussianStates(States):
    """A latent vector, (D,), with normal laws.

    Args:
        dim: D, at least 1.
        linear: whether the means of z_t and x_t are linear (affine) functions of z_{t-1} and z_t, and their covariances
            do not depend on them. Matrices may depend on a memory that reads observations and inputs.

    Raises:
        ValueError: D is below 1.
    """

    dim: int
    linear: bool = False

    def __post_init__(self) -> None:
        check_counts(dim=self.dim)


@dataclass(frozen=True)
class SwitchingStates(States):
    """A regime s and a vector y with normal laws in each regime, as one vector z = (s, y) of 1 + dim real entries.

    The laws of z are `pgm_rnn.distributions.RegimeNormal`, which give p(s) and p(y | s).

    Args:
        num_regimes: K, at least 1; the first entry of z is one of 0..K - 1.
        dim: D, the number of entries of y, at least 1.

    Raises:
        ValueError: K or D is below 1.
    """

    num_regimes: int
    dim: int

    def __post_init__(self) -> None:
        check_counts(num_regimes=self.num_regimes, dim=self.dim)


def described(states: States | None) -> str:
    """The states in words, for errors: "none" without a latent state, "finite states", "linear Gaussian states", ..."""
    if states is None:
        return "none"
    if isinstance(states, ProductStates):
        return "states of several chains" if states.are_few else "states of several chains, too many to sum over"
    if isinstance(states, FiniteStates):
        return "finite states"
    if isinstance(states, SemiMarkovStates):
        return "states with durations"
    if isinstance(states, SwitchingStates):
        return "switching states"
    if isinstance(states, GaussianStates):
        return "linear Gaussian states" if states.linear else "nonlinear Gaussian states"
    return "states of no known structure"
