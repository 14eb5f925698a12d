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
from pgm_rnn.kernels.resampling import SCHEMES, draw_ancestors, uniforms_shape
from pgm_rnn.kernels.weights import normalize
from pgm_rnn.noise import Noise, Uniforms, invert
from pgm_rnn.sequence_model import SequenceModel

Proposal = Callable[[Tensor | None, Tensor | None, Tensor | None], TorchDistribution]
"""q(z_t | z_{t-1}, h_t, features_t): from particles (N, B, *latent), None at t = 1, memory and features (B, F)."""
Lookahead = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""log of how well z_{t-1} (N, B, *latent), h_{t-1} will explain x_t (B, *event): (N, B)."""


class DegenerateWeightsError(ValueError):
    """Every particle of a sequence has weight zero, or a weight is NaN or infinite.

    Attributes:
        sequence: its place in the batch.
        step: t, from 1.
        found: what was found in place of a finite log weight, such as "NaN weights"; None where all weights are zero.
        way_out: what the caller of the engine can do.
    """

    def __init__(self, sequence: int, step: int, found: str | None = None, way_out: str | None = None) -> None:
        if way_out is None:
            way_out = "use more particles or another proposal" if found is None else _SOURCES
        if found is None:
            wanted, got = "a particle of positive weight", "none"
        else:
            wanted, got = "finite log weights", found
        super().__init__(f"expected {wanted}, sequence {sequence} has {got} at step {step}; {way_out}")
        self.sequence, self.step, self.found, self.way_out = sequence, step, found, way_out


_SOURCES = "look for a parameter or an observation that is no number, or a density that overflows"


@dataclass(frozen=True)
class Options:
    """How a filter runs.

    Attributes:
        num_particles: N, at least 1.
        proposal: None for the model's own guide, "bootstrap" for its transition, or a function.
        lookahead: of an auxiliary filter.
        resampling: one of `kernels.resampling.SCHEMES`, or "soft".
        ess_threshold: resample where the effective sample size is at most this part of N: 0 never, 1 at every step.
        gradient: "drop" leaves the gradient of resampling out, which biases it; "score" keeps it, as the gradient of
            the weights that ancestors were drawn by.
        degenerate: "raise" an error where all weights are zero, or go on with "-inf" for that sequence.
        noise: the uniforms of every step; None draws from torch's global generator.
    """

    num_particles: int = 1000
    proposal: Proposal | Literal["bootstrap"] | None = None
    lookahead: Lookahead | None = None
    resampling: str = "systematic"
    ess_threshold: float = 0.5
    gradient: Literal["drop", "score"] = "drop"
    degenerate: Literal["raise", "-inf"] = "raise"
    noise: Noise | None = None

    def __post_init__(self) -> None:
        check_counts(num_particles=self.num_particles)
        check_choice("resampling", self.resampling, (*SCHEMES, "soft"))
        check_choice("gradient", self.gradient, ("drop", "score"))
        check_choice("degenerate", self.degenerate, ("raise", "-inf"))
        if not 0 <= self.ess_threshold <= 1:
            raise ValueError(f"expected ess_threshold in [0, 1], a part of the particles, got {self.ess_threshold}")
        if isinstance(self.proposal, str):
            check_choice("proposal", self.proposal, ("bootstrap",))

    @property
    def scheme(self) -> str:
        """What inverts the distribution function: the scheme, systematic for soft resampling."""
        return "systematic" if self.resampling == "soft" else self.resampling

    def uniforms(self, number: int) -> Uniforms | None:
        """Those of step `number`, where they are given."""
        return None if self.noise is None else self.noise(number)


class Proposed(NamedTuple):
    """Particles before an observation.

    Attributes:
        z: states z_t, (N, B, *latent).
        h: their memory h_t, (N, B, dim), or None.
        log_weights: log W_{t-1} p(z_t | ...) / q(z_t | ...), (N, B), nats.
        resampled: whether they were resampled on the way, (B,).
        ancestors: which particle each came from, (N, B); None for itself.
    """

    z: Tensor
    h: Tensor | None
    log_weights: Tensor
    resampled: Tensor
    ancestors: Tensor | None


class Particles(NamedTuple):
    """Where a filter stands after an observation.

    Attributes:
        z: states, (N, B, *latent).
        h: their memory, (N, B, dim), or None.
        log_weights: log W_t, (N, B), nats.
        weights: in proportion to W_t, the largest one, (N, B), without gradient.
        x: the observation, (B, *event).
        ess: effective sample size 1 / sum_n (W_t^n)^2, (B,).
    """

    z: Tensor
    h: Tensor | None
    log_weights: Tensor
    weights: Tensor
    x: Tensor
    ess: Tensor


class Step(NamedTuple):
    """What one observation did.

    Attributes:
        particles: after it.
        log_normalizer: estimate of log p(x_t | x_{1:t-1}), (B,), nats.
        resampled: whether the particles were resampled before it, (B,).
        ancestors: which particle each came from, (N, B); None where each came from itself.
    """

    particles: Particles
    log_normalizer: Tensor
    resampled: Tensor
    ancestors: Tensor | None


def init(
    model: SequenceModel,
    x: Tensor,
    options: Options,
    *,
    inputs: Tensor | None = None,
    features: Tensor | None = None,
) -> Step:
    """The first observation x_1 (B, *event); inputs u_1 (B, input_dim); features_1 (B, F) of the guide."""
    given = x if model.first == "condition" else None
    proposed = start(model, len(x), options, given=given, inputs=inputs, features=features)
    if given is None:
        return weigh(model, proposed, x, options)
    return _weighed(proposed, x, proposed.log_weights, options, 1)


def step(
    model: SequenceModel,
    particles: Particles,
    x: Tensor,
    options: Options,
    *,
    inputs: Tensor | None = None,
    driver: Tensor | None = None,
    features: Tensor | None = None,
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
        driver: what the memory reads, (B, ...), of `SequenceModel.drivers`; None to make it from inputs and x_{t-1}.
        features: of the guide, (B, F).
        active: False where a sequence has ended, (B,): it stays as it is, x_t is padding. None for nowhere.
        number: t, for the uniforms and for errors.
    """
    if driver is None:
        driver = _driver(model, particles, inputs)
    proposed = move(model, particles, options, x=x, driver=driver, features=features, active=active, number=number)
    if active is None:
        return weigh(model, proposed, x, options, number=number)
    return _frozen(particles, weigh(model, proposed, x, options, active=active, number=number), active)


