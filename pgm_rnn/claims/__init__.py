"""The papers' statements as checks that can fail; `CLAIMS` is the one list of them."""

from pgm_rnn.claims.choe_2017.independences import MarkovProperties, Proposition4
from pgm_rnn.claims.choe_2017.theorem_5 import Remark1, Theorem5
from pgm_rnn.claims.claim import Claim, Result, check
from pgm_rnn.claims.sohl_dickstein_2015.causal_posterior import CausalPosterior
from pgm_rnn.claims.sohl_dickstein_2015.elbo_equivalence import ElboEquivalence

CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in (Theorem5(), Remark1(), MarkovProperties(), Proposition4(), ElboEquivalence(), CausalPosterior())
}
"""Every claim by its id, in the order of the papers."""

__all__ = ["CLAIMS", "Claim", "Result", "check"]
