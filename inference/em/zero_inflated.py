"""The M-step of zero-inflated counts: a few steps of EM on the indicator of the gate.

    u       = gate / (gate + (1 - gate) q(0))       probability that the gate made a zero, given the law before
    gate    = sum over zeros of w_n u / sum_n w_n
    q       : the estimate of its own family with weights w_n (1 - u) of zeros and w_n of other counts

The weighted likelihood never falls, although it is at no maximum after finitely many steps. A start has a gate of half
the share of zeros. Each entry of a vector has gates of its own, so entries are estimated one by one. Source: Lambert
(1992), sec. 3.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.emissions import EmissionTable, ZeroInflated
from pgm_rnn.inference.em.negative_binomial import counted
from pgm_rnn.inference.em.weighted import Weighted
from pgm_rnn.inference.em.weighted_estimates import estimate_in_units

_STEPS, _STEPS_OF_START = 3, 15


@estimate_in_units.register
def _(family: ZeroInflated, data: Weighted, pseudo_count: float, units: None) -> EmissionTable:
    x, weights = data.x.reshape(len(data.x), -1).double(), data.weights.double()
    there = torch.ones_like(x) if data.observed is None else data.observed.reshape(x.shape).double()
    scalar = ZeroInflated(replace(family.entries, size=None))
    found = []
    for d in range(x.shape[1]):
        counts, of_state = counted(x[:, d], weights * there[:, d, None])
        before = None if data.before is None else _of_entry(family, data.before, d)
        found.append(_estimated(scalar, counts[:, 0], of_state, before))
    params = torch.stack(found, dim=-1).flatten(1)  # (K, kinds, D), all entries of a kind side by side
    return EmissionTable(family, params.to(data.x.dtype))


def _of_entry(family: ZeroInflated, table: EmissionTable, d: int) -> Tensor:
    """The parameters of one entry, (K, kinds), float64."""
    kinds = family.num_params // family.event_shape.numel()
    return table.params.detach().double().unflatten(-1, (kinds, -1))[..., d]


def _estimated(family: ZeroInflated, x: Tensor, weights: Tensor, params: Tensor | None) -> Tensor:
    """New parameters (K, kinds) of a scalar from different counts (U,) and their weights (U, K)."""
    zero = (x == 0)[:, None]
    totals = weights.sum(0)
    num_steps = _STEPS if params is not None else _STEPS_OF_START
    by_gate = weights.new_full(totals.shape, 0.5)
    for _ in range(num_steps):
        if params is not None:
            by_gate = _by_gate(family, params)
        of_gate = weights.where(zero, 0.0) * by_gate  # (U, K)
        gate = (of_gate.sum(0) / totals.where(totals > 0, 1.0)).where(totals > 0, 0.5)
        limits = torch.finfo(x.dtype)
        before = None if params is None else EmissionTable(family.family, params[:, :-1])
        inner: Any = Weighted(x, weights - of_gate, None, before)
        counts = estimate_in_units(family.family, inner, 0.0, None)
        params = family.table(gate.clamp(limits.tiny, 1 - limits.eps), counts).params.detach()
    assert params is not None  # there is at least one step
    return params


def _by_gate(family: ZeroInflated, params: Tensor) -> Tensor:
    """u of each state, (K,)."""
    of_zero = EmissionTable(family.family, params[:, :-1]).log_probs(params.new_zeros(1))[0].detach()
    return (params[:, -1] - of_zero).sigmoid()
