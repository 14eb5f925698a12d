"""Resampling of particles where their weights are uneven, by the weights or by a lookahead.

n' ~ V,   V = W,   V proportional to W lookahead(z, h, x_t),   or V = (W + 1/N) / 2 (soft resampling)
log weight after:  log W^{n'} - log (N V^{n'})
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels.resampling import draw_ancestors, uniforms_shape
from pgm_rnn.kernels.weights import normalize
from pgm_rnn.particles.errors import check_lost
from pgm_rnn.particles.noise import Uniforms
from pgm_rnn.particles.options import Options
from pgm_rnn.particles.state import Particles


class Lookedahead(NamedTuple):
    """The probabilities V of ancestors: log V and V up to a factor, (N, B), and the effective sample size, (B,)."""

    log_weights: Tensor
    weights: Tensor
    ess: Tensor


def look_ahead(
    particles: Particles, x: Tensor | None, options: Options, active: Tensor | None, number: int
) -> Lookedahead:
    """V of an auxiliary filter: weights times lookahead, or the weights alone where no particle of a sequence has any.

    Source: Pitt & Shephard (1999).

    Raises:
        DegenerateWeightsError: a lookahead that is NaN, or minus infinity for all particles of a sequence.
    """
    assert x is not None and options.lookahead is not None  # noqa: PT018  (the engine's filter knows what comes)
    ahead = options.lookahead(particles.z, particles.h, x)
    if active is not None:
        ahead = ahead.where(active, 0.0)
    found = normalize(particles.log_weights + ahead)
    if not math.isfinite(float(found.log_total.detach().sum())):
        check_lost(found.log_total, ahead, options, number, "lookahead")
        found = normalize(particles.log_weights + ahead.where(found.log_total.isfinite(), 0.0))
    return Lookedahead(found.log_weights, found.weights, found.ess)


def resample(
    particles: Particles, by: Lookedahead, options: Options, uniforms: Uniforms | None
) -> tuple[Particles, Tensor, Tensor | None]:
    """Particles after resampling, which sequences were resampled (B,), and ancestors (N, B)."""
    target, drawn_by, ess = by
    chosen = _needs_resampling(ess, options)
    if options.ess_threshold == 0 or not bool(chosen.any()):
        return particles, chosen, None
    if options.resampling == "soft":
        drawn_by = (drawn_by / drawn_by.sum(0) + 1 / options.num_particles) / 2
        target = drawn_by.log()
    ancestors = draw_ancestors(drawn_by, options.scheme, _points(drawn_by, options, uniforms), chosen)
    left = _left(particles.log_weights, target.detach(), ancestors, options).where(chosen, particles.log_weights)
    z, h = _take(particles.z, ancestors), None if particles.h is None else _take(particles.h, ancestors)
    return particles._replace(z=z, h=h, log_weights=left), chosen, ancestors


def _points(weights: Tensor, options: Options, uniforms: Uniforms | None) -> Tensor:
    """Uniforms for resampling: the given ones, expanded to every sequence, or new draws."""
    shape = uniforms_shape(options.scheme, *weights.shape)
    if uniforms is None:
        return torch.rand(shape, dtype=torch.float64, device=weights.device)
    return uniforms.resampling.to(weights.device).expand(shape)


def _left(log_weights: Tensor, target: Tensor, ancestors: Tensor, options: Options) -> Tensor:
    """log W / (N V) of the particles drawn by V, (N, B) or a number for all."""
    num = options.num_particles
    with_gradient = options.gradient == "score" or options.resampling == "soft"
    if options.lookahead is None and not with_gradient:
        return torch.full_like(log_weights, -math.log(num), requires_grad=False)
    left = log_weights if with_gradient else log_weights.detach()
    return (left - target).gather(0, ancestors) - math.log(num)


def _needs_resampling(ess: Tensor, options: Options) -> Tensor:
    """Whether the effective sample size of a sequence is at most the threshold, (B,)."""
    if options.ess_threshold in (0, 1):
        return ess.new_full(ess.shape, options.ess_threshold, dtype=torch.bool)
    return ess <= options.ess_threshold * options.num_particles


def _take(values: Tensor, ancestors: Tensor) -> Tensor:
    """values[ancestors[n, b], b], (N, B, ...)."""
    if values.dim() == 2:
        return values.gather(0, ancestors)
    index = ancestors[(...,) + (None,) * (values.dim() - 2)]
    return values.gather(0, index.expand(values.shape))
