"""A particle filter over whole sequences: it runs the steps and records their results.

Without gradients, sequences run in groups of at most `GROUP` particles, whose states stay in the processor's cache from
one operation to the next, and memory grows with T by a few numbers per sequence and step only.
"""

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Literal

import torch
from torch import Tensor

from pgm_rnn.inference.smc.compiled_steps import compiled_steps, guide_of, suits
from pgm_rnn.inference.smc.keeping import Keeping, SeenFunction
from pgm_rnn.inference.smc.results import Filtered, History
from pgm_rnn.inference.smc.whole_runs import whole_run
from pgm_rnn.particles import DegenerateWeightsError, Options, Particles, Step, init, step
from pgm_rnn.particles.steps import is_bootstrap
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.observations import check_given, checked
from pgm_rnn.sequence_model.once import computed_once
from pgm_rnn.sequences import Data, Sequences

GROUP = 2**18
"""Largest number of particles that run together on a CPU; a single sequence may have more."""

Function = Callable[[Tensor, Tensor | None], Tensor]
"""A function of a state and its memory, (N, B, ...)."""


def run(
    model: SequenceModel,
    data: Sequences,
    options: Options,
    functions: Mapping[str, Function] | None = None,
    keep: Literal["last", "all"] = "last",
    seen: Mapping[str, SeenFunction] | None = None,
) -> Filtered:
    """Runs a filter on data from `checked_for_smc`; arguments are those of `pgm_rnn.inference.smc.filter`.

    `seen` are functions that read the observation, too, whose filtered means stand beside the others.
    """
    blind = {name: partial(_blind, function) for name, function in (functions or {}).items()}
    with computed_once(model):
        return _in_groups(model, data, options, {**blind, **(seen or {})}, keep)


def _blind(function: Function, z: Tensor, h: Tensor | None, x: Tensor) -> Tensor:
    return function(z, h)


def _in_groups(
    model: SequenceModel,
    data: Sequences,
    options: Options,
    functions: Mapping[str, SeenFunction],
    keep: Literal["last", "all"],
) -> Filtered:
    size = max(1, GROUP // options.num_particles)
    if torch.is_grad_enabled() or data.x.device.type != "cpu" or len(data.x) <= size or options.noise is not None:
        return _group(model, data, options, functions, keep)
    parts = []
    for start in range(0, len(data.x), size):
        rows = data._replace(legend=None).mapped(itemgetter(slice(start, start + size)))
        try:
            parts.append(_group(model, rows, options, functions, keep))
        except DegenerateWeightsError as error:
            raise DegenerateWeightsError(start + error.sequence, error.step, error.found, error.way_out) from None
    return _joined(parts)


def checked_for_smc(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None,
    inputs: Tensor | None,
    mask: Tensor | None = None,
) -> Sequences:
    """Checked data for a model with latent states.

    Raises:
        TypeError: a model without latent states.
        ValueError: observations that do not fit the model, or missing ones that its memory reads.
    """
    if not isinstance(model, SequenceModel) or model.states is None:
        raise TypeError(
            f"expected a model with latent states for smc, {type(model).__name__} has none; use "
            "svi.evaluate for its likelihood"
        )
    data = checked(model, x, lengths, inputs=inputs, mask=mask)
    check_given(data, model.first)
    return data


def _group(
    model: SequenceModel,
    data: Sequences,
    options: Options,
    functions: Mapping[str, SeenFunction],
    keep: Literal["last", "all"],
) -> Filtered:
    if not functions and keep == "last" and (found := whole_run(model, data, options)) is not None:
        return found
    encoded = None if is_bootstrap(model, options) else model.encode(data.x, data.lengths)
    keeping = Keeping(functions, keep)
    if suits(data, options):
        guide = guide_of(model, data, options, encoded)
        steps = None if guide is None else guide.steps(options.num_particles)
        return compiled_steps(model, data, options, encoded, keeping, steps)
    x, lengths, _, inputs, observed = data[:5]
    features, there = ([None] * x.shape[1] if values is None else values.unbind(1) for values in (encoded, observed))
    record, shortest = _Record(keeping, x.shape[1]), int(lengths.min())
    u = None if inputs is None else inputs[:, 0]
    latest = init(model, x[:, 0], options, inputs=u, features=features[0], mask=there[0])
    record.add(latest)
    later = zip(x.unbind(1)[1:], memory_of(model).reads(x, inputs), features[1:], there[1:], strict=True)
    for t, (x_t, read, features_t, there_t) in enumerate(later, 1):
        active = None if t < shortest else t < lengths
        given = {"read": read, "features": features_t, "active": active, "mask": there_t}
        latest = step(model, latest.particles, x_t, options, number=t + 1, **given)
        record.add(latest)
    return record.result(latest.particles)


class _Record:
    """The results of each step; without gradients they are allocated at the start, so that memory is not fragmented."""

    def __init__(self, keeping: Keeping, num_steps: int) -> None:
        self.keeping, self.num_steps, self.number = keeping, num_steps, 0
        self.log_normalizers: list[Tensor] = []

    def add(self, done: Step) -> None:
        z, h, log_weights, weights, x, ess_now = done.particles
        if self.number == 0:
            shape = (z.shape[1], self.num_steps)
            self.rows = (weights.new_empty(shape), weights.new_empty(shape, dtype=torch.bool), weights.new_empty(shape))
        ess, resampled, plain = self.rows
        ess[:, self.number], resampled[:, self.number] = ess_now, done.resampled
        if torch.is_grad_enabled():
            self.log_normalizers.append(done.log_normalizer)
        else:
            plain[:, self.number] = done.log_normalizer
        self.number += 1
        if self.keeping.keeps_particles:
            self.keeping.add_particles(z, log_weights, done.ancestors)
        self.keeping.add_means(z, h, x, weights)

    def result(self, last: Particles) -> Filtered:
        ess, resampled, plain = self.rows
        log_normalizers = torch.stack(self.log_normalizers, dim=1) if self.log_normalizers else plain
        total = log_normalizers.sum(-1)
        kept = self.keeping.means, self.keeping.history
        return Filtered(total, log_normalizers, last.z, last.log_weights + total, ess, resampled, *kept, last.h)


def _joined(parts: list[Filtered]) -> Filtered:
    """One result from the results of groups of sequences."""
    first = parts[0]
    rows = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("log_marginal_likelihood", "log_normalizers", "ess", "resampled")
    }
    columns = {name: torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("particles", "log_weights")}
    means = {name: torch.cat([part.means[name] for part in parts]) for name in first.means}
    histories = [part.history for part in parts if part.history is not None]
    history = History(*(torch.cat(steps, dim=2) for steps in zip(*histories, strict=True))) if histories else None
    memories = [part.memory for part in parts if part.memory is not None]
    memory = torch.cat(memories, dim=1) if memories else None
    return Filtered(**rows, **columns, means=means, history=history, memory=memory)
