"""Laws of whole sequences as Pyro distributions, their hidden states summed out by the compiled recursions.

    DiscreteHMM, GaussianHMM     where `pyro.distributions` has those of the same names

Time convention: the initial law is that of z_1, the state of the first observation. Pyro's classes mean the state a
step before it; `initial_step=0` takes their parameters as they are.
"""

from typing import Any

from pgm_rnn import moved
from pgm_rnn.distributions.discrete_hmm import DiscreteHMM
from pgm_rnn.distributions.gaussian_hmm import GaussianHMM

__all__ = ["DiscreteHMM", "GaussianHMM"]


def __getattr__(name: str) -> Any:
    """A law of 0.1.0 that has moved."""
    return moved.moved_name(__name__, name)
