"""FIVO and its gradient in two passes, for guides that draw the states of all steps at once.

The first pass is the filter without gradients; it finds the states and their ancestors. In the second, the states are
differentiated as those of one function, and the log densities of all steps are taken at once. Where the guide runs
compiled (`kernels.guides`) and resampling is systematic, the filter is one function, which keeps what the gradient
reads; elsewhere a function of the model's own (`redraw_guide`) draws the same states again, from the noise that the
filter had. The estimate is a product over the spells between two resamplings, t = s..e, of the mean over particles of

    prod_{t = s}^{e} p(x_t | z_t^n, h_t^n) p(z_t^n | ...) / q(z_t^n | ...).

Ancestors count as given, as gradient="drop" says. Step by step, most of the time goes into starting operations.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pgm_rnn.distributions.normal import log_prob_of_drawn
from pgm_rnn.inference.smc.compiled_steps import compiled_steps, guide_of
from pgm_rnn.inference.smc.keeping import Keeping
from pgm_rnn.inference.smc.results import Filtered
from pgm_rnn.inference.smc.thresholds import check_lost, least_size
from pgm_rnn.kernels.guided_runs import Particles
from pgm_rnn.kernels.guides import Guide
from pgm_rnn.kernels.lineages import Lineage
from pgm_rnn.kernels.transforms import is_transformed
from pgm_rnn.particles import Options
from pgm_rnn.sequence_model import DrawsGuide, SequenceModel
from pgm_rnn.sequence_model.drawn import Drawn
from pgm_rnn.sequence_model.once import computed_once
from pgm_rnn.sequences import Sequences


def in_two_passes(model: SequenceModel, data: Sequences, options: Options) -> Tensor | None:
    """The estimate of log p(x_{1:T}) of checked data, (B,), nats; None where only the steps of a filter give it.

    Raises:
        DegenerateWeightsError: as the filter.
    """
    if not _suits(model, data, options) or (encoded := model.encode(data.x, data.lengths)) is None:
        return None
    before = torch.get_rng_state()
    guide = guide_of(model, data, options, encoded)
    if guide is not None and options.resampling == "systematic":
        found = in_one_run(guide, noise_for(data, options, guide), options)
    else:
        with torch.no_grad(), computed_once(model):
            first = _first_pass(model, data, options, encoded.detach(), guide)
        found = _redrawn(model, encoded, first)
    with computed_once(model):
        log_ratios = _log_ratios(model, data, found)
    if bool(log_ratios.detach().sum().isfinite()):
        return log_total(log_ratios, found.resampled)
    torch.set_rng_state(before)  # an impossible particle: the steps begin again with the same numbers
    return None


def _suits(model: SequenceModel, data: Sequences, options: Options) -> bool:
    """Whether the states can be drawn again: by the model's own guide, on the CPU, with gradients, nothing missing."""
    own = options.proposal is None and options.lookahead is None and options.noise is None
    plain = own and options.resampling != "soft" and options.gradient == "drop" and options.degenerate == "raise"
    guide = _redraws(model) and model.has_proposal and model.reparametrised and model.first == "model"
    seen = data.inputs is None and data.observed is None and data.x.device.type == "cpu"
    return plain and guide and seen and torch.is_grad_enabled() and not is_transformed((data.x, *model.parameters()))


def _redraws(model: SequenceModel) -> bool:
    """Whether the model draws its guide's states again: the class that says how they are drawn must say so, too."""
    names = {"draw_guide", "redraw_guide"}
    own = next((names & vars(kind).keys() for kind in type(model).__mro__ if names & vars(kind).keys()), set())
    return isinstance(model, DrawsGuide) and "redraw_guide" in own and model.redraws


class Found(NamedTuple):
    """Particles of all steps, n-th particle of sequence b in row b N + n.

    Attributes:
        drawn: their states, memory and guide's log densities, rows (R, T, ...), with gradients.
        lineage: the ancestors.
        resampled: whether a step began with resampling, (B, T).
    """

    drawn: Drawn
    lineage: Lineage
    resampled: Tensor


def noise_for(data: Sequences, options: Options, guide: Guide) -> Particles:
    """Noise of all particles, zero beyond the ends of sequences, then uniforms, from torch's generator."""
    rows, like = len(data.x) * options.num_particles, guide.features
    noise = torch.randn(rows, data.x.shape[1], guide.dim, dtype=like.dtype)
    uniforms = torch.rand(data.x.shape[:2], dtype=torch.float64)
    inside = data.mask.repeat_interleave(options.num_particles, 0)[..., None]
    return Particles(noise.where(inside, 0.0), uniforms, data.lengths, least_size(options))


def in_one_run(guide: Guide, particles: Particles, options: Options) -> Found:
    """Both passes at once, by a compiled filter.

    Raises:
        DegenerateWeightsError: as the filter.
    """
    z, h, scale, lineage, resampled, lost = guide.run(particles)
    check_lost(lost, options)
    return Found(Drawn(z, h, log_prob_of_drawn(particles.noise, scale)), lineage, resampled)


