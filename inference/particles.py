"""One step of a particle filter: resample, propose, weigh.

    z_t^n ~ q(z_t | z_{t-1}^n, h_t^n),   alpha_t^n = p(z_t^n | z_{t-1}^n, h_t^n) p(x_t | z_t^n, h_t^n) / q(z_t^n | ...)
    p(x_t | x_{1:t-1}) ~ sum_n W_{t-1}^n alpha_t^n,        W_t^n proportional to W_{t-1}^n alpha_t^n

Ancestors are drawn by V, which is W, or W times what an auxiliary filter expects of x_t, or half W and half uniform
(soft resampling); a particle drawn by V goes on with weight W / (N V). Sources: Pitt & Shephard (1999) for the
auxiliary filter; Scibior & Wood (2021) for the gradient of W / V.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.inference import resampling as schemes
from pgm_rnn.sequence_model import SequenceModel

Proposal = Callable[[Tensor | None, Tensor | None, Tensor | None], TorchDistribution]
"""q(z_t | z_{t-1}, h_t, features_t): from particles (N, B, *latent), None at t = 1, memory and features (B, F)."""
Lookahead = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""log of how well z_{t-1} (N, B, *latent), h_{t-1} will explain x_t (B, *event): (N, B)."""


class DegenerateWeightsError(ValueError):
    """Every particle of a sequence has weight zero, or a weight is NaN."""


@dataclass(frozen=True)
class Options:
    """How a filter runs.

    Attributes:
        num_particles: N, at least 1.
        proposal: None for the model's own guide, "bootstrap" for its transition, or a function.
        lookahead: of an auxiliary filter.
        resampling: one of `resampling.SCHEMES`, or "soft".
        ess_threshold: resample where the effective sample size is at most this part of N: 0 never, 1 at every step.
        gradient: "drop" leaves the gradient of resampling out, which biases it; "score" keeps it, as the gradient of
            the weights that ancestors were drawn by.
        degenerate: "raise" an error where all weights are zero, or go on with "-inf" for that sequence.
    """

    num_particles: int = 1000
    proposal: Proposal | Literal["bootstrap"] | None = None
    lookahead: Lookahead | None = None
    resampling: str = "systematic"
    ess_threshold: float = 0.5
    gradient: Literal["drop", "score"] = "drop"
    degenerate: Literal["raise", "-inf"] = "raise"

    def __post_init__(self) -> None:
        check_counts(num_particles=self.num_particles)
        check_choice("resampling", self.resampling, (*schemes.SCHEMES, "soft"))
        check_choice("gradient", self.gradient, ("drop", "score"))
        check_choice("degenerate", self.degenerate, ("raise", "-inf"))
        if not 0 <= self.ess_threshold <= 1:
            raise ValueError(f"expected ess_threshold in [0, 1], a part of the particles, got {self.ess_threshold}")
        if isinstance(self.proposal, str):
            check_choice("proposal", self.proposal, ("bootstrap",))


class Particles(NamedTuple):
    """Where a filter stands after an observation.

    Attributes:
        z: states, (N, B, *latent).
        h: their memory, (N, B, dim), or None.
        log_weights: log W_t, (N, B), nats; their exponentials sum to one over the particles.
        x: the observation, (B, *event).
        ess: effective sample size of the weights, (B,).
    """

    z: Tensor
    h: Tensor | None
    log_weights: Tensor
    x: Tensor
    ess: Tensor


class Step(NamedTuple):
    """What one observation did.

    Attributes:
        particles: after it.
        log_normalizer: estimate of log p(x_t | x_{1:t-1}), (B,), nats.
        resampled: whether the particles were resampled before it, (B,).
        ancestors: which particle each came from, (N, B); itself where nothing was resampled.
    """

    particles: Particles
    log_normalizer: Tensor
    resampled: Tensor
    ancestors: Tensor


