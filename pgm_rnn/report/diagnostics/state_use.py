"""How finite states share the data, and which states are alike.

    n_k = sum_t p(z_t = k | x_{1:T})        expected number of steps in state k

    TV(i, j) = sum_t w_t |p(x_t | i) - p(x_t | j)| / (p(x_t | i) + p(x_t | j)),   w_t ~ p(z_t in {i, j} | x_{1:T})

TV estimates the total variation distance of the laws of two states over the data that they explain, from 0 for equal
laws to 1 for laws that never agree. States are alike if their laws and their rows of the transition table agree; in the
rows the two states count as one, for their shares of each other are arbitrary.
"""

import itertools
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.inference import forward_backward
from pgm_rnn.inference.em.remarks import LEAST_SHARE, named
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.finite_chain import chain_of
from pgm_rnn.report.number_tables import Table
from pgm_rnn.sequence_model.tables import tables_of
from pgm_rnn.sequences import Sequences, length_mask

ALIKE = 0.1
"""Distance of laws, and of rows, below which two states are alike."""
COLUMNS = ("expected steps", "share", "nearest state", "distance of laws", "distance of moves")


@torch.no_grad()
def state_use(model: Any, data: Sequences) -> Section:
    """The section of a model with finitely many states.

    Args:
        model: a model that `has_tables`.
        data: checked data.
    """
    inside = length_mask(data.lengths, data.x.shape[1])
    probs = forward_backward.smooth(model, data).smoothed_probs[inside]  # (steps, K)
    laws = law_distances(tables_of(model, data).log_emission[inside], probs)
    chain = chain_of(model)
    moves = torch.zeros_like(laws) if chain is None else move_distances(chain.transition().to(laws))
    shares, num_states = probs.sum(0), probs.shape[1]
    nearest = (torch.maximum(laws, moves) + torch.eye(num_states).to(laws)).argmin(1) if num_states > 1 else None
    rows = tuple(_row(k, shares, laws, moves, nearest) for k in range(num_states))
    table = Table("states", "shares of the states", "state", tuple(map(str, range(num_states))), COLUMNS, rows)
    note = (
        "expected steps by the smoothed probabilities; distances from 0 (equal) to 1: of laws on these data, of moves "
        "between rows of the transition table in which the two states count as one, so that two states alone have 0"
    )
    found = (*_empty(shares), *_alike(laws, moves, shares))
    return Section(table, note, "shares and likeness of the states", found, tuple(shares.argsort().tolist()))


def _row(k: int, shares: Tensor, laws: Tensor, moves: Tensor, nearest: Tensor | None) -> tuple[float, ...]:
    share = (float(shares[k]), float(shares[k] / shares.sum()))
    if nearest is None:
        return (*share, *[float("nan")] * 3)
    other = int(nearest[k])
    return (*share, other, float(laws[k, other]), float(moves[k, other]))


def law_distances(log_emission: Tensor, probs: Tensor) -> Tensor:
    """TV(i, j) of each pair of states, (K, K), zero on the diagonal.

    Args:
        log_emission: log p(x_t | z_t = k), (steps, K), nats.
        probs: p(z_t = k | x_{1:T}), (steps, K).
    """
    num_states = log_emission.shape[1]
    found = log_emission.new_zeros(num_states, num_states)
    for i in range(num_states - 1):
        later = slice(i + 1, num_states)
        apart = (log_emission[:, i, None] - log_emission[:, later]).nan_to_num(0.0)  # both impossible: no difference
        weights = probs[:, i, None] + probs[:, later]
        found[i, later] = (weights * (apart / 2).tanh().abs()).sum(0) / weights.sum(0).clamp(min=1e-30)
    return found + found.mT


def move_distances(transition: Tensor) -> Tensor:
    """Total variation distance of the rows i and j of a table (K, K), in which the states i and j count as one.

    It is exactly 0 where there are no other states.
    """
    num_states = len(transition)
    found = torch.zeros_like(transition)
    for i, j in itertools.combinations(range(num_states), 2):
        others = [k for k in range(num_states) if k not in (i, j)]
        apart = (transition[i] - transition[j])[others]
        found[i, j] = found[j, i] = (apart.abs().sum() + apart.sum().abs()) / 2  # rows sum to one, also within {i, j}
    return found


def _empty(shares: Tensor) -> tuple[str, ...]:
    empty = shares < LEAST_SHARE
    if not bool(empty.any()):
        return ()
    return (
        f"Almost none of the data, less than {LEAST_SHARE} expected steps, belongs to {named('state', empty)} (counted "
        "from 0): fit with fewer states or more restarts",
    )


def _alike(laws: Tensor, moves: Tensor, shares: Tensor) -> tuple[str, ...]:
    """The pairs of states with a share that are alike."""
    near = torch.maximum(laws, moves) < ALIKE
    near = near & (shares >= LEAST_SHARE) & (shares >= LEAST_SHARE)[:, None]
    pairs = near.triu(1).nonzero().tolist()
    if not pairs:
        return ()
    i, j = min(pairs, key=lambda pair: float(laws[pair[0], pair[1]]))
    more = f", and {len(pairs) - 1} more pairs" if len(pairs) > 1 else ""
    return (
        f"States {i} and {j} are nearly the same (distance of their laws {float(laws[i, j]):.2f}, of their moves "
        f"{float(moves[i, j]):.2f}{more}): fit with fewer states",
    )
