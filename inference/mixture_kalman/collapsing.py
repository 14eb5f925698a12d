"""Approximate filters that keep one normal law per regime: mixtures are replaced by normal laws of the same moments.

    gpb2   K^2 laws: every regime's law is moved and updated into every regime; then the K laws of each are collapsed
    imm    K laws: the K predictions into each regime are collapsed first, then updated once
    gpb1   K laws: as imm, and after the update all of them are collapsed into one, which all regimes start from

A collapse keeps the mixture's mean and covariance, sum_j w_j (P_j + (m_j - m)(m_j - m)'), m = sum_j w_j m_j. With one
regime all three are the Kalman filter. The first step is exact, gpb2's likelihood of the second step, too, and so are
the moments that it has then. Afterwards the error is bounded by no formula; compare with `filter`.

Sources: Bar-Shalom, Li & Kirubarajan (2001), sec. 11.6; Blom & Bar-Shalom (1988) for imm. Difference: imm and gpb1
collapse after the move, which is the same where the move depends on the new regime alone, as there.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference.mixture_kalman.results import Collapsed
from pgm_rnn.kernels.normal_update import predicted, updated
from pgm_rnn.sequence_model import memory_of
from pgm_rnn.sequence_model.chains import as_vectors
from pgm_rnn.sequence_model.regimes import Moves, Sees, moves_of, sees_of, start_of
from pgm_rnn.sequences import Sequences, length_mask

METHODS = ("imm", "gpb1", "gpb2")


class Mixture(NamedTuple):
    """Normal laws with weights, one per regime.

    Attributes:
        log_probs: log p(s_t = k | x), (B, K).
        means: (B, K, D).
        covs: (B, K, D, D).
    """

    log_probs: Tensor
    means: Tensor
    covs: Tensor


def run(model: Any, data: Sequences, method: str) -> Collapsed:
    """The filter over checked data, NaN where an observation is missing; differentiable."""
    x, lengths = as_vectors(data.x), data.lengths
    h = memory_of(model).unroll(data.x, None, data.inputs)
    laws, steps = _Laws(model, x.shape[-1], h), []
    for t, x_t in enumerate(x.unbind(1)):
        if t == 0:
            start = start_of(model, laws.at(0))
            prior = Mixture(
                *(part.expand(len(x), *part.shape[-own:]) for part, own in zip(start, (1, 2, 3), strict=True))
            )
            log_z, now = _updated(prior, laws.sees(0), x_t)
            log_z = torch.zeros_like(log_z) if model.first == "condition" else log_z
        else:
            before = now
            log_z, now = _STEPS[method](before, laws.moves(t), laws.sees(t), x_t)
            active = t < lengths
            now = Mixture(*(new.where(_beside(active, new), old) for new, old in zip(now, before, strict=True)))
        steps.append((log_z, *now, *_collapsed(now.log_probs.exp(), now.means, now.covs)))
        now = _shared(now) if method == "gpb1" else now
    log_zs, log_probs, means, covs, mean, cov = (torch.stack(parts, 1) for parts in zip(*steps, strict=True))
    inside = length_mask(lengths, x.shape[1])
    kept = [part.where(_beside(inside, part), 0.0) for part in (log_zs, log_probs.exp(), mean, cov, means, covs)]
    return Collapsed(kept[0].sum(-1), *kept)


class _Laws:
    """The laws of each step for every regime, computed once where they do not depend on the step.

    Args:
        model: the model.
        width: M.
        h: memory and inputs, (B, T, dim), or None.
    """

    def __init__(self, model: Any, width: int, h: Tensor | None) -> None:
        self.model, self.width, self.h = model, width, h
        self.every = torch.arange(model.states.num_regimes)
        if h is None:
            self._moves, self._sees = moves_of(model, self.every, None), sees_of(model, self.every, None, width)

    def at(self, t: int) -> Tensor | None:
        """h_t, (B, dim)."""
        return None if self.h is None else self.h[:, t]

    def moves(self, t: int) -> Moves:
        """From every regime into every regime, (1 or B, K, K, ...)."""
        if self.h is None:
            return Moves(*(part[None] for part in self._moves))
        return moves_of(self.model, *self._beside(t))

    def sees(self, t: int) -> Sees:
        """In every regime, (1 or B, K, ...)."""
        if self.h is None:
            return Sees(*(part[None] for part in self._sees))
        return sees_of(self.model, *self._beside(t), self.width)

    def _beside(self, t: int) -> tuple[Tensor, Tensor]:
        assert self.h is not None
        regimes = self.every.to(self.h.device).expand(len(self.h), -1)
        return regimes, self.h[:, t, None].expand(*regimes.shape, -1)


def _updated(prior: Mixture, sees: Sees, x: Tensor) -> tuple[Tensor, Mixture]:
    """log p(x_t | x_{1:t-1}), (B,), and the law of the state after x_t (B, M), regime by regime."""
    densities, means, covs = updated(prior.means, prior.covs, *sees, x[:, None])
    joint = prior.log_probs + densities
    total = joint.logsumexp(-1)
    return total, Mixture(joint - total[:, None], means, covs)


def _imm(before: Mixture, moves: Moves, sees: Sees, x: Tensor) -> tuple[Tensor, Mixture]:
    """Collapse the predictions of each regime over the regime before, then update."""
    joint = before.log_probs[..., None] + moves.log_probs  # (B, K old, K new)
    log_probs = joint.logsumexp(1)
    weights = (joint - log_probs[:, None]).nan_to_num(nan=-torch.inf).exp()
    means, covs = _moved(before, moves)
    return _updated(Mixture(log_probs, *_collapsed(weights, means, covs)), sees, x)


def _gpb2(before: Mixture, moves: Moves, sees: Sees, x: Tensor) -> tuple[Tensor, Mixture]:
    """Update every prediction, then collapse over the regime before."""
    sees = Sees(*(part[:, None] for part in sees))
    densities, means, covs = updated(*_moved(before, moves), *sees, x[:, None, None])
    joint = before.log_probs[..., None] + moves.log_probs + densities
    log_joint = joint.logsumexp(1)
    total = log_joint.logsumexp(-1)
    weights = (joint - log_joint[:, None]).nan_to_num(nan=-torch.inf).exp()
    return total, Mixture(log_joint - total[:, None], *_collapsed(weights, means, covs))


def _moved(before: Mixture, moves: Moves) -> tuple[Tensor, Tensor]:
    """Moments of y_t after each regime (second axis) and in each regime (third axis)."""
    return predicted(before.means[:, :, None], before.covs[:, :, None], moves.matrix, moves.offset, moves.cov)


def _collapsed(weights: Tensor, means: Tensor, covs: Tensor) -> tuple[Tensor, Tensor]:
    """Moments of mixtures over the second axis: weights (B, K, ...), means (B, K, ..., D), covs (B, K, ..., D, D)."""
    mean = (weights[..., None] * means).sum(1)
    far = means - mean[:, None]
    cov = (weights[..., None, None] * (covs + far[..., :, None] * far[..., None, :])).sum(1)
    return mean, cov


def _shared(now: Mixture) -> Mixture:
    """One normal law for all regimes."""
    mean, cov = _collapsed(now.log_probs.exp(), now.means, now.covs)
    return Mixture(now.log_probs, mean[:, None].expand(now.means.shape), cov[:, None].expand(now.covs.shape))


def _beside(mask: Tensor, part: Tensor) -> Tensor:
    return mask[(..., *(None,) * (part.dim() - mask.dim()))]


_STEPS = {"imm": _imm, "gpb1": _imm, "gpb2": _gpb2}
