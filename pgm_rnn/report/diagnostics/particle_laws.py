"""One-step laws by weighted particles, with the record of the filter that they come from.

    F(x | x_{1:t-1}) = sum_n W_{t-1}^n F(x | z_t^n, h_t^n),   z_t^n ~ p(z_t | z_{t-1}^n, h_t^n)

The filter is that of `smc.filter`, with the model's own guide where it has one, and that of `mixture_kalman.filter` for
switching states whose vectors can be summed out. Its steps are taken one by one, and the particles after each are moved
on by the transition, because the guide may have read x_t.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.distributions.entry_laws import EntryLaws, averaged, of_entries
from pgm_rnn.inference.mixture_kalman import RegimeModel
from pgm_rnn.inference.mixture_kalman.problem import prepared, sums_out_vectors
from pgm_rnn.inference.smc.run import checked_for_smc
from pgm_rnn.kernels.pareto import pareto_k
from pgm_rnn.particles import Options, init, step
from pgm_rnn.particles.state import Particles, Proposed, Step
from pgm_rnn.particles.steps import move, start
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.once import computed_once
from pgm_rnn.sequences import Sequences, length_mask, over_events


@dataclass(frozen=True)
class Filtering:
    """The record of a particle filter; NaN in the padding.

    Attributes:
        model: the model whose states are the particles: the one that was given, or its regimes.
        num_particles: N.
        ess: effective sample size after each step, (B, T).
        pareto_k: shape of the largest weights after each step, (B, T); NaN for regimes, whose weights have ties.
        log_normalizers: estimates of log p(x_t | x_{1:t-1}), (B, T), nats; -inf where all weights were zero.
    """

    model: SequenceModel
    num_particles: int
    ess: Tensor
    pareto_k: Tensor
    log_normalizers: Tensor


@torch.no_grad()
def of_particles(
    model: SequenceModel, data: Sequences, num_particles: int, seed: int | None
) -> tuple[EntryLaws, Filtering]:
    """The functions of the one-step laws at the observations, (B, T, *event), and the record of the filter.

    Args:
        model: with latent states.
        data: checked data.
        num_particles: N.
        seed: makes the filter reproducible; None uses torch's global generator.

    Raises:
        TypeError, ValueError: as `smc.filter`.
    """
    if sums_out_vectors(model, data):
        model, given = RegimeModel(model), prepared(model, data, None, None, None)
    else:
        given = checked_for_smc(model, data, None, None)
    run = _Run(model, given, num_particles)
    laws, records = list[EntryLaws](), list[tuple[Tensor, Tensor, Tensor]]()
    with seeded(seed, stream=8), computed_once(model):
        latest: Particles | None = None
        for t in range(data.x.shape[1]):
            laws.append(_mixed(model, run.ahead(latest, t), given.x[:, t]))
            done = run.step(latest, t)
            latest = done.particles
            records.append((latest.ess, _tail(model, latest.log_weights), done.log_normalizer))
    inside = length_mask(data.lengths, data.x.shape[1])
    record = (torch.stack(part, dim=1).where(inside, torch.nan) for part in zip(*records, strict=True))
    each = EntryLaws(*(torch.stack(part, dim=1) for part in zip(*laws, strict=True)))
    return each, Filtering(model, num_particles, *record)


def _tail(model: SequenceModel, log_weights: Tensor) -> Tensor:
    """Pareto's k of weights (N, B), (B,); NaN for regimes: many particles share a path, and so a weight."""
    return torch.full_like(log_weights[0], torch.nan) if isinstance(model, RegimeModel) else pareto_k(log_weights)


class _Run:
    """The steps of a filter on checked data, t = 0, 1, ..."""

    def __init__(self, model: SequenceModel, data: Sequences, num_particles: int) -> None:
        x, lengths, _, inputs, observed = data[:5]
        self._model, self._x, self._lengths = model, x, lengths
        self._options = Options(num_particles, degenerate="-inf")
        self._by_transition = Options(num_particles, proposal="bootstrap", ess_threshold=0.0)
        encoded = model.encode(x, lengths)
        self._features, self._there = (
            [None] * x.shape[1] if part is None else part.unbind(1) for part in (encoded, observed)
        )
        self._reads, self._u = (None, *memory_of(model).reads(x, inputs)), None if inputs is None else inputs[:, 0]

    def ahead(self, latest: Particles | None, t: int) -> Proposed:
        """Particles before the observation of step t."""
        if latest is None:
            return start(self._model, len(self._x), self._by_transition, inputs=self._u)
        return move(self._model, latest, self._by_transition, read=self._reads[t], number=t + 1)

    def step(self, latest: Particles | None, t: int) -> Step:
        """The filter's own step."""
        given: dict[str, Any] = {"features": self._features[t], "mask": self._there[t]}
        if latest is None:
            return init(self._model, self._x[:, 0], self._options, inputs=self._u, **given)
        given |= {"read": self._reads[t], "active": t < self._lengths, "number": t + 1}
        return step(self._model, latest, self._x[:, t], self._options, **given)


def _mixed(model: SequenceModel, proposed: Proposed, x: Tensor) -> EntryLaws:
    """The functions of the particles' mixture at an observation x (B, *event)."""
    found = of_entries(model.emission(proposed.z, proposed.h), x[None])
    shape = (len(proposed.log_weights), *x.shape)
    weights = proposed.log_weights.softmax(0)
    return averaged(EntryLaws(*(part.expand(shape) for part in found)), over_events(weights, x[None].expand(shape)), 0)