def init(
    model: SequenceModel,
    x: Tensor,
    options: Options,
    *,
    inputs: Tensor | None = None,
    features: Tensor | None = None,
) -> Step:
    """The first observation x_1 (B, *event); inputs u_1 (B, input_dim); features_1 (B, F) of the guide."""
    num, batch = options.num_particles, len(x)
    h = model.first_memory(batch, None if inputs is None else inputs[:, None])
    h = None if h is None else h.expand(num, *h.shape)
    if model.first == "condition":
        z = _draw(model.initial_given(h, x).expand([num, batch]))
        log_alpha = next(model.parameters()).new_zeros(num, batch)
    else:
        law = model.initial(h).expand([num, batch])
        z, log_alpha = _propose(model, law, None, h, features, options)
        log_alpha = log_alpha + model.emission(z, h).log_prob(x)
    start = torch.full_like(log_alpha, -math.log(num))
    itself = torch.arange(num, device=x.device)[:, None].expand(num, batch)
    never = torch.zeros(batch, dtype=torch.bool, device=x.device)
    return _weighed(z, h, x, start, log_alpha, never, itself, options, 1)


def step(
    model: SequenceModel,
    particles: Particles,
    x: Tensor,
    options: Options,
    *,
    inputs: Tensor | None = None,
    features: Tensor | None = None,
    uniforms: Tensor | None = None,
    active: Tensor | None = None,
    number: int = 2,
) -> Step:
    """One more observation x_t (B, *event).

    Args:
        model: the model.
        particles: after the observation before.
        x: (B, *event).
        options: as for `init`.
        inputs: u_t, (B, input_dim).
        features: of the guide, (B, F).
        uniforms: for resampling; None draws them.
        active: False where a sequence has ended, (B,), so that x_t is padding and weighs nothing; None for nowhere.
        number: t, for errors.
    """
    particles, resampled, ancestors = _resample(particles, x, options, uniforms)
    num, z_before, x_before = options.num_particles, particles.z, particles.x
    u = None if inputs is None else inputs.expand(num, *inputs.shape)
    h = model.next_memory(particles.h, z_before, x_before.expand(num, *x_before.shape), u)
    z, log_alpha = _propose(model, model.transition(z_before, h), z_before, h, features, options)
    log_alpha = log_alpha + model.emission(z, h).log_prob(x)
    if active is not None:
        log_alpha = log_alpha.where(active, 0.0)
    return _weighed(z, h, x, particles.log_weights, log_alpha, resampled, ancestors, options, number)