class _FirstPass(NamedTuple):
    """What the filter has drawn.

    Attributes:
        noise: (z_t - loc) / scale of every particle, zero beyond the ends of sequences, (R, T, D), rows by sequence.
        lineage: the ancestors.
        resampled: whether a step began with resampling, (B, T).
    """

    noise: Tensor
    lineage: Lineage
    resampled: Tensor


def _first_pass(
    model: SequenceModel, data: Sequences, options: Options, encoded: Tensor, guide: Guide | None
) -> _FirstPass:
    """The filter, by compiled steps along the model's guide or by its laws."""
    if guide is None:
        found, noise, lineage = _by_laws(model, data, options, encoded)
    else:
        steps = guide.steps(options.num_particles)
        steps.keeps = True
        found = compiled_steps(model, data, options, encoded, Keeping({}, "last"), steps)
        noise, lineage = torch.stack(steps.noise), steps.lineage
    of_steps = noise.where(data.mask.mT[:, None, :, None], 0.0)  # (T, N, B, D)
    return _FirstPass(of_steps.permute(2, 1, 0, 3).flatten(0, 1), lineage, found.resampled)


def _redrawn(model: Any, encoded: Tensor, first: _FirstPass) -> Found:
    """The states of a first pass again, by the model's own function."""
    features = encoded.repeat_interleave(first.lineage.kin, 0)
    with computed_once(model):
        drawn = model.redraw_guide(features, first.noise, first.lineage)
    return Found(drawn, first.lineage, first.resampled)


def _by_laws(
    model: SequenceModel, data: Sequences, options: Options, encoded: Tensor
) -> tuple[Filtered, Tensor, Lineage]:
    """The filter, its noise (T, N, B, D) and its ancestors, by the laws of the guide."""
    laws: list[Any] = []

    def proposal(z: Tensor | None, h: Tensor | None, features: Tensor | None) -> TorchDistribution:
        laws.append(model.proposal(z, h, features))
        return laws[-1]

    found = compiled_steps(model, data, replace(options, proposal=proposal), encoded, Keeping({}, "all"))
    assert found.history is not None  # all of it is kept
    noise = torch.stack([(z - law.loc) / law.scale for z, law in zip(found.history.z, laws, strict=True)])
    num, batch = found.history.ancestors.shape[1:]
    own = num * torch.arange(batch)[:, None, None]
    return found, noise, Lineage((found.history.ancestors.permute(2, 1, 0) + own).flatten(0, 1), num)


def _log_ratios(model: Any, data: Sequences, found: Found) -> Tensor:
    """log p(x_t | z_t, h_t) p(z_t | ...) / q(z_t | ...) of every particle, (B, N, T), zero beyond the ends."""
    drawn, lineage = found.drawn, found.lineage
    num = lineage.kin
    seen = model.emission(drawn.z, drawn.h).log_prob(data.x.repeat_interleave(num, 0))
    log_ratios = seen + _move_log_probs(model, drawn.z, drawn.h, lineage) - drawn.log_probs
    by_particle: Tensor = log_ratios.unflatten(0, (len(data.x), num))
    return by_particle.where(data.mask[:, None], 0.0)


def _move_log_probs(model: Any, z: Tensor, h: Tensor | None, lineage: Lineage) -> Tensor:
    """log p(z_t | z_{t-1}, h_t) of every row, (R, T), where a state may follow that of another row."""
    if not model.transition_reads_state:
        found: Tensor = model.initial(h).log_prob(z)
        return found
    first, later = (None, None) if h is None else (h[:, 0], h[:, 1:])
    starts = model.initial(first).log_prob(z[:, 0]).expand(len(z))
    moves = model.transition(lineage.before(z, z[:, 0])[:, 1:], later).log_prob(z[:, 1:])
    return torch.cat([starts[:, None], moves], dim=1)


def log_total(log_ratios: Tensor, resampled: Tensor) -> Tensor:
    """Sum over spells of the log of the mean over particles of the product of their ratios, (B,), nats.

    Args:
        log_ratios: (B, N, T), finite.
        resampled: whether a spell begins with a step, (B, T); the first step begins one in any case.
    """
    steps = torch.arange(resampled.shape[1], device=resampled.device)
    begins = resampled | (steps == 0)
    first = steps.where(begins, 0).cummax(-1).values[:, None].expand(log_ratios.shape)
    ends = torch.cat([begins[:, 1:], begins.new_ones(len(begins), 1)], dim=1)
    exact = log_ratios.double()  # differences of long sums
    total = exact.cumsum(-1)
    products = total - (total - exact).gather(-1, first)
    means = products.logsumexp(1) - math.log(log_ratios.shape[1])
    return means.where(ends, 0.0).sum(-1).to(log_ratios.dtype)
