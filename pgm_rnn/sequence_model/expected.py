"""What EM expects of the states of a chain, and the objective of its M-step.

    E: p(z_1 | x), p(z_{t-1}, z_t | x), p(z_t | x)    under the present parameters
    M: Q = E[log p(z_1) + sum_t log p(z_t | z_{t-1}) + sum_t log p(x_t | z_t) | x_{1:T}]    of new ones

No step that raises Q lowers log p(x_{1:T}), and at the present parameters their gradients are equal (Fisher's
identity). Given x_1, log p(x_1) is subtracted from Q as from the likelihood; the posterior stays the same.

Sources: Rabiner (1989), eq. (27), (37); Dempster, Laird & Rubin (1977), for steps that do not reach the maximum.
"""

from typing import NamedTuple, overload

import torch
from torch import Tensor

from pgm_rnn.kernels import factorial, hmm
from pgm_rnn.sequence_model import products
from pgm_rnn.sequence_model.conditionals import First
from pgm_rnn.sequence_model.products import Product
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


class ExpectedProduct(NamedTuple):
    """The same for several chains (`pgm_rnn.states.ProductStates`).

    Attributes:
        sizes: K_1, ..., K_M.
        start: p(z_1^m = k | x_{1:T}) of every chain, one after the other, (batch, sum of K_m).
        moves: expected numbers of moves of every chain, (batch or 1, T - 1 or 1, sum of K_m^2), with the axes of the
            transition tables: summed over the sequences or steps that share them.
        states: p(z_t | x_{1:T}), (batch, T, N).
    """

    sizes: tuple[int, ...]
    start: Tensor
    moves: Tensor
    states: Tensor

    @property
    def first_of_chains(self) -> list[Tensor]:
        """Expected number of sequences that begin in each state of each chain, (K_m,)."""
        return factorial.unpacked(self.sizes, self.start.sum(0), square=False)

    @property
    def moves_of_chains(self) -> list[Tensor]:
        """Expected number of moves of each chain in all sequences, (K_m, K_m)."""
        return factorial.unpacked(self.sizes, self.moves.sum((0, 1)), square=True)


AnyExpected = Expected | ExpectedProduct
"""What an M-step may get: that of one chain, or that of several."""


@overload
def expect(tables: Tables, lengths: Tensor) -> tuple[Tensor, Expected]: ...


@overload
def expect(tables: Product, lengths: Tensor) -> tuple[Tensor, ExpectedProduct]: ...


@torch.no_grad()
def expect(tables: Tables | Product, lengths: Tensor) -> tuple[Tensor, AnyExpected]:
    """E-step: log p(x_t | x_{1:t-1}), nats, (batch, T), zero in the padding, and the posterior probabilities."""
    if isinstance(tables, Product):
        found = factorial.posterior(*tables, lengths)
        own = len(tables.transition) == len(lengths)
        moves = found.moves if own else found.moves.sum(0, keepdim=True)
        return found.log_normalizers, ExpectedProduct(tables.sizes, found.first, moves, found.states)
    forward = hmm.forward(*tables, lengths, in_whole=True)
    _, moves, states = hmm.expected_pairs(
        tables.transition, lengths, forward, torch.ones_like(tables.log_emission[:, 0, 0])
    )
    return forward.log_normalizers, Expected(moves, states)


def expected_log_density(tables: Tables | Product, expected: AnyExpected, first: First) -> Tensor:
    """Q of the sequences together, nats, (), differentiable in the tables; without log p(x_1) if that is given."""
    if isinstance(expected, ExpectedProduct):
        assert isinstance(tables, Product)  # both are of one model
        return _of_product(tables, expected, first)
    assert isinstance(tables, Tables)
    initial, transition, log_emission = tables
    total = weighted_log(expected.first, initial) + _weighted(
        expected.states, log_emission.where(expected.states > 0, 0.0)
    )
    if transition.numel():
        total = total + weighted_log(expected.moves, transition)
    return total if first == "model" else total - of_first_step(tables).sum(dtype=torch.float64)


def _of_product(product: Product, expected: ExpectedProduct, first: First) -> Tensor:
    """Q of several chains."""
    total = weighted_log(expected.start, product.initial) + _weighted(
        expected.states, product.log_emission.where(expected.states > 0, 0.0)
    )
    if product.transition.numel():
        total = total + weighted_log(expected.moves, product.transition)
    return total if first == "model" else total - products.of_first_step(product).sum(dtype=torch.float64)


def weighted_log(weights: Tensor, probs: Tensor) -> Tensor:
    """sum of weights log probs, (), float64; an impossible state of weight zero has no gradient of NaN."""
    return _weighted(weights, probs.where(weights > 0, 1.0).log())


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    return (weights * values).sum(dtype=torch.float64)
