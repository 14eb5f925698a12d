"""The claims of this paper, in its order."""

from pgm_rnn.claims.choe_2017.figure_4 import Figure4IsFigure3
from pgm_rnn.claims.choe_2017.finite_states import FiniteStatesAreExact
from pgm_rnn.claims.choe_2017.forward_algorithm import ForwardIsLinear, ForwardStart
from pgm_rnn.claims.choe_2017.independences import MarkovProperties, Proposition4
from pgm_rnn.claims.choe_2017.mixture_filter import MixtureFilterUnbiased
from pgm_rnn.claims.choe_2017.particle_weights import ParticleFilterRate, ParticleWeights
from pgm_rnn.claims.choe_2017.proposition_6 import LumpingSlope, Proposition6
from pgm_rnn.claims.choe_2017.rao_blackwell import RaoBlackwell
from pgm_rnn.claims.choe_2017.remark_7 import Remark7
from pgm_rnn.claims.choe_2017.seeded_filter import ParticleFilterIsAnRNN, Unbiased
from pgm_rnn.claims.choe_2017.theorem_5 import Remark1, Theorem5
from pgm_rnn.claims.claim import Claim

CHOE_2017: tuple[Claim, ...] = (
    ParticleWeights(),
    RaoBlackwell(),
    MixtureFilterUnbiased(),
    Remark1(),
    MarkovProperties(),
    Proposition4(),
    Theorem5(),
    ForwardIsLinear(),
    ForwardStart(),
    FiniteStatesAreExact(),
    Proposition6(),
    LumpingSlope(),
    Remark7(),
    Figure4IsFigure3(),
    ParticleFilterIsAnRNN(),
    Unbiased(),
    ParticleFilterRate(),
)
