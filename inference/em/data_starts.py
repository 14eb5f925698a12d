"""Starting parameters for EM, estimated from the data.

    vectors    k-means++ on columns of standard deviation 1, with their few outliers pulled in
    counts     k-means++ on square roots, whose variance is the same at every rate
    bits       k-means++ on the bits themselves
    symbols    random p(z | x): one row for each symbol, uniform on the simplex

Each step belongs to the state of its cluster, and initial, transition and emission are estimated as if the states were
known. If there are fewer different observations than states, p(z | x) is random, too. Zeros of the model's own chain
stay zeros, and frozen parts stay unchanged.
"""

import warnings
from collections.abc import Collection
from functools import singledispatch

import numpy as np
import torch
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor

from pgm_rnn.emissions import Bernoulli, FullGaussian, Gaussian, NegativeBinomial, Pen, Poisson, StudentT, ZeroInflated
from pgm_rnn.inference.em.numbering import numbered_like
from pgm_rnn.inference.em.random_starts import Start, laws_near
from pgm_rnn.inference.em.units import Units
from pgm_rnn.randomness import derived_seed

NUM_RANDOM = 8
"""Number of starts from random p(z | x), of which `BaumWelch` keeps the best after some iterations."""
_MOST_RUNS, _BUDGET = 10, 2e9
"""Runs of k-means, of which the tightest is kept, and multiplications that all of them may take, roughly."""
_LEAST_ROWS = 4
"""Observations for each cluster that k-means looks at, at least."""
_FEW, _REACH = 0.01, 10
"""The share of values at each end, one at least, that do not count for a column's range, and how far they may reach."""
_STREAM = 15


def data_starts(
    own: Start,
    x: Tensor,
    lengths: Tensor,
    *,
    frozen: Collection[str],
    seed: int,
    units: Units | None,
    observed: Tensor | None = None,
) -> list[Start]:
    """One start by k-means, or `NUM_RANDOM` that are random.

    Args:
        own: the model's own parameters: its number of states, zeros and frozen parts are kept.
        x: the observations of all sequences, one sequence after the other, (N, *event).
        lengths: lengths of the sequences, (B,); their sum is N.
        frozen: parts that are not to be changed.
        seed: random seed.
        units: as for `estimate`.
        observed: True where x was observed, (N,) or (N, *event), None for everywhere.
    """
    kept = {part: getattr(own, part) for part in frozen}
    rng = np.random.default_rng(derived_seed(seed, _STREAM))
    if observed is None:
        found = _memberships(own, x, frozen, rng)
    else:
        found = _memberships_with_gaps(own, x, observed, frozen, rng)
    return [_read_off(own, x, lengths, members, kept, units, observed) for members in found]


def _memberships_with_gaps(
    own: Start, x: Tensor, observed: Tensor, frozen: Collection[str], rng: np.random.Generator
) -> list[Tensor]:
    """`_memberships`, equal for all states where nothing was observed; missing entries have `usual` values."""
    num_states, there = len(own.initial), observed.reshape(len(x), -1)
    some = there.any(-1)
    flat, there = x.reshape(len(x), -1)[some], there[some]
    if "emission" in frozen:
        found = [_one_hot(own.emission.log_probs(x[some], observed[some]).argmax(-1), num_states, own.initial)]
    else:
        if not bool(there.all()):  # symbols are whole
            flat = flat.where(there, usual(own.emission.family, flat, there))
        found = _memberships(own, flat.reshape(-1, *x.shape[1:]), frozen, rng)
    equal = own.initial.new_full((len(x), num_states), 1 / num_states)
    return [equal.index_copy(0, some.nonzero()[:, 0], members) for members in found]


def _memberships(own: Start, x: Tensor, frozen: Collection[str], rng: np.random.Generator) -> list[Tensor]:
    """p(z = k | x_n) of each observation, (N, K): one table, or `NUM_RANDOM` random ones."""
    num_states = len(own.initial)
    if "emission" in frozen:
        return [_one_hot(own.emission.log_probs(x).argmax(-1), num_states, own.initial)]
    values = features(own.emission.family, x)
    labels = None if values is None else _clusters(values, num_states, rng)
    if labels is not None:
        return [_one_hot(torch.from_numpy(labels).to(x.device), num_states, own.initial)]
    different, index = x.unique(dim=0, return_inverse=True)
    rows = [torch.from_numpy(rng.dirichlet(np.ones(num_states), len(different))) for _ in range(NUM_RANDOM)]
    return [row.to(own.initial)[index] for row in rows]


