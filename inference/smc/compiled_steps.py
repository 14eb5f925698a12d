"""Filters of any model without gradients: the laws are the model's, the weights are one compiled call per step.

Torch draws, weighs and gathers. What lies between, from log p(x_t | z_t) to ancestors, is
`pgm_rnn.kernels.particle_steps`; along the guide of a deep model of bits the laws are compiled, too, and only draws are
torch's. Numbers are drawn in the order of the general steps (`pgm_rnn.particles`), so that for a seed both are the same
run up to rounding; FIVO with its gradient has an order of its own (`two_passes`).
"""

from typing import Any

import torch
from torch import Tensor

from pgm_rnn.distributions.observed import observed_log_prob
from pgm_rnn.inference.smc.keeping import Keeping
from pgm_rnn.inference.smc.results import Filtered
from pgm_rnn.inference.smc.thresholds import check_lost, least_size
from pgm_rnn.kernels.guided_steps import GuidedSteps
from pgm_rnn.kernels.guides import Guide
from pgm_rnn.kernels.particle_steps import ParticleWeights
from pgm_rnn.particles import Options
from pgm_rnn.particles.steps import first_states, later_states, of_active, without_missing
from pgm_rnn.sequence_model import DrawsGuide, SequenceModel, memory_of
from pgm_rnn.sequence_model.conditionals import example_of
from pgm_rnn.sequence_model.observations import check_whole
from pgm_rnn.sequences import Sequences


def suits(data: Sequences, options: Options) -> bool:
    """Whether these steps can run: on the CPU, without gradients, and no ancestor drawn by anything but the weights."""
    plain = options.lookahead is None and options.noise is None and options.resampling != "soft"
    return plain and data.x.device.type == "cpu" and not torch.is_grad_enabled()


def guide_of(model: SequenceModel, data: Sequences, options: Options, encoded: Tensor | None) -> Guide | None:
    """The model's own guide, if it runs compiled; None where it does not for these data and options."""
    own = options.proposal is None and isinstance(model, DrawsGuide) and model.first == "model"
    if not own or encoded is None or data.observed is not None or data.inputs is not None:
        return None
    return model.compiled_guide(data.x, encoded)


def compiled_steps(
    model: SequenceModel,
    data: Sequences,
    options: Options,
    encoded: Tensor | None,
    keeping: Keeping,
    guided: GuidedSteps | None = None,
) -> Filtered:
    """A filter of checked data that `suits`, with the features of the guide, (B, T, F), if it has some.

    `guided` are steps along the model's own guide (`guide_of`).

    Raises:
        ValueError: observations are missing that the model's memory or its first states read.
        DegenerateWeightsError: as the general steps.
    """
    run = _Run(model, data, options, encoded, keeping, guided)
    for t in range(data.x.shape[1]):
        run.step(t)
    return run.result()


