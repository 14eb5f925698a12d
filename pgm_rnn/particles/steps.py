"""One step of a particle filter: resample, propose, weigh."""

import math
from functools import partial
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.kernels.weights import normalize
from pgm_rnn.particles.errors import check_lost
from pgm_rnn.particles.noise import Uniforms, invert
from pgm_rnn.particles.options import Options
from pgm_rnn.particles.resampling import Lookedahead, look_ahead, resample
from pgm_rnn.particles.state import Particles, Proposed, Step
from pgm_rnn.sequence_model.conditionals import Conditionals, example_of, memory_of, spread
from pgm_rnn.sequence_model.memory import Memory
from pgm_rnn.sequence_model.observations import check_memory, check_whole
from pgm_rnn.sequences import over_events, some_observed


def init(
    model: Conditionals,
    x: Tensor,
    options: Options,
    *,
    inputs: Tensor | None = None,
    features: Tensor | None = None,
    mask: Tensor | None = None,
) -> Step:
    """First step, for x_1 (B, *event), with inputs u_1 (B, input_dim) and the guide's features_1 (B, F).

    Args:
        model: the model.
        x: the observation x_1.
        options: options of the filter.
        inputs: u_1.
        features: features of the guide.
        mask: True where x_1 was observed, (B,) or (B, *event); None for everywhere.

    Raises:
        ValueError: an observation is missing that the model's memory reads, or that the states are conditioned on.
        DegenerateWeightsError: all weights of a sequence are zero, or one is NaN or infinite.
    """
    x = without_missing(model, x, mask)
    given = x if model.first == "condition" else None
    if given is not None and mask is not None:
        check_whole(mask)
    proposed = start(model, len(x), options, given=given, inputs=inputs, features=features)
    if given is None:
        return weigh(model, proposed, x, options, mask=mask)
    return _weighed(proposed, x, proposed.log_weights, options, 1)


def step(
    model: Conditionals,
    particles: Particles,
    x: Tensor,
    options: Options,
    *,
    inputs: Tensor | None = None,
    read: Any = None,
    features: Tensor | None = None,
    active: Tensor | None = None,
    number: int = 2,
    mask: Tensor | None = None,
) -> Step:
    """One more step, for x_t (B, *event): resample, propose, weigh; Choe, Shin & Spencer (2017), sec. 2.3.

    Args:
        model: the model.
        particles: the particles after the observation before.
        x: the observation x_t, (B, *event).
        options: as for `init`.
        inputs: u_t, (B, input_dim).
        read: the memory's precomputed part of x_{t-1} and u_t, (B, ...), from `Memory.reads`; None computes it.
        features: features of the guide, (B, F).
        active: False for a sequence that has ended, (B,): it stays unchanged, and x_t is padding. None for no such
            sequence.
        number: t, for the uniforms and for errors.
        mask: True where x_t was observed, (B,) or (B, *event); None for everywhere.

    Raises:
        ValueError: an observation is missing that the model's memory reads.
        DegenerateWeightsError: all weights of a sequence are zero, or one is NaN or infinite.
    """
    x = without_missing(model, x, mask)
    if read is None:
        read = memory_of(model).read(particles.x, inputs)
    seen = active if mask is None else _seen(mask, active)
    proposed = move(model, particles, options, x=x, read=read, features=features, active=seen, number=number)
    after = weigh(model, proposed, x, options, active=active, number=number, mask=mask)
    return after if active is None else _frozen(particles, after, active)


def without_missing(model: Conditionals, x: Tensor, mask: Tensor | None) -> Tensor:
    """An observation (B, *event) with zeros where it is missing, if no memory reads it."""
    if mask is None:
        return x
    check_memory(model)
    return x.where(over_events(mask, x), 0)


def _seen(mask: Tensor, active: Tensor | None) -> Tensor:
    """True for active sequences of whose observation some entry is there, (B,)."""
    some = some_observed(mask, 1)
    return some if active is None else some & active


def start(
    model: Conditionals,
    batch: int,
    options: Options,
    *,
    given: Tensor | None = None,
    inputs: Tensor | None = None,
    features: Tensor | None = None,
) -> Proposed:
    """Particles for z_1; they are drawn from p(z_1 | x_1) if x_1 (B, *event) is given."""
    z, h, log_ratio = first_states(
        model, batch, options, given=given, inputs=inputs, features=features, uniforms=options.uniforms(1)
    )
    like = example_of(model)
    log_weights = like.new_full((options.num_particles, batch), -math.log(options.num_particles))
    never = torch.zeros(batch, dtype=torch.bool, device=like.device)
    return Proposed(z, h, log_weights if log_ratio is None else log_weights + log_ratio, never, None)