def start(
    model: SequenceModel,
    batch: int,
    options: Options,
    *,
    given: Tensor | None = None,
    inputs: Tensor | None = None,
    features: Tensor | None = None,
) -> Proposed:
    """Particles for z_1, from p(z_1 | x_1) where x_1 is given, (B, *event)."""
    num, u = options.num_particles, options.uniforms(1)
    h = model.first_memory(batch, None if inputs is None else inputs[:, None])
    h = None if h is None else h.expand(num, *h.shape)
    if given is not None:
        z, log_ratio = _draw(model.initial_given(h, given).expand([num, batch]), u), None
    else:
        z, log_ratio = _propose(model, model.initial(h).expand([num, batch]), None, h, features, options, u)
    like = next(model.parameters())
    log_weights = like.new_full((num, batch), -math.log(num))
    never = torch.zeros(batch, dtype=torch.bool, device=like.device)
    return Proposed(z, h, log_weights if log_ratio is None else log_weights + log_ratio, never, None)


def move(
    model: SequenceModel,
    particles: Particles,
    options: Options,
    *,
    x: Tensor | None = None,
    driver: Tensor | None = None,
    features: Tensor | None = None,
    active: Tensor | None = None,
    number: int = 2,
) -> Proposed:
    """Particles for z_t from those for z_{t-1}; an auxiliary filter looks ahead at x_t (B, *event) where it is active.

    Raises:
        DegenerateWeightsError: a lookahead that is NaN, or minus infinity for all particles of a sequence that may not
            be lost.
    """
    u = options.uniforms(number)
    if options.lookahead is None:
        drawn_by = Lookedahead(particles.log_weights, particles.weights, particles.ess)
    else:
        drawn_by = _look_ahead(particles, x, options, active, number)
    particles, resampled, ancestors = _resample(particles, drawn_by, options, u)
    z_before, driver = particles.z, _driver(model, particles, None) if driver is None else driver
    driver = None if driver is None else driver.expand(options.num_particles, *driver.shape)
    h = model.drive(particles.h, z_before, driver)
    z, log_ratio = _propose(model, model.transition(z_before, h), z_before, h, features, options, u)
    log_weights = particles.log_weights if log_ratio is None else particles.log_weights + log_ratio
    return Proposed(z, h, log_weights, resampled, ancestors)


def _driver(model: SequenceModel, particles: Particles, inputs: Tensor | None) -> Tensor | None:
    if inputs is not None or particles.h is None:
        return inputs
    return model.read(particles.x)


def weigh(
    model: SequenceModel,
    proposed: Proposed,
    x: Tensor,
    options: Options,
    *,
    active: Tensor | None = None,
    number: int = 1,
) -> Step:
    """Particles weighted by an observation x_t (B, *event), where the sequence is active."""
    joint = proposed.log_weights + model.emission(proposed.z, proposed.h).log_prob(x)
    if active is not None:
        joint = joint.where(active, -math.log(options.num_particles))
    return _weighed(proposed, x, joint, options, number)


