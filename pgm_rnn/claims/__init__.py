"""The papers' statements as checks that can fail; `CLAIMS` is the one list of them."""

from pgm_rnn.claims.choe_2017.every import CHOE_2017
from pgm_rnn.claims.claim import Claim, Result, check
from pgm_rnn.claims.sohl_dickstein_2015.every import SOHL_DICKSTEIN_2015
from pgm_rnn.claims.vidal_2024.registry import VIDAL_2024
from pgm_rnn.claims.vrnn_2019.registry import VRNN_2019

CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in (
        *CHOE_2017,
        *SOHL_DICKSTEIN_2015,
        *VRNN_2019,
        *VIDAL_2024,
    )
}
"""Every claim by its id, in the order of the papers."""

__all__ = ["CLAIMS", "Claim", "Result", "check"]
