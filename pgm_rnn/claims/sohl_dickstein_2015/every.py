"""The claims of this paper, in its order."""

from pgm_rnn.claims.claim import Claim
from pgm_rnn.claims.sohl_dickstein_2015.causal_posterior import CausalPosterior
from pgm_rnn.claims.sohl_dickstein_2015.elbo_equivalence import ElboEquivalence
from pgm_rnn.claims.sohl_dickstein_2015.importance_weighted import ImportanceWeighted
from pgm_rnn.claims.sohl_dickstein_2015.multi_particle import MultiParticle, MultiParticleBound
from pgm_rnn.claims.sohl_dickstein_2015.noise_free import NoiseCanHelp, NoiseFreeDynamics
from pgm_rnn.claims.sohl_dickstein_2015.stochastic_bound import StochasticBound

SOHL_DICKSTEIN_2015: tuple[Claim, ...] = (
    ElboEquivalence(),
    StochasticBound(),
    NoiseFreeDynamics(),
    NoiseCanHelp(),
    CausalPosterior(),
    MultiParticle(),
    MultiParticleBound(),
    ImportanceWeighted(),
)
