"""Observations that belong to each state with some weight, of which entries may be missing, and their moments."""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.emissions import EmissionTable


class Weighted(NamedTuple):
    """Observations and their weights in each state.

    Attributes:
        x: observations, (N, *event), zero where an entry is missing.
        weights: weight of each observation in each state, (N, K), not negative.
        observed: True where an entry was observed, (N, *event), some of each observation; None for everywhere.
        before: the laws under which missing entries of dependent laws have their expected moments; None for those of
            independent entries with the same observed moments.
        num_groups: number of groups of equally many states, one after the other, that share what `Tied` ties.
    """

    x: Tensor
    weights: Tensor
    observed: Tensor | None = None
    before: EmissionTable | None = None
    num_groups: int = 1

    def of_columns(self, chosen: slice) -> "Weighted":
        """The same for some of the columns."""
        observed = None if self.observed is None else self.observed[:, chosen]
        return weighted(self.x[:, chosen], self.weights, observed, self.before)

    @property
    def totals(self) -> Tensor:
        """Total weight of the observed entries, (K, 1), or (K, D) where it differs by entry."""
        if self.observed is None:
            return self.weights.sum(0)[:, None]
        return self.weights.T @ self.observed.reshape(len(self.x), -1).to(self.weights.dtype)


def weighted(x: Tensor, weights: Tensor, observed: Tensor | None, before: EmissionTable | None) -> Weighted:
    """Weighted observations without those of which nothing was observed, (N,) or (N, *event)."""
    if observed is None:
        return Weighted(x, weights, None, before)
    there = observed.reshape(len(x), -1)
    some = there.any(-1)
    x, weights, there = x[some], weights[some], there[some]
    if bool(there.all()):
        return Weighted(x, weights, None, before)
    there = there.reshape(x.shape)
    return Weighted(x.where(there, 0), weights, there, before)


def moments(data: Weighted) -> tuple[Tensor, Tensor]:
    """Weighted means (K, D) and variances (K, D) of the observed entries of observations (N, D), in float64.

    An entry that a state has never seen gets 0 and 1: the centre and about the spread of all observations.
    """
    x, means, spreads = data.x.reshape(len(data.x), -1).double(), [], []
    there = None if data.observed is None else data.observed.reshape(x.shape).double()
    for column in data.weights.T:
        w = column.double()
        total = w.sum() if there is None else w @ there  # () or (D,)
        mean = _mean(w, x, total)
        square = (x - mean).square()
        spread = _mean(w, square if there is None else square * there, total)
        means.append(mean)
        spreads.append(spread.where(total > 0, 1.0))
    return torch.stack(means), torch.stack(spreads)


def _mean(w: Tensor, x: Tensor, total: Tensor) -> Tensor:
    """sum_n w_n x_n / total of rows (N, D), (D,); 0 where the total is."""
    if total.dim() == 0:
        return (w / total.where(total > 0, 1.0)) @ x
    return w @ x / total.where(total > 0, 1.0)
