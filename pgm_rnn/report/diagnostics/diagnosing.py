"""The function `diagnose`: the checks that apply to a model, one after the other.

pr.diagnose(model, data)                       one-step residuals, simulations, forecasts, particles, states, restarts
pr.diagnose(model, data, posterior=draws)      also the labels of the states in draws of a Markov chain
pr.diagnose(model, data, fit=em.fit(...))      the restarts of that fit, instead of new ones
"""

from collections.abc import Iterator
from typing import Any

import torch

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.inference.em import EmFit
from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pmmh import ParticlePosterior
from pgm_rnn.report.diagnostics.coverage import coverage, with_intervals
from pgm_rnn.report.diagnostics.diagnosis import Diagnosis
from pgm_rnn.report.diagnostics.guides import guide, has_guide
from pgm_rnn.report.diagnostics.one_step import OneStep, one_step
from pgm_rnn.report.diagnostics.particles import particles
from pgm_rnn.report.diagnostics.residuals import pit_values, residuals
from pgm_rnn.report.diagnostics.restarts import of_fit, refitted
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.diagnostics.simulations import simulations
from pgm_rnn.report.diagnostics.state_use import state_use
from pgm_rnn.report.diagnostics.switching import switching
from pgm_rnn.report.diagnostics.wording import Variables
from pgm_rnn.report.material import in_dtype_of
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import as_batch, checked
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Data
from pgm_rnn.states import FiniteStates


@by_keyword
@torch.no_grad()
def diagnose(
    model: SequenceModel,
    data: Data,
    *,
    num_particles: int = 1000,
    num_simulations: int = 100,
    num_steps: int = 5,
    num_origins: int = 200,
    num_restarts: int = 4,
    num_iterations: int = 100,
    num_lags: int = 10,
    fit: EmFit | None = None,
    posterior: Posterior | ParticlePosterior | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Check a fitted model against data, and say in words what is wrong and what to do.

    Args:
        model: any model of sequences.
        data: the data that it was fitted to, or new ones: a batch, or observations as any `Data`.
        num_particles: particles of the filter, and draws of the guide, for a model without exact laws.
        num_simulations: data sets to simulate for posterior predictive checks; 0 leaves them out.
        num_steps: the longest horizon of forecasts, in steps.
        num_origins: largest number of forecasts for the coverage; 0 leaves it out.
        num_restarts: random starts of EM to compare with the model, for finitely many states; 0 leaves them out.
        num_iterations: largest number of iterations of EM from each start.
        num_lags: largest distance for correlations of one-step errors, in steps.
        fit: the result of `em.fit`, whose starts are compared instead of new ones.
        posterior: the result of `mcmc.run` or `pmmh.run` on the model's parameters, for the labels of its states.
        seed: makes all draws reproducible.

    Returns:
        Its text is the diagnosis, `findings` the faults as sentences, `to_frame()` its tables and `steps()` the
        residuals and PIT values of each step.

    Raises:
        TypeError: no model of sequences, or data of another kind.
        ValueError: observations that do not fit the model, have probability zero under it, or counts out of range.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> found = diagnose(hmm, hmm.sample(num_sequences=4, num_steps=20, seed=0), num_restarts=0)
        >>> found, found.pit.shape
        (Diagnosis(residuals, simulations, coverage, states; 0 findings), torch.Size([4, 20, 1]))
    """
    if not isinstance(model, SequenceModel):
        raise TypeError(f"expected a SequenceModel to diagnose, got {type(model).__name__}")
    check_sizes(
        num_particles=num_particles,
        num_simulations=num_simulations,
        num_steps=num_steps,
        num_origins=num_origins,
        num_restarts=num_restarts,
        num_iterations=num_iterations,
        num_lags=num_lags,
    )
    batch = checked(model, in_dtype_of(model, as_batch(model, data)))
    variables = Variables.of(model.family, batch.legend)
    left_out, sections = list[str](), list[Section]()
    found, pit = None, None
    try:
        found = one_step(model, batch, num_particles, seed)
    except TypeError as error:
        left_out.append(f"One-step residuals are left out: {error}.")
    if found is not None:
        pit = pit_values(found, seed)
        sections.append(residuals(found, pit, variables, num_lags))
    if num_simulations and model.first == "model":
        sections.append(simulations(model, batch, variables, num_simulations, seed))
    elif num_simulations:
        left_out.append("Simulations are left out: the model conditions on x_1, so it cannot be drawn from.")
    if num_origins and not with_intervals(variables):
        left_out.append("Coverage is left out: an interval of a bit says nothing.")
    elif num_origins:
        options: dict[str, Any] = {"num_samples": 1000, "num_particles": num_particles, "seed": seed}
        ahead = coverage(model, batch, variables, num_steps, num_origins, options)
        sections += [] if ahead is None else [ahead]
        if ahead is None:
            left_out.append(f"Coverage is left out: the sequences are too short for forecasts of {num_steps} steps.")
    sections += _of_engine(model, batch, found, num_particles, seed)
    if fit is not None:
        sections.append(of_fit(fit, batch.num_steps))
    elif num_restarts and _has_several_states(model):
        sections.append(refitted(model, batch, num_restarts, num_iterations, seed))
    if posterior is not None and isinstance(model.states, FiniteStates):
        labels = switching(posterior, model.states.num_states)
        sections += [] if labels is None else [labels]
    return Diagnosis(repr(model), tuple(sections), tuple(left_out), batch, variables.names, found, pit)


MAY_BE_ZERO = ("num_simulations", "num_origins", "num_restarts")
"""Counts that leave a section out if they are zero."""


def check_sizes(**counts: int) -> None:
    """Raise unless each count is an integer of at least 1, or 0 where that leaves a section out.

    Raises:
        ValueError: another number.
    """
    check_counts(**{name: count for name, count in counts.items() if count != 0 or name not in MAY_BE_ZERO})


def _has_several_states(model: Any) -> bool:
    """Whether there are finitely many states to tell apart, and exact laws of them."""
    return has_tables(model) and model.states.num_states > 1


def _of_engine(
    model: SequenceModel, data: Any, found: OneStep | None, num_particles: int, seed: int
) -> Iterator[Section]:
    """The sections on particles, guide and finite states."""
    if found is not None and found.filtering is not None:
        yield particles(model, data, found.filtering)
    if has_guide(model):
        yield guide(model, data, num_particles, seed)
    if _has_several_states(model):
        yield state_use(model, data)