class _Run:
    """A filter under way: particles z (N, B, *latent) and h (N, B, dim), their weights, and what is kept."""

    def __init__(
        self,
        model: SequenceModel,
        data: Sequences,
        options: Options,
        encoded: Tensor | None,
        keeping: Keeping,
        guided: GuidedSteps | None,
    ) -> None:
        self.model, self.data, self.options, self.keeping, self.guided = model, data, options, keeping, guided
        x, lengths, _, inputs, observed = data[:5]
        self.memory, self.shape = memory_of(model), torch.Size([options.num_particles, len(x)])
        self.reads = self.memory.reads(x, inputs) if guided is None else None
        self.features, self.there = (
            [None] * x.shape[1] if values is None else values.unbind(1) for values in (encoded, observed)
        )
        self.x, self.shortest = x.unbind(1), int(lengths.min())
        self.weights: ParticleWeights | None = None
        self.z: Tensor
        self.h: Tensor | None = None

    def step(self, t: int) -> None:
        """Step t, counted from 0: resample, propose, weigh.

        Raises:
            ValueError: as `compiled_steps`.
        """
        x, there = without_missing(self.model, self.x[t], self.there[t]), self.there[t]
        ancestors = self._resampled(t)
        self._weigh(t, self._moved(t, x, there) if self.guided is None else self._guided(t, self.guided, ancestors))
        self._keep(ancestors, x)

    def _moved(self, t: int, x: Tensor, there: Tensor | None) -> Tensor:
        """Draw the states of step t and take their log densities, by the model's laws: the log ratios, (N, B)."""
        log_ratio = self._first(x, there) if t == 0 else self._later(t)
        if t == 0 and self.model.first == "condition":
            log_ratios = example_of(self.model).new_zeros(())
        else:
            log_ratios = observed_log_prob(self.model.emission(self.z, self.h), x, there)
        return log_ratios if log_ratio is None else log_ratios + log_ratio

    def _guided(self, t: int, guided: GuidedSteps, places: Tensor | None) -> Tensor:
        """The same by the model's compiled steps, from ancestors that stand at `places`, (N, B)."""
        z, h, log_ratios = guided.advance(places)
        self._take(t, z, h)
        return log_ratios

    def _resampled(self, t: int) -> Tensor | None:
        """Resample before step t; the places of the ancestors, n B + b, (N, B), None if each is its own."""
        weights = self.weights
        if weights is None or not weights.uneven:
            return None
        places = weights.places(t, torch.rand(weights.uniforms_shape, dtype=torch.float64))
        if self.guided is None:  # or its steps take the ancestors' states themselves
            self.z = _taken(self.z, places)
            self.h = None if self.h is None else _taken(self.h, places)
        return places

    def _first(self, x: Tensor, there: Tensor | None) -> Tensor | None:
        given = x if self.model.first == "condition" else None
        if given is not None and there is not None:
            check_whole(there)
        inputs = None if self.data.inputs is None else self.data.inputs[:, 0]
        start = first_states(self.model, len(x), self.options, given=given, inputs=inputs, features=self.features[0])
        self.z, self.h, log_ratio = start
        return log_ratio

    def _later(self, t: int) -> Tensor | None:
        assert self.reads is not None  # these are no guided steps
        read = self.memory.repeated(self.reads[t - 1], self.options.num_particles)
        z, h, log_ratio = later_states(self.model, self.memory, self.z, self.h, read, self.options, self.features[t])
        self._take(t, z, h)
        return log_ratio

    def _take(self, t: int, z: Tensor, h: Tensor | None) -> None:
        """Go on with these particles; a sequence that has ended keeps its own."""
        if t >= self.shortest:
            active = t < self.data.lengths
            z = of_active(active, z, self.z)
            h = None if h is None or self.h is None else of_active(active, h, self.h)
        self.z, self.h = z, h

    def _weigh(self, t: int, log_ratios: Tensor) -> None:
        """Raise unless the step leaves weights to go on with.

        Raises:
            DegenerateWeightsError: as the general steps.
        """
        if self.weights is None:
            dtype = torch.promote_types(example_of(self.model).dtype, log_ratios.dtype)
            num, steps, scheme = self.options.num_particles, len(self.x), self.options.resampling
            self.weights = ParticleWeights(num, self.data.lengths, steps, dtype, scheme, least_size(self.options))
        if log_ratios.shape != self.shape:
            log_ratios = log_ratios.expand(self.shape)
        if not self.weights.weigh(t, log_ratios.to(self.weights.dtype)):
            check_lost(self.weights.lost, self.options)

    def _keep(self, places: Tensor | None, x: Tensor) -> None:
        """Keep what was asked for of a step."""
        weights = self.weights
        assert weights is not None  # the step has weighed
        if self.keeping.keeps_particles:
            ancestors = None if places is None else places // self.shape[1]
            self.keeping.add_particles(self.z, weights.log_weights, ancestors)
        self.keeping.add_means(self.z, self.h, x, weights.weights)

    def result(self) -> Filtered:
        """The engine's result."""
        weights: Any = self.weights
        total = weights.log_normalizers.sum(-1)
        return Filtered(
            log_marginal_likelihood=total,
            log_normalizers=weights.log_normalizers,
            particles=self.z,
            log_weights=weights.log_weights + total,
            ess=weights.ess,
            resampled=weights.resampled,
            means=self.keeping.means,
            history=self.keeping.history,
            memory=self.h,
        )


def _taken(values: Tensor, places: Tensor) -> Tensor:
    """The particles (N, B, ...) at places n B + b, (N, B)."""
    return values.reshape(-1, *values.shape[2:]).index_select(0, places.reshape(-1)).view(values.shape)
