"""The claims of the note on variational recurrent networks, and of the paper that it is on."""

from pgm_rnn.claims.claim import Claim
from pgm_rnn.claims.vrnn_2019.factorisation import VrnnFactorisation, VrnnMarginal, VrnnPast
from pgm_rnn.claims.vrnn_2019.limits import VrnnLimits, VrnnLinearLimit
from pgm_rnn.claims.vrnn_2019.objective import VrnnObjective, VrnnObjectiveSum

VRNN_2019: tuple[Claim, ...] = (
    VrnnFactorisation(),
    VrnnPast(),
    VrnnMarginal(),
    VrnnObjective(),
    VrnnObjectiveSum(),
    VrnnLimits(),
    VrnnLinearLimit(),
)
"""In the order of the note."""
