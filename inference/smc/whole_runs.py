"""Filters that run as one compiled function: models whose laws are known as numbers before the first step.

Finite chains (`sequence_model.tables`), linear-Gaussian ones (`sequence_model.chains`) and models that say how
(`mixins.RunsWhole`) are moved by their own laws and weighed by their emission, resampled systematically, and only their
end is kept. Any other filter, and any that is to be differentiated, takes the general steps (`pgm_rnn.particles`).
"""

import torch
from torch import Tensor

from pgm_rnn.inference.smc.results import Filtered
from pgm_rnn.inference.smc.thresholds import check_lost, least_size
from pgm_rnn.kernels import particle_runs
from pgm_rnn.kernels.particle_runs import Run
from pgm_rnn.particles import Options
from pgm_rnn.particles.steps import is_bootstrap
from pgm_rnn.sequence_model import SequenceModel, memory_of
from pgm_rnn.sequence_model.chains import chain_of, has_chain
from pgm_rnn.sequence_model.mixins import RunsWhole
from pgm_rnn.sequence_model.tables import has_tables, tables_of
from pgm_rnn.sequences import Sequences

MOST = 2**22
"""Most numbers in the tables of a finite chain."""


def whole_run(model: SequenceModel, data: Sequences, options: Options) -> Filtered | None:
    """A filter of checked data, whose history and functions are not wanted; None if it must take the general steps.

    Raises:
        DegenerateWeightsError: as the general steps.
    """
    if not _suits(model, data, options):
        return None
    threshold = least_size(options)
    if isinstance(model, RunsWhole):
        run = model.whole_run(data, options.num_particles, threshold)
    else:
        run = (_of_tables if has_tables(model) else _of_chain)(model, data, options, threshold)
    return None if run is None else _filtered(model, data, run, options)


def _suits(model: SequenceModel, data: Sequences, options: Options) -> bool:
    plain = options.lookahead is None and options.noise is None and options.resampling == "systematic"
    here = data.x.device.type == "cpu" and not torch.is_grad_enabled() and model.first == "model"
    known = isinstance(model, RunsWhole) or has_tables(model) or has_chain(model)
    return plain and is_bootstrap(model, options) and here and known


def _of_tables(model: SequenceModel, data: Sequences, options: Options, threshold: float) -> Run | None:
    num_states = model.states.num_states  # type: ignore[union-attr]  # it has tables
    moves = 1 if model.initial_memory is None and model.input_dim is None else num_states
    if data.x.shape[0] * data.x.shape[1] * num_states * moves > MOST:
        return None
    tables = tables_of(model, data)
    return particle_runs.finite(*tables, data.lengths, options.num_particles, threshold)


def _of_chain(model: SequenceModel, data: Sequences, options: Options, threshold: float) -> Run | None:
    chained = chain_of(model, data)
    if chained.diffuse is not None:
        return None
    given = chained.chain, chained.x, data.lengths, options.num_particles, threshold, chained.observed
    return particle_runs.gaussian(*given)


def _filtered(model: SequenceModel, data: Sequences, run: Run, options: Options) -> Filtered:
    """The run as the engine's result."""
    check_lost(run.lost, options)
    total = run.log_normalizers.sum(-1)
    log_weights = run.log_weights.mT + total
    z = run.z.transpose(0, 1)
    z = z if z.is_floating_point() else z.long()
    return Filtered(
        total, run.log_normalizers, z, log_weights, run.ess, run.resampled, {}, None, _last_memory(model, data, options)
    )


def _last_memory(model: SequenceModel, data: Sequences, options: Options) -> Tensor | None:
    """h at each sequence's end, (N, B, dim): it reads no states, so that all particles have the same."""
    h = memory_of(model).unroll(data.x, None, data.inputs)
    if h is None:
        return None
    last: Tensor = h[torch.arange(len(h)), data.lengths - 1]
    return last.expand(options.num_particles, *last.shape)
