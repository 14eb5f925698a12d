"""Matching of clusters of observations to the states of a chain whose states are not interchangeable.

The states of a left-to-right chain, or of one whose transitions are given, differ before any emission is known.
Clusters and states are first matched by the order of their mean times of visit. Then pairs of clusters are exchanged as
long as that makes the transitions between clusters more probable.
"""

import torch
from torch import Tensor

_LEAST = 1e-6
"""Probability of an impossible move, so that fewer of them are better."""
_MOST_STEPS, _MOST_PASSES, _MOST_STATES = 1000, 10, 100
"""Limits on the work: steps of the chain, passes over all pairs, and states for which passes are made."""


def numbered_like(initial: Tensor, transition: Tensor, members: Tensor, lengths: Tensor) -> Tensor:
    """The cluster that each state takes, a permutation (K,).

    Args:
        initial: p(z_1) of the chain, (K,).
        transition: p(z_{t+1} = j | z_t = i), (K, K).
        members: probability of each cluster at each step, one sequence after the other, (N, K).
        lengths: lengths of the sequences, (B,).
    """
    starts = lengths.cumsum(0) - lengths
    step = torch.arange(len(members), device=members.device) - starts.repeat_interleave(lengths)
    visited = step.to(members) @ members / members.sum(0).clamp(min=torch.finfo(members.dtype).tiny)
    clusters, states = visited.argsort(), _visits(initial, transition, int(lengths.max())).argsort()
    order = torch.empty_like(clusters)
    order[states] = clusters
    before = (step[1:] > 0).nonzero()[:, 0]
    first, moves = members[starts].sum(0), members[before].mT @ members[before + 1]
    return _exchanged(order, first, moves, initial.clamp(min=_LEAST).log(), transition.clamp(min=_LEAST).log())


def _visits(initial: Tensor, transition: Tensor, num_steps: int) -> Tensor:
    """The mean time at which the chain visits each state, (K,)."""
    probs, weight, total = initial, torch.zeros_like(initial), torch.zeros_like(initial)
    for t in range(min(num_steps, _MOST_STEPS)):
        weight, total = weight + probs, total + t * probs
        probs = probs @ transition
    return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)


def _exchanged(order: Tensor, first: Tensor, moves: Tensor, log_initial: Tensor, log_transition: Tensor) -> Tensor:
    """`order` after exchanges of two clusters, each of which makes first states and moves more probable."""

    def score(order: Tensor) -> float:
        return float((first[order] * log_initial).sum() + (moves[order][:, order] * log_transition).sum())

    best = score(order)
    for _ in range(_MOST_PASSES if len(order) <= _MOST_STATES else 0):
        before = best
        for i in range(len(order)):
            for j in range(i):
                other = order.clone()
                other[[i, j]] = order[[j, i]]
                value = score(other)
                if value > best:
                    best, order = value, other
        if best == before:
            break
    return order
