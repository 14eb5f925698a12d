"""Exact inference in models with finitely many states: the forward-backward algorithm and its kin.

    filter     p(z_t | x_{1:t}),  p(z_t | x_{1:t-1}),  log p(x_{1:T})
    smooth     p(z_t | x_{1:T}),  p(z_t, z_{t+1} | x_{1:T})
    most_likely_states    argmax_z p(z_{1:T} | x_{1:T})      (Viterbi)
    smooth_and_decode     both, with the laws evaluated once
    sample_states         z_{1:T} ~ p(z_{1:T} | x_{1:T})
    predict    p(x_{t+1} | x_{1:t})

Every function takes whole padded batches and a model with any emission whose `states` are `FiniteStates`, or which
gives `initial_probs`, `transition_probs` and `emission_log_probs(x)`. `SemiMarkovStates` and `ProductStates` have the
same functions by the recursions for segments (`pgm_rnn.kernels.hsmm`) and for several chains
(`pgm_rnn.kernels.factorial`). Probabilities in the padding are zero. Sources: Rabiner (1989), sec. III; Choe, Shin &
Spencer (2017), sec. 3.2, for the forward part; Yu (2010) for segments; Ghahramani & Jordan (1997), appendix B, for
several chains.
"""

from pgm_rnn.inference.forward_backward.ahead import predict
from pgm_rnn.inference.forward_backward.engine import (
    filter,
    most_likely_states,
    sample_states,
    smooth,
    smooth_and_decode,
)
from pgm_rnn.inference.forward_backward.problem import FiniteStateModel, ImpossibleSequenceError
from pgm_rnn.inference.forward_backward.results import (
    Filtered,
    MostLikelyStates,
    Smoothed,
    SmoothedProduct,
    SmoothedSegments,
)

__all__ = [
    "Filtered",
    "FiniteStateModel",
    "ImpossibleSequenceError",
    "MostLikelyStates",
    "Smoothed",
    "SmoothedProduct",
    "SmoothedSegments",
    "filter",
    "most_likely_states",
    "predict",
    "sample_states",
    "smooth",
    "smooth_and_decode",
]