def first_states(
    model: Conditionals,
    batch: int,
    options: Options,
    *,
    given: Tensor | None = None,
    inputs: Tensor | None = None,
    features: Tensor | None = None,
    uniforms: Uniforms | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """z_1, h_1 and log p(z_1) - log q(z_1), (N, B), None for q = p."""
    num = options.num_particles
    h = memory_of(model).start(batch, inputs)
    h = None if h is None else h.expand(num, *h.shape)
    if given is not None:
        return drawn(spread(model.initial_given(h, given), torch.Size([num, batch])), uniforms), h, None
    law = spread(model.initial(h), torch.Size([num, batch]))
    z, log_ratio = _propose(model, law, None, h, features, options, uniforms)
    return z, h, log_ratio


def move(
    model: Conditionals,
    particles: Particles,
    options: Options,
    *,
    x: Tensor | None = None,
    read: Any = None,
    features: Tensor | None = None,
    active: Tensor | None = None,
    number: int = 2,
) -> Proposed:
    """Particles for z_t from those for z_{t-1}; an auxiliary filter looks ahead at x_t (B, *event) of active sequences.

    Raises:
        DegenerateWeightsError: a lookahead that is NaN, or minus infinity for all particles of a sequence.
    """
    u = options.uniforms(number)
    if options.lookahead is None:
        drawn_by = Lookedahead(particles.log_weights, particles.weights, particles.ess)
    else:
        drawn_by = look_ahead(particles, x, options, active, number)
    particles, resampled, ancestors = resample(particles, drawn_by, options, u)
    memory = memory_of(model)
    read = memory.repeated(memory.read(particles.x) if read is None else read, options.num_particles)
    z, h, log_ratio = later_states(model, memory, particles.z, particles.h, read, options, features, u)
    log_weights = particles.log_weights if log_ratio is None else particles.log_weights + log_ratio
    return Proposed(z, h, log_weights, resampled, ancestors)


def later_states(
    model: Conditionals,
    memory: Memory,
    z: Tensor,
    h: Tensor | None,
    read: Any,
    options: Options,
    features: Tensor | None = None,
    uniforms: Uniforms | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """z_t, h_t and log p(z_t | ...) - log q(z_t | ...), (N, B), None for q = p, from particles (N, B, ...) before them.

    `memory` is the model's, `read` what it has read of x_{t-1} for every particle.
    """
    h = memory.step(h, z, read)
    law = spread(model.transition(z, h), z.shape[:2])
    after, log_ratio = _propose(model, law, z, h, features, options, uniforms)
    return after, h, log_ratio


def weigh(
    model: Conditionals,
    proposed: Proposed,
    x: Tensor,
    options: Options,
    *,
    active: Tensor | None = None,
    number: int = 1,
    mask: Tensor | None = None,
) -> Step:
    """Particles weighted by what was observed of x_t (B, *event), for sequences that are active.

    Raises:
        DegenerateWeightsError: all weights of a sequence are zero, or one is NaN or infinite.
    """
    joint = proposed.log_weights + observed_log_prob(model.emission(proposed.z, proposed.h), x, mask)
    if active is not None:
        joint = joint.where(active, -math.log(options.num_particles))
    return _weighed(proposed, x, joint, options, number)


def is_bootstrap(model: Conditionals, options: Options) -> bool:
    """Whether states are drawn from the model's own laws."""
    return options.proposal == "bootstrap" or (options.proposal is None and not model.has_proposal)


def _propose(
    model: Conditionals,
    law: TorchDistribution,
    z_before: Tensor | None,
    h: Tensor | None,
    features: Tensor | None,
    options: Options,
    uniforms: Uniforms | None,
) -> tuple[Tensor, Tensor | None]:
    """States from the proposal and log p(z_t | ...) - log q(z_t | ...), (N, B), None if q is the model's own law."""
    if is_bootstrap(model, options):
        return drawn(law, uniforms), None
    propose = model.proposal if options.proposal is None else options.proposal
    assert callable(propose)  # "bootstrap" has returned above
    guide = spread(propose(z_before, h, features), law.batch_shape)
    if str(guide.support) != str(law.support):
        raise ValueError(
            f"expected a proposal over {law.support}, the support of the model's states, got {guide.support}"
        )
    z = drawn(guide, uniforms)
    return z, law.log_prob(z) - guide.log_prob(z)


def drawn(law: TorchDistribution, uniforms: Uniforms | None) -> Tensor:
    """A draw from a law, by inversion at given uniforms or by torch's global generator."""
    if uniforms is not None:
        return invert(law, uniforms.states)
    return law.rsample() if law.has_rsample else law.sample()  # cheaper than torch.normal for normal laws


def _weighed(proposed: Proposed, x: Tensor, joint: Tensor, options: Options, number: int) -> Step:
    """The step whose particles end with weights proportional to exp(joint)."""
    log_normalizer, log_weights, weights, ess = normalize(joint)
    if not math.isfinite(float(log_normalizer.detach().sum())):
        check_lost(log_normalizer, joint, options, number, "weights")
        lost = ~log_normalizer.isfinite()
        uniform = joint.where(~lost, -math.log(options.num_particles))
        step = _weighed(proposed, x, uniform, options, number)
        return step._replace(log_normalizer=step.log_normalizer.where(~lost, -torch.inf))
    particles = Particles(proposed.z, proposed.h, log_weights, weights, x, ess)
    return Step(particles, log_normalizer, proposed.resampled, proposed.ancestors)


def of_active(active: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """New particles (N, B, ...) of active sequences, (B,), old ones of those that have ended."""
    return new.where(active[(...,) + (None,) * (new.dim() - 2)], old)


def _frozen(before: Particles, after: Step, active: Tensor) -> Step:
    """The step for active sequences, (B,); sequences that have ended keep their old particles."""
    chosen = partial(of_active, active)
    (z, h, log_weights, weights, x, ess), ancestors = after.particles, after.ancestors
    h = None if h is None or before.h is None else chosen(h, before.h)
    log_weights, weights = chosen(log_weights, before.log_weights), chosen(weights, before.weights)
    particles = Particles(chosen(z, before.z), h, log_weights, weights, x, ess.where(active, before.ess))
    if ancestors is not None:
        itself = torch.arange(len(z), device=z.device)[:, None]
        ancestors = ancestors.where(active, itself)
    return Step(particles, after.log_normalizer.where(active, 0.0), after.resampled & active, ancestors)