def _propose(
    model: SequenceModel,
    law: TorchDistribution,
    z_before: Tensor | None,
    h: Tensor | None,
    features: Tensor | None,
    options: Options,
    uniforms: Uniforms | None,
) -> tuple[Tensor, Tensor | None]:
    """States from the proposal and log p(z_t | ...) - log q(z_t | ...), (N, B); None for the model's own law."""
    own = options.proposal is None and type(model).proposal is SequenceModel.proposal
    if options.proposal == "bootstrap" or own:
        return _draw(law, uniforms), None
    propose = model.proposal if options.proposal is None else options.proposal
    assert callable(propose)  # a name was dealt with above
    guide = propose(z_before, h, features).expand(law.batch_shape)
    if str(guide.support) != str(law.support):
        raise ValueError(
            f"expected a proposal over {law.support}, where the model's states are, got one over {guide.support}"
        )
    z = _draw(guide, uniforms)
    return z, law.log_prob(z) - guide.log_prob(z)


def _draw(law: TorchDistribution, uniforms: Uniforms | None) -> Tensor:
    if uniforms is not None:
        return invert(law, uniforms.states)
    return law.rsample() if law.has_rsample else law.sample()  # normal draws cost less than by torch.normal


class Lookedahead(NamedTuple):
    """What particles are drawn by: log V and V in proportion, (N, B), and its effective sample size, (B,)."""

    log_weights: Tensor
    weights: Tensor
    ess: Tensor


def _look_ahead(
    particles: Particles, x: Tensor | None, options: Options, active: Tensor | None, number: int
) -> Lookedahead:
    """The weights times what the lookahead expects of x_t, or the weights where it expects nothing of a sequence."""
    assert x is not None and options.lookahead is not None  # noqa: PT018  (the engine's filter knows what comes)
    ahead = options.lookahead(particles.z, particles.h, x)
    if active is not None:
        ahead = ahead.where(active, 0.0)
    found = normalize(particles.log_weights + ahead)
    if not math.isfinite(float(found.log_total.detach().sum())):
        _check_lost(found.log_total, ahead, options, number, "lookahead")
        found = normalize(particles.log_weights + ahead.where(found.log_total.isfinite(), 0.0))
    return Lookedahead(found.log_weights, found.weights, found.ess)


def _resample(
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
    """Uniforms for resampling, those that are given for every sequence or fresh ones."""
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
    """Which sequences have an effective sample size of at most a part of the particles, (B,)."""
    if options.ess_threshold in (0, 1):
        return ess.new_full(ess.shape, options.ess_threshold, dtype=torch.bool)
    return ess <= options.ess_threshold * options.num_particles


def _take(values: Tensor, ancestors: Tensor) -> Tensor:
    """values[ancestors[n, b], b], (N, B, ...)."""
    if values.dim() == 2:
        return values.gather(0, ancestors)
    index = ancestors[(...,) + (None,) * (values.dim() - 2)]
    return values.gather(0, index.expand(values.shape))


def _weighed(proposed: Proposed, x: Tensor, joint: Tensor, options: Options, number: int) -> Step:
    """The step that ends with particles of weights proportional to exp(joint)."""
    log_normalizer, log_weights, weights, ess = normalize(joint)
    if not math.isfinite(float(log_normalizer.detach().sum())):
        _check_lost(log_normalizer, joint, options, number, "weights")
        lost = ~log_normalizer.isfinite()
        uniform = joint.where(~lost, -math.log(options.num_particles))
        step = _weighed(proposed, x, uniform, options, number)
        return step._replace(log_normalizer=step.log_normalizer.where(~lost, -torch.inf))
    particles = Particles(proposed.z, proposed.h, log_weights, weights, x, ess)
    return Step(particles, log_normalizer, proposed.resampled, proposed.ancestors)


def _check_lost(log_total: Tensor, terms: Tensor, options: Options, number: int, what: str) -> None:
    """Raise a `DegenerateWeightsError` unless all weights of a sequence may be zero, and none is NaN or infinite."""
    wrong = ~log_total.isfinite() & (log_total != -torch.inf)
    if bool(wrong.any()):
        sequence = int(wrong.nonzero()[0])
        kind = "NaN" if bool(terms[:, sequence].isnan().any()) else "infinite"
        raise DegenerateWeightsError(sequence, number, f"{kind} {what}")
    if options.degenerate == "raise":
        found = None if what == "weights" else f"a {what} of minus infinity for every particle"
        raise DegenerateWeightsError(int((log_total == -torch.inf).nonzero()[0]), number, found)


def _frozen(before: Particles, after: Step, active: Tensor) -> Step:
    """The step for the sequences that go on, (B,), and nothing new for those that have ended."""

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return new.where(active[(...,) + (None,) * (new.dim() - 2)], old)

    (z, h, log_weights, weights, x, ess), ancestors = after.particles, after.ancestors
    h = None if h is None or before.h is None else chosen(h, before.h)
    log_weights, weights = chosen(log_weights, before.log_weights), chosen(weights, before.weights)
    particles = Particles(chosen(z, before.z), h, log_weights, weights, x, ess.where(active, before.ess))
    if ancestors is not None:
        itself = torch.arange(len(z), device=z.device)[:, None]
        ancestors = ancestors.where(active, itself)
    return Step(particles, after.log_normalizer.where(active, 0.0), after.resampled & active, ancestors)
