"""Weighted log densities under the laws of K states from sufficient statistics, which are summed over n once.

    sum_n sum_k w_nk log p_k(x_n)    is a function of p_1, ..., p_K and of

    bits               the weights of ones and of zeros of each entry, (K, D)
    symbols            the weight of each symbol, (K, S)
    normal entries     weights, means and sums of squared deviations from these means, (K, D)
    normal vectors     weights (K,), means (K, D), and U with U'U the sum of outer products of deviations, (K, D, D)

An M-step by gradients asks for this number many times, each time with other laws. Statistics are in float64.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.bits import logits_of
from pgm_rnn.distributions.normal import entries_of
from pgm_rnn.kernels import triangles

_LOG_TWO_PI = math.log(2 * math.pi)
_ROWS = 2**14
"""Observations that are converted to float64 at a time."""


class OfBits(NamedTuple):
    """Weights of ones and of zeros in each state and entry, (K, D)."""

    ones: Tensor
    zeros: Tensor

    def log_prob(self, law: TorchDistribution) -> Tensor:
        """The weighted log density under laws of independent bits, nats, (), float64, differentiable."""
        found: Any = logits_of(law)
        logits = _by_state(found, law, self.ones.shape)
        log_sigmoid = torch.nn.functional.logsigmoid
        return _sum(self.ones, log_sigmoid(logits)) + _sum(self.zeros, log_sigmoid(-logits))


class OfSymbols(NamedTuple):
    """The weight of each symbol in each state, (K, S)."""

    counts: Tensor

    def log_prob(self, law: Any) -> Tensor:
        """The weighted log density under laws of symbols, nats, (), float64, differentiable."""
        return _sum(self.counts, law.logits.double().log_softmax(-1).expand(self.counts.shape))


class OfNormalEntries(NamedTuple):
    """Weights, means and sums of squared deviations from these means in each state and entry, (K, D)."""

    weights: Tensor
    means: Tensor
    squares: Tensor

    def log_prob(self, law: TorchDistribution) -> Tensor:
        """The weighted log density under laws of independent normal entries, nats, (), float64, differentiable."""
        found: Any = entries_of(law)
        loc, scale = (_by_state(part, law, self.weights.shape) for part in (found.loc, found.scale))
        squares = self.squares + self.weights * (self.means - loc).square()
        return -(squares / (2 * scale.square()) + self.weights * (scale.log() + _LOG_TWO_PI / 2)).sum()


class OfNormalVectors(NamedTuple):
    """Weights (K,), means (K, D), and U (K, D, D): U'U is the weighted sum of outer products of deviations."""

    weights: Tensor
    means: Tensor
    roots: Tensor

    def log_prob(self, law: Any) -> Tensor:
        """The weighted log density under normal laws of vectors, nats, (), float64, differentiable."""
        factor = law.scale_tril.double().expand(self.roots.shape)
        apart = self.weights.sqrt()[:, None] * (self.means - law.loc.double())
        rows = torch.cat([self.roots.mT, apart[..., None]], -1)  # (K, D, D + 1)
        squares = torch.linalg.solve_triangular(factor, rows, upper=False).square().sum()
        peaks = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + _LOG_TWO_PI / 2 * factor.shape[-1]
        return -squares / 2 - (self.weights * peaks).sum()


Statistics = OfBits | OfSymbols | OfNormalEntries | OfNormalVectors
"""What is left of weighted observations; `log_prob(law)` takes laws of the kind for which it was made."""


def statistics_of(
    law: TorchDistribution, x: Tensor, weights: Tensor, observed: Tensor | None = None
) -> Statistics | None:
    """The statistics of weighted observations that suffice for laws of one kind.

    Args:
        law: laws of that kind, whose batch shape broadcasts to (K,); their parameters are not read.
        x: observations (n, *event), any valid number where one is missing.
        weights: w, not negative, (n, K).
        observed: True where x was observed, (n,) or (n, *event), None for everywhere; the rest is integrated out.

    Returns:
        The statistics; None for other kinds of laws, and for vectors with dependent entries that are partly missing.
    """
    rows = x.reshape(len(x), -1)
    there = None if observed is None else observed.reshape(len(x), -1).expand(rows.shape)
    if logits_of(law) is not None:
        return _of_bits(rows, weights, there)
    if type(law) in (torch.distributions.Categorical, dist.Categorical):
        return _of_symbols(law, x, weights, observed)
    if entries_of(law) is not None:
        return _of_normal_entries(rows, weights, there)
    if type(law) in (torch.distributions.MultivariateNormal, dist.MultivariateNormal):
        return _of_normal_vectors(rows, weights, there)
    return None


def _of_bits(x: Tensor, weights: Tensor, there: Tensor | None) -> OfBits:
    ones = weights.new_zeros(weights.shape[1], x.shape[1], dtype=torch.float64)
    zeros = ones.clone()
    for w, part, seen in _parts(x, weights, there):
        ones += w.mT @ (part * seen)
        zeros += w.mT @ ((1 - part) * seen)
    return OfBits(ones, zeros)


def _of_symbols(law: Any, x: Tensor, weights: Tensor, observed: Tensor | None) -> OfSymbols:
    w = weights.double() if observed is None else weights.double() * observed.double()[:, None]
    counts = w.new_zeros(law.logits.shape[-1], w.shape[1]).index_add_(0, x.long(), w)
    return OfSymbols(counts.mT)


def _of_normal_entries(x: Tensor, weights: Tensor, there: Tensor | None) -> OfNormalEntries:
    x = x.double()
    seen = torch.ones_like(x) if there is None else there.double()
    found = []
    for w in weights.mT:  # state by state: squared deviations from a common centre would cancel
        each = w.double()[:, None] * seen
        total = each.sum(0)
        mean = (each * x).sum(0) / total.where(total > 0, 1.0)
        found.append((total, mean, (each * (x - mean).square()).sum(0)))
    return OfNormalEntries(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def _of_normal_vectors(x: Tensor, weights: Tensor, there: Tensor | None) -> OfNormalVectors | None:
    if there is not None:
        if not torch.equal(there.any(-1), there.all(-1)):
            return None
        x, weights = x[there[:, 0]], weights[there[:, 0]]
    x, found = x.double(), []
    zeros = x.new_zeros(x.shape[1], x.shape[1])  # at least D rows
    for w in weights.mT.double():
        total = w.sum()
        mean = w @ x / total.where(total > 0, 1.0)
        root = triangles.of_rows(torch.cat([w.sqrt()[:, None] * (x - mean), zeros]))
        found.append((total, mean, root))
    return OfNormalVectors(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def _parts(x: Tensor, weights: Tensor, there: Tensor | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Weights (rows, K), observations and ones where they were observed (rows, D) in float64, a few rows at a time."""
    seen = torch.ones_like(x[:1]).expand(x.shape) if there is None else there
    for parts in zip(weights.split(_ROWS), x.split(_ROWS), seen.split(_ROWS), strict=True):
        w, part, inside = (each.double() for each in parts)
        yield w, part, inside


def _by_state(parameter: Tensor, law: TorchDistribution, shape: torch.Size) -> Tensor:
    """A parameter whose shape broadcasts to the law's batch and event, as (K, D) in float64."""
    whole = parameter.double().expand(law.batch_shape + law.event_shape)
    return whole.reshape(*law.batch_shape, shape[1]).expand(shape)


def _sum(weights: Tensor, values: Tensor) -> Tensor:
    """The sum of products, where a weight of zero takes no part even if its value is infinite."""
    return (weights * values.where(weights > 0, 0.0)).sum()
