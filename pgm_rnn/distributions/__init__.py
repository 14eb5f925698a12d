"""Laws of whole sequences as Pyro distributions, their hidden states summed out by the compiled recursions.

    DiscreteHMM, GaussianHMM     where `pyro.distributions` has those of the same names
    SequenceLaw                  p(x_{1:T}) of any exact model of the zoo, what its fused program samples from
    StateLaw                     p(z_{1:T} | x) step by step, a model's own or its guide's

Time convention: the initial law is that of z_1, the state of the first observation. Pyro's classes mean the state a
step before it; `initial_step=0` takes their parameters as they are.
"""

from pgm_rnn.distributions.discrete_hmm import DiscreteHMM
from pgm_rnn.distributions.gaussian_hmm import GaussianHMM
from pgm_rnn.distributions.sequence_law import SequenceLaw
from pgm_rnn.distributions.state_law import StateLaw

__all__ = ["DiscreteHMM", "GaussianHMM", "SequenceLaw", "StateLaw"]
