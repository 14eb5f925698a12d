"""The objective of EM's M-step without an axis of steps, for models whose laws are the same at every step.

    Q = sum_k E[#z_1 = k] log p(z_1 = k) + sum_ij E[#i -> j] log p(j | i) + sum_t sum_k p(z_t = k | x) log p(x_t | k)

The last sum is a function of sufficient statistics, a few numbers for each state and entry of x
(`pgm_rnn.distributions.sufficient_statistics`). This is the Q of `pgm_rnn.sequence_model.expected` up to rounding, in a
time that does not grow with T.
"""

from typing import Any, NamedTuple

from torch import Tensor

from pgm_rnn.distributions.sufficient_statistics import Statistics, statistics_of
from pgm_rnn.sequence_model import products
from pgm_rnn.sequence_model.expected import AnyExpected, ExpectedProduct, weighted_log
from pgm_rnn.sequence_model.state_laws import StateLaws
from pgm_rnn.sequence_model.tables import gives_tables
from pgm_rnn.sequences import Sequences, length_mask


class Counts(NamedTuple):
    """Expected counts of all sequences together.

    Attributes:
        first: expected number of sequences that begin in each state, (K,), or of each chain, (sum of K_m,).
        moves: expected number of moves, (K, K), or of each chain, (sum of K_m^2,).
        emission: sufficient statistics of the observations in each state.
    """

    first: Tensor
    moves: Tensor
    emission: Statistics


def counts_of(model: Any, data: Sequences, expected: AnyExpected) -> Counts | None:
    """The counts of checked data; None for a model with a memory or inputs, or laws without sufficient statistics.

    Args:
        model: a model with `FiniteStates` or `ProductStates`.
        data: checked sequences.
        expected: posterior probabilities of the states of all of these sequences.
    """
    if gives_tables(model):
        return None
    law = _laws_of(model, data).emission_law()
    if law is None:
        return None
    inside = length_mask(data.lengths, data.x.shape[1])
    observed = None if data.observed is None else data.observed[inside]
    emission = statistics_of(law, data.x[inside], expected.states[inside], observed)
    if emission is None:
        return None
    if isinstance(expected, ExpectedProduct):
        return Counts(expected.start.sum(0), expected.moves.sum((0, 1)), emission)
    return Counts(expected.first.sum(0), expected.moves.reshape(-1, *expected.moves.shape[-2:]).sum(0), emission)


def expected_log_density_of_counts(model: Any, data: Sequences, counts: Counts) -> Tensor:
    """Q of the sequences together under the model's present laws, nats, (), float64, differentiable."""
    laws, one = _laws_of(model, data), slice(0, 1)
    law: Any = laws.emission_law()  # there is one, or there would be no counts
    of_states = weighted_log(counts.first, laws.initial(one)[0]) + weighted_log(
        counts.moves, laws.transition(one)[0, 0]
    )
    return of_states + counts.emission.log_prob(law)


def _laws_of(model: Any, data: Sequences) -> StateLaws:
    return products.laws_of(model, data) if products.has_product(model) else StateLaws(model, data)
