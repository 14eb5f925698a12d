"""What each chain learns from the observations, given beliefs about the others.

    log h_t^m(k) = E_{-m}[log p(x_t | z_t^1, ..., z_t^M) | z_t^m = k],   the others distributed as q_t^l

Where x_t is normal with a mean that is a sum over chains and a covariance that they share, this needs the expected mean
of the others alone, O(sum_m K_m): Ghahramani & Jordan (1997), eq. (12b). For any other law it is a sum over all values.
Terms that do not depend on the state may be left out of it, not of `expected`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.inference.suitable import unsuitable
from pgm_rnn.sequence_model.mixins import AdditiveNormal, GivesAdditiveNormal
from pgm_rnn.sequence_model.products import has_product, product_of
from pgm_rnn.sequences import Sequences, length_mask

Beliefs = Sequence[Tensor]
"""q_t^m(k) of each chain, (B, T, K_m)."""
_ZERO = -1e30
"""Stands for log 0, so that its product with a belief of 0 is 0."""


class Evidence(ABC):
    """Expectations of log p(x_t | z_t) of some sequences; what is missing or padding has log density 0."""

    @abstractmethod
    def given_others(self, m: int, beliefs: Beliefs) -> Tensor:
        """log h_t^m(k), up to a term that does not depend on k, (B, T, K_m)."""

    @abstractmethod
    def expected(self, beliefs: Beliefs) -> Tensor:
        """E_q[log p(x_t | z_t)], nats, (B, T)."""


class OfAllValues(Evidence):
    """By sums over all values of z_t.

    Args:
        log_emission: log p(x_t | z_t), (B, T, N).
        sizes: K_1, ..., K_M.
    """

    def __init__(self, log_emission: Tensor, sizes: Sequence[int]) -> None:
        self._joint = log_emission.clamp(min=_ZERO).unflatten(-1, tuple(sizes))

    def given_others(self, m: int, beliefs: Beliefs) -> Tensor:
        """Sums over the states of all other chains, the last one first."""
        found = self._joint
        for chain in reversed(range(len(beliefs))):
            if chain != m:
                axis = chain + 2
                shape = [1] * found.dim()
                shape[:2], shape[axis] = beliefs[chain].shape[:2], -1
                found = (found * beliefs[chain].reshape(shape)).sum(axis)
        return found

    def expected(self, beliefs: Beliefs) -> Tensor:
        """Sums over all values."""
        return (self.given_others(0, beliefs) * beliefs[0]).sum(-1)


class OfNormal(Evidence):
    """x_t ~ N(sum_m loc[m][z_t^m], C), also where some entries are missing.

    Args:
        law: the means' parts, and C.
        x: observations (B, T, D).
        observed: 1 where an entry was observed, (B, T, D).
    """

    def __init__(self, law: AdditiveNormal, x: Tensor, observed: Tensor) -> None:
        self._loc, self._x, self._observed = law.loc, x, observed
        whole = (observed == observed[..., :1]).all()
        each = observed.new_ones(1, 1, x.shape[-1]) if bool(whole) else observed
        both = each[..., None, :] * each[..., :, None]
        cov = law.cov * both + torch.diag_embed(1 - each)  # of what was observed, and 1 on the diagonal elsewhere
        self._precision = torch.linalg.inv(cov) * both  # (B or 1, T or 1, D, D)
        count = observed.sum(-1)
        there = observed[..., 0] if bool(whole) else torch.ones_like(count)
        self._there = there
        self._constant = -0.5 * (count * math.log(2 * math.pi) + there * torch.linalg.slogdet(cov).logabsdet)
        self._own = [self._squares(loc) for loc in law.loc]

    def _squares(self, loc: Tensor) -> Tensor:
        """loc[k]' P loc[k] of each state, (B or 1, T or 1, K_m)."""
        return ((loc @ self._precision) * loc).sum(-1)

    def _means(self, beliefs: Beliefs) -> list[Tensor]:
        return [belief @ loc for belief, loc in zip(beliefs, self._loc, strict=True)]

    def given_others(self, m: int, beliefs: Beliefs) -> Tensor:
        """loc[k]' P (x - E of the others' parts) - loc[k]' P loc[k] / 2."""
        others = sum(mean for chain, mean in enumerate(self._means(beliefs)) if chain != m)
        pull = ((self._x - others)[..., None, :] @ self._precision)[..., 0, :]  # (B, T, D)
        return (pull @ self._loc[m].mT - 0.5 * self._own[m]) * self._there[..., None]

    def expected(self, beliefs: Beliefs) -> Tensor:
        """-(E|x - mean|^2 + log det 2 pi C) / 2, where the variance of the mean is the sum of those of its parts."""
        means = self._means(beliefs)
        rest = self._x - torch.stack(means).sum(0)
        squares = ((rest[..., None, :] @ self._precision)[..., 0, :] * rest).sum(-1)
        for belief, mean, own in zip(beliefs, means, self._own, strict=True):
            of_mean = ((mean[..., None, :] @ self._precision)[..., 0, :] * mean).sum(-1)
            squares = squares + (belief * own).sum(-1) - of_mean
        return self._constant - 0.5 * squares * self._there


def evidence_of(model: Any, data: Sequences) -> Evidence:
    """The expectations for a model and checked data.

    Raises:
        TypeError: a law that is not an additive normal one, and too many values to sum over.
    """
    law = model.additive_normal() if isinstance(model, GivesAdditiveNormal) else None
    if law is not None:
        x = data.x if data.x.dim() == 3 else data.x[..., None]
        observed = (data.mask if data.mask.dim() == 3 else data.mask[..., None]).expand(x.shape)
        x, observed = x.to(law.cov.dtype), observed.to(law.cov.dtype)
        return OfNormal(law, x * observed, observed)
    if not has_product(model):
        raise unsuitable("mean_field", "additive normal observations, or fewer values of the states,", model)
    product, inside = product_of(model, data), length_mask(data.lengths, data.x.shape[1])
    return OfAllValues(product.log_emission.where(inside[..., None], 0.0), product.sizes)
