"""The claims of this paper, in its order."""

from pgm_rnn.claims.claim import Claim
from pgm_rnn.claims.sohl_dickstein_2015.causal_posterior import CausalPosterior
from pgm_rnn.claims.sohl_dickstein_2015.elbo_equivalence import ElboEquivalence

SOHL_DICKSTEIN_2015: tuple[Claim, ...] = (ElboEquivalence(), CausalPosterior())
