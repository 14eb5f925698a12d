"""The M-step of mixtures: one step of EM on the component of each observation.

    r_nkm      = weights[k, m] p(x_n | k, m) / sum_j weights[k, j] p(x_n | k, j)      given the laws before
    weights    = sum_n w_nk r_nkm / sum_n w_nk
    components : the estimate of their own family with weights w_nk r_nkm

With the state probabilities w_nk of the E-step, this is the exact M-step of the model whose hidden variables are the
states and the components, so no iteration lowers the likelihood. Where entries are missing, r is given the observed
ones. A component without any weight keeps its law. A start takes r from k-means within each state. Source: Juang,
Levinson & Sondhi (1986).
"""

import warnings

import numpy as np
import torch
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor

from pgm_rnn.emissions import Emission, EmissionTable, Joint, Mixture
from pgm_rnn.inference.em.data_starts import features, usual
from pgm_rnn.inference.em.remarks import component_probs
from pgm_rnn.inference.em.units import MIN_SCALE, Units, changed_params, num_real, units_of
from pgm_rnn.inference.em.weighted import Weighted
from pgm_rnn.inference.em.weighted_estimates import (
    at_smallest_scale,
    condition,
    estimate_in_units,
    not_worse_of,
    pseudo_log_prob,
    working_dtype,
)

_OWN = 0.8
"""Share of an observation that belongs to the component of its cluster at the start; all share the rest."""
_MOST_ROWS, _RUNS = 2000, 3
"""Observations of a state that k-means looks at, and runs, of which the tightest is kept."""
_NO_SHARE = 1e-9
"""A component of less weight is not held at the smallest scale: it has no observations."""


@estimate_in_units.register
def _(family: Mixture, data: Weighted, pseudo_count: float, units: Units | None) -> EmissionTable:
    num_components = family.num_components
    if data.before is None:
        shares = _of_start(family, data)
        before, own = None, None
    else:
        params = data.before.params.detach()
        shares = _shares(family, params, data.x, data.observed)
        own = family.parts(params)[1]
        before = EmissionTable(family.family, own.flatten(0, 1))
    weights = data.weights[..., None] * shares.to(data.weights)  # (N, K, M)
    counts = weights.double().sum(0) + pseudo_count
    probs = _probs(counts)
    inner = data._replace(weights=weights.flatten(1), before=before)
    found = estimate_in_units(family.family, inner, pseudo_count, units).params.detach()
    found = found.unflatten(0, (-1, num_components))
    if own is not None:
        found = found.where((counts > 0)[..., None], own.to(found))
    return EmissionTable(family, family.joined(probs.log().to(found), found))


def _probs(counts: Tensor) -> Tensor:
    """Weights (K, M) from counts, at least the smallest positive number; equal in a state without any."""
    totals = counts.sum(-1, keepdim=True)
    probs = (counts / totals.where(totals > 0, 1.0)).where(totals > 0, 1 / counts.shape[-1])
    return probs.clamp(min=torch.finfo(probs.dtype).tiny)


def _shares(family: Mixture, params: Tensor, x: Tensor, observed: Tensor | None) -> Tensor:
    """r of observations (N, *event), (N, K, M)."""

    def of_rows(rows: Tensor) -> Tensor:
        return EmissionTable(family.family, rows).log_probs(x, observed).detach()

    return family.component_log_probs(params, of_rows).softmax(-1)


# Starts.


def _of_start(family: Mixture, data: Weighted) -> Tensor:
    """r by k-means in each state, (N, K, M); the same for the same data and weights."""
    rng = np.random.default_rng(0)
    values = _features(family.family, data)
    found = [_of_state(values, column.double().cpu().numpy(), family.num_components, rng) for column in data.weights.T]
    return torch.from_numpy(np.stack(found, axis=1)).to(data.weights)


def _features(family: Emission, data: Weighted) -> np.ndarray | None:
    """Features of the observations, (N, D), with usual values in place of missing ones."""
    x = data.x
    if data.observed is not None:
        flat, there = x.reshape(len(x), -1), data.observed.reshape(len(x), -1)
        x = flat.where(there, usual(family, flat, there)).reshape(x.shape)
    return features(family, x)


