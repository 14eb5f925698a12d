"""Labels of states that change between the draws of a Markov chain.

The likelihood does not tell how states are numbered, so a chain may renumber them on its way, and two chains may number
them differently. Each draw is given the numbering that brings it nearest to a pivot (by the Hungarian algorithm on
squared distances, in standard deviations of each parameter), and the pivot is the mean of the draws so numbered:
Stephens (2000), alg. 2.1, with distances in place of his loss. A draw has switched if that numbering is not the one of
most draws.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pmmh import ParticlePosterior
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.number_tables import Table

COLUMNS = ("draws", "switched", "share")
_ROUNDS = 10
"""Largest number of times that pivot and numberings are computed in turn."""


def switching(result: Posterior | ParticlePosterior, num_states: int) -> Section | None:
    """The section of draws of parameters by state; None where no parameter belongs to the states.

    Args:
        result: the result of `mcmc.run` or `pmmh.run`.
        num_states: K; parameters (K, ...) belong to the states, but for initial and transition probabilities.
    """
    posterior = result.posterior if isinstance(result, ParticlePosterior) else result
    draws = by_state(posterior.samples, num_states)
    if draws is None or num_states == 1:
        return None
    orders = numberings(draws.reshape(-1, *draws.shape[2:]))
    kinds, counts = np.unique(orders, axis=0, return_counts=True)
    switched = (orders != kinds[counts.argmax()]).any(-1).reshape(draws.shape[:2])  # (chains, draws)
    num_draws = draws.shape[1]
    rows = tuple((num_draws, float(part.sum()), float(part.mean())) for part in switched)
    names = tuple(str(chain) for chain in range(len(rows)))
    table = Table("switching", "labels of the states in the draws", "chain", names, COLUMNS, rows)
    note = "draws whose states have other numbers than in most draws; none if labels do not switch"
    return Section(
        table, note, "labels of the states", _findings(switched), tuple(np.argsort(-switched.mean(1)).tolist())
    )


def by_state(samples: Mapping[str, Tensor], num_states: int) -> NDArray[np.float64] | None:
    """Parameters that belong to the states, standardised, (chains, draws, K, entries); None if there are none."""
    kept = [
        value.double().reshape(*value.shape[:2], num_states, -1)
        for name, value in samples.items()
        if value.dim() > 2 and value.shape[2] == num_states and "initial" not in name and "transition" not in name
    ]
    if not kept:
        return None
    joined = torch.cat(kept, dim=-1)
    spread = joined.flatten(0, 2).std(0).clamp(min=torch.finfo(joined.dtype).tiny)
    return np.asarray(joined / spread)


def numberings(draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each draw (n, K, entries), its state for each state of the pivot: (n, K)."""
    from scipy.optimize import linear_sum_assignment

    pivot, orders = draws[-1], np.empty(draws.shape[:2], dtype=np.int64)
    for _ in range(_ROUNDS):
        costs = ((pivot[None, :, None] - draws[:, None]) ** 2).sum(-1)  # (n, K of the pivot, K of the draw)
        found = np.array([linear_sum_assignment(cost)[1] for cost in costs])
        if np.array_equal(found, orders):
            break
        orders = found
        pivot = np.take_along_axis(draws, orders[..., None], axis=1).mean(0)
    return orders


def _findings(switched: Any) -> tuple[str, ...]:
    if not switched.any():
        return ()
    whole = [chain for chain, part in enumerate(switched) if part.mean() > 1 / 2]
    where = f"{switched.mean():.0%} of the draws" + (f", most of those of chain {whole[0]}" if whole else "")
    return (
        f"The labels of the states switch between draws ({where}): means over draws mix the states; give their means "
        "a prior that orders them, pgm_rnn.distributions.Ordered, or renumber the draws before you average",
    )
