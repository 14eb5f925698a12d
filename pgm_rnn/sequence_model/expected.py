"""What EM expects of the states of a chain, and the objective of its M-step.

    E: p(z_1 | x), p(z_{t-1}, z_t | x), p(z_t | x)    under the present parameters
    M: Q = E[log p(z_1) + sum_t log p(z_t | z_{t-1}) + sum_t log p(x_t | z_t) | x_{1:T}]    of new ones

No step that raises Q lowers log p(x_{1:T}), and at the present parameters their gradients are equal (Fisher's
identity). Given x_1, log p(x_1) is subtracted from Q as from the likelihood; the posterior stays the same.

Sources: Rabiner (1989), eq. (27), (37); Dempster, Laird & Rubin (1977), for steps that do not reach the maximum.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import hmm
from pgm_rnn.sequence_model.conditionals import First
from pgm_rnn.sequence_model.tables import Tables, of_first_step


class Expected(NamedTuple):
    """Posterior probabilities of the states given x_{1:T}, zero in the padding.

    Attributes:
        moves: expected numbers of moves, p(z_{t-1} = i, z_t = j | x_{1:T}), with the axes of the transition table:
            (K, K), summed over sequences and steps, or (batch or 1, T - 1 or 1, K, K).
        states: p(z_t = k | x_{1:T}), (batch, T, K).
    """

    moves: Tensor
    states: Tensor

    @property
    def first(self) -> Tensor:
        """p(z_1 = k | x_{1:T}), (batch, K)."""
        return self.states[:, 0]


@torch.no_grad()
def expect(tables: Tables, lengths: Tensor) -> tuple[Tensor, Expected]:
    """E-step: log p(x_t | x_{1:t-1}), nats, (batch, T), zero in the padding, and the posterior probabilities."""
    forward = hmm.forward(*tables, lengths, in_whole=True)
    _, moves, states = hmm.expected_pairs(
        tables.transition, lengths, forward, torch.ones_like(tables.log_emission[:, 0, 0])
    )
    return forward.log_normalizers, Expected(moves, states)


def expected_log_density(tables: Tables, expected: Expected, first: First) -> Tensor:
    """Q of the sequences together, nats, (), differentiable in the tables; without log p(x_1) if that is given."""
    initial, transition, log_emission = tables
    total = _weighted(expected.first, _log(initial, expected.first)) + _weighted(
        expected.states, log_emission.where(expected.states > 0, 0.0)
    )
    if transition.numel():
        total = total + _weighted(expected.moves, _log(transition, expected.moves))
    return total if first == "model" else total - of_first_step(tables).sum(dtype=torch.float64)


def _log(probs: Tensor, weights: Tensor) -> Tensor:
    """log probs, and 0 where the weight is zero, so that an impossible state has no gradient of NaN."""
    return probs.where(weights > 0, 1.0).log()


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    return (weights * values).sum(dtype=torch.float64)