def _one_hot(labels: Tensor, num_states: int, like: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(labels.long(), num_states).to(like.dtype)


@singledispatch
def usual(family: object, x: Tensor, observed: Tensor) -> Tensor:
    """Values for the missing entries of observations (N, D): the means of the observed ones, (D,)."""
    return x.where(observed, 0).sum(0) / observed.sum(0).clamp(min=1)


@singledispatch
def features(family: object, x: Tensor) -> np.ndarray | None:
    """Features for k-means of observations (N, *event): (N, D) in float64, None for a family without distances."""
    return None


@features.register(Gaussian)
@features.register(FullGaussian)
@features.register(Pen)
@features.register(StudentT)
def _(family: Gaussian | FullGaussian | Pen | StudentT, x: Tensor) -> np.ndarray:
    flat = _drawn_in(x.reshape(len(x), -1).double())
    deviation = flat.std(0, correction=0)
    return ((flat - flat.mean(0)) / deviation.where(deviation > 0, 1.0)).cpu().numpy()


def _drawn_in(values: Tensor) -> Tensor:
    """Columns (N, D) with values clamped to `_REACH` ranges beyond the range of all but a few of them.

    An outlier still gets a cluster of its own, but is not so far away that all other values become one cluster.
    """
    few = max(1, int(len(values) * _FEW))
    if len(values) <= 2 * few:
        return values
    ordered = values.sort(0).values
    low, high = ordered[few], ordered[-1 - few]
    reach = _REACH * (high - low)
    reach = reach.where(reach > 0, torch.inf)
    return torch.maximum(torch.minimum(values, high + reach), low - reach)


@features.register(Poisson)
@features.register(NegativeBinomial)
@features.register(ZeroInflated)
def _(family: Poisson | NegativeBinomial | ZeroInflated, x: Tensor) -> np.ndarray:
    return x.reshape(len(x), -1).double().sqrt().cpu().numpy()


@features.register
def _(family: Bernoulli, x: Tensor) -> np.ndarray:
    return x.reshape(len(x), -1).double().cpu().numpy()


def _clusters(values: np.ndarray, num_clusters: int, rng: np.random.Generator) -> np.ndarray | None:
    """The cluster of each row (N, D); None if there are fewer different rows than clusters."""
    width = values.shape[1]
    num_rows = int(_BUDGET / (num_clusters**2 * width))
    num_rows = min(len(values), max(num_rows, _LEAST_ROWS * num_clusters))
    rows = values if num_rows == len(values) else rng.choice(values, num_rows, replace=False)
    if len(np.unique(rows, axis=0)) < num_clusters:
        return None
    runs = int(min(_MOST_RUNS, max(1, _BUDGET / (num_clusters**2 * num_rows * width))))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
        found = [kmeans2(rows, num_clusters, iter=50, minit="++", seed=rng) for _ in range(runs)]
    centres, _ = min(found, key=lambda run: float(np.square(rows - run[0][run[1]]).sum()))
    return vq(values, centres)[0]


def _read_off(
    own: Start,
    x: Tensor,
    lengths: Tensor,
    members: Tensor,
    kept: dict[str, object],
    units: Units | None,
    observed: Tensor | None = None,
) -> Start:
    """The parameters if observation n had the state probabilities members[n]; frozen parts are kept."""
    structured = bool((own.initial == 0).any() or (own.transition == 0).any())
    if "emission" not in kept and (structured or kept):
        members = members[:, numbered_like(own.initial, own.transition, members, lengths)]
    ends = lengths.cumsum(0)
    has_next = torch.ones(len(x), dtype=torch.bool, device=x.device)
    has_next[ends - 1] = False
    before = has_next.nonzero()[:, 0]
    first, moves = members[ends - lengths].sum(0), members[before].mT @ members[before + 1]
    emission = own.emission if "emission" in kept else laws_near(own.emission.family, x, members, units, observed)
    start = Start(_smoothed(first, own.initial), _smoothed(moves, own.transition), emission)
    return start._replace(**kept)  # type: ignore[arg-type]


def _smoothed(counts: Tensor, like: Tensor) -> Tensor:
    """Probabilities from rows of counts plus one count, spread evenly over the entries where `like` is positive."""
    counts = (counts + 1 / counts.shape[-1]).where(like > 0, 0.0)
    return counts / counts.sum(-1, keepdim=True)