def _of_state(values: np.ndarray | None, weights: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """r of one state, (N, M): `_OWN` for the cluster of an observation, or random where there are too few values."""
    labels = None
    for own in (weights - weights.min(), weights):  # without what all observations have alike, if that is enough
        if labels is None and values is not None and number > 1:
            labels = _clusters(values, own, number, rng)
    if labels is None:
        return rng.dirichlet(np.ones(number), len(weights))
    return (1 - _OWN) / number + _OWN * np.eye(number)[labels]


def _clusters(values: np.ndarray, weights: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray | None:
    """The cluster of each row, from rows drawn by their weights; None if these have fewer different values."""
    if not weights.sum() > 0:
        return None
    rows = values[rng.choice(len(values), min(_MOST_ROWS, 4 * len(values)), p=weights / weights.sum())]
    if len(np.unique(rows, axis=0)) < number:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
        runs = [kmeans2(rows, number, iter=30, minit="++", seed=rng) for _ in range(_RUNS)]
    centres, _ = min(runs, key=lambda run: float(np.square(rows - run[0][run[1]]).sum()))
    return vq(values, centres)[0]


@features.register
def _(family: Mixture, x: Tensor) -> np.ndarray | None:
    return features(family.family, x)


@usual.register
def _(family: Mixture, x: Tensor, observed: Tensor) -> Tensor:
    return usual(family.family, x, observed)


# Units, and what else EM asks of a family: that of its components.


@units_of.register
def _(family: Mixture, x: Tensor, min_scale: float = MIN_SCALE) -> Units | None:
    return units_of(family.family, x, min_scale)


@num_real.register
def _(family: Mixture) -> int:
    if isinstance(family.family, Joint):  # its units have an entry for every column
        return family.event_shape.numel() if any(num_real(each) for each in family.family.families) else 0
    return num_real(family.family)


@changed_params.register
def _(family: Mixture, params: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
    logits, own = family.parts(params)
    changed = changed_params(family.family, own.flatten(0, 1), centre, unit)
    return family.joined(logits, changed.reshape(own.shape))


@at_smallest_scale.register
def _(family: Mixture, params: Tensor, units: Units | None) -> Tensor:
    logits, own = family.parts(params)
    held = at_smallest_scale(family.family, own.flatten(0, 1), units).unflatten(0, (-1, family.num_components))
    return (held & (logits.softmax(-1) > _NO_SHARE)[..., None]).any(1)


@condition.register
def _(family: Mixture, params: Tensor) -> Tensor:
    _, own = family.parts(params)
    return condition(family.family, own.flatten(0, 1)).unflatten(0, (-1, family.num_components)).amax(-1)


@working_dtype.register
def _(family: Mixture, dtype: torch.dtype) -> torch.dtype:
    return working_dtype(family.family, dtype)


@pseudo_log_prob.register
def _(family: Mixture, params: Tensor) -> Tensor:
    """Those of the weights, whose counts have pseudo-counts too, and of the components."""
    logits, own = family.parts(params)
    of_laws = pseudo_log_prob(family.family, own.flatten(0, 1)).unflatten(0, (-1, family.num_components))
    return logits.log_softmax(-1).sum(-1) + of_laws.sum(-1)


@not_worse_of.register
def _(
    family: Mixture,
    new: EmissionTable,
    old: EmissionTable,
    x: Tensor,
    weights: Tensor,
    units: Units | None,
    observed: Tensor | None,
) -> EmissionTable:
    """By the expected density of the components, each of which the M-step raises by itself."""
    before, (logits, own) = family.parts(old.params.detach())[1], family.parts(new.params.detach())
    shares = _shares(family, old.params.detach(), x, observed)
    after, earlier = (EmissionTable(family.family, rows.flatten(0, 1)) for rows in (own, before))
    of_each = (weights[..., None] * shares.to(weights)).flatten(1)
    kept = not_worse_of(family.family, after, earlier, x, of_each, units, observed)
    return EmissionTable(family, family.joined(logits, kept.params.detach().reshape(own.shape)))


@component_probs.register
def _(family: Mixture, params: Tensor) -> dict[str, Tensor]:
    return {"": family.parts(params)[0].softmax(-1)}


@component_probs.register
def _(family: Joint, params: Tensor) -> dict[str, Tensor]:
    """With the columns in front of what the parts say."""
    return {
        f" in {part.place}": probs
        for part in family.parts
        for probs in component_probs(part.family, params[:, part.params]).values()
    }