def _propose(
    model: SequenceModel,
    law: TorchDistribution,
    z_before: Tensor | None,
    h: Tensor | None,
    features: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """States from the proposal and log p(z_t | ...) - log q(z_t | ...), (N, B); zero for the model's own law."""
    own = options.proposal is None and type(model).proposal is SequenceModel.proposal
    if options.proposal == "bootstrap" or own:
        z = _draw(law)
        return z, next(model.parameters()).new_zeros(z.shape[:2])
    propose = model.proposal if options.proposal is None else options.proposal
    assert callable(propose)  # a name was dealt with above
    guide = propose(z_before, h, features).expand(law.batch_shape)
    if str(guide.support) != str(law.support):
        raise ValueError(
            f"expected a proposal over {law.support}, where the model's states are, got one over {guide.support}"
        )
    z = _draw(guide)
    return z, law.log_prob(z) - guide.log_prob(z)


def _draw(law: TorchDistribution) -> Tensor:
    return law.rsample() if law.has_rsample and torch.is_grad_enabled() else law.sample()


def _resample(
    particles: Particles, x: Tensor, options: Options, uniforms: Tensor | None
) -> tuple[Particles, Tensor, Tensor]:
    """Particles after resampling, which sequences were resampled (B,), and ancestors (N, B)."""
    z, h, log_weights, x_before, ess = particles
    num = options.num_particles
    target = log_weights
    if options.lookahead is not None:
        target = (log_weights + options.lookahead(z, h, x)).log_softmax(0)
        ess = _ess(target.detach().exp())
    chosen = _needs_resampling(ess, options)
    itself = torch.arange(num, device=x.device)[:, None].expand(log_weights.shape)
    if not bool(chosen.any()):
        return particles, chosen, itself
    target = target.detach()
    scheme = options.resampling
    if scheme == "soft":
        scheme, target = "systematic", torch.logaddexp(target, torch.full_like(target, -math.log(num))) - math.log(2)
    ancestors = schemes.ancestors(target, scheme, uniforms).where(chosen, itself)
    left = log_weights if options.gradient == "score" or options.resampling == "soft" else log_weights.detach()
    left = (left - target).gather(0, ancestors) - math.log(num)
    moved = Particles(_take(z, ancestors), None if h is None else _take(h, ancestors), log_weights, x_before, ess)
    return moved._replace(log_weights=left.where(chosen, log_weights)), chosen, ancestors


def _needs_resampling(ess: Tensor, options: Options) -> Tensor:
    """Which sequences have an effective sample size of at most a part of the particles, (B,)."""
    if options.ess_threshold in (0, 1):
        return torch.full_like(ess, options.ess_threshold, dtype=torch.bool)
    return ess <= options.ess_threshold * options.num_particles


def _ess(weights: Tensor) -> Tensor:
    """1 / sum_n (W^n)^2 of normalised weights (N, B), (B,)."""
    return weights.square().sum(0).reciprocal()


def _take(values: Tensor, ancestors: Tensor) -> Tensor:
    """values[ancestors[n, b], b], (N, B, ...)."""
    index = ancestors[(...,) + (None,) * (values.dim() - 2)]
    return values.gather(0, index.expand(values.shape))


def _weighed(
    z: Tensor,
    h: Tensor | None,
    x: Tensor,
    log_weights: Tensor,
    log_alpha: Tensor,
    resampled: Tensor,
    ancestors: Tensor,
    options: Options,
    number: int,
) -> Step:
    """The step that ends with particles weighted by log_alpha."""
    joint = log_weights + log_alpha
    largest = joint.detach().amax(0)
    lost = ~largest.isfinite()
    if bool(lost.any()):
        _check_lost(largest, options, number)
        joint, largest = joint.where(~lost, -math.log(len(z))), largest.where(~lost, -math.log(len(z)))
    weights = (joint - largest).exp()
    total = weights.sum(0)
    log_normalizer = largest + total.log()
    ess = _ess(weights.detach() / total.detach())
    particles = Particles(z, h, joint - log_normalizer, x, ess)
    return Step(particles, log_normalizer.where(~lost, -torch.inf), resampled, ancestors)


def _check_lost(largest: Tensor, options: Options, number: int) -> None:
    """Raise a `DegenerateWeightsError` unless all weights of a sequence may be zero, and none is NaN."""
    if options.degenerate == "raise" or bool((~largest.isfinite() & (largest != -torch.inf)).any()):
        sequence = int((~largest.isfinite()).nonzero()[0])
        raise DegenerateWeightsError(
            f"expected a particle of positive weight, sequence {sequence} has none at step {number}; use more "
            "particles or another proposal, or degenerate='-inf'"
        )


def freeze(before: Step, after: Step, active: Tensor) -> Step:
    """The step for the sequences that go on, (B,), and nothing new for those that have ended."""
    if bool(active.all()):
        return after

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return new.where(active[(...,) + (None,) * (new.dim() - 2)], old)

    (z, h, log_weights, x, ess), (z_old, h_old, w_old, _, ess_old) = after.particles, before.particles
    h = None if h is None or h_old is None else chosen(h, h_old)
    weights = log_weights.where(active, w_old)
    particles = Particles(chosen(z, z_old), h, weights, x, ess.where(active, ess_old))
    itself = torch.arange(len(z), device=z.device)[:, None].expand(log_weights.shape)
    return Step(
        particles,
        after.log_normalizer.where(active, 0.0),
        after.resampled & active,
        after.ancestors.where(active, itself),
    )
