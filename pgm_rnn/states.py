"""Kinds of latent state z_t: the values of a model's attribute `states`, which determines the engines that are exact.

None                            no latent state: log p(x) is exact
FiniteStates(K)                 z_t in 0..K - 1: the forward-backward and Viterbi algorithms
SemiMarkovStates(K, D)          the same where a state lasts 1..D steps by a law of its own: their forms for segments
GaussianStates(D, linear=True)  z_t in R^D, all laws normal, their means linear in z: the Kalman filter
GaussianStates(D)               the same with any means: extended, unscented and iterated filters, SMC, SVI
SwitchingStates(K, D)           a regime in 0..K - 1 and a vector that is linear Gaussian given the regimes: mixtures of
                                Kalman filters, whose particles are the regimes alone
States()                        anything else: SMC and SVI
"""

from dataclasses import dataclass

from pgm_rnn.checks import check_counts

__all__ = [
    "NO_STATE",
    "FiniteStates",
    "GaussianStates",
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
    if isinstance(states, FiniteStates):
        return "finite states"
    if isinstance(states, SemiMarkovStates):
        return "states with durations"
    if isinstance(states, SwitchingStates):
        return "switching states"
    if isinstance(states, GaussianStates):
        return "linear Gaussian states" if states.linear else "nonlinear Gaussian states"
    return "states of no known structure"
