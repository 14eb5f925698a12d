"""The function `diagnose`: the checks that apply to a model, one after the other.

pr.diagnose(model, data)                       one-step residuals, simulations, forecasts, particles, states, restarts
pr.diagnose(model, data, posterior=draws)      also the labels of the states in draws of a Markov chain
pr.diagnose(model, data, fit=em.fit(...))      the restarts of that fit, instead of new ones
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.distributions.diffuse_normal import DiffuseError
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
from pgm_rnn.report.fitted import counted
from pgm_rnn.report.material import in_dtype_of
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import as_batch, checked
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Data, Sequences
from pgm_rnn.states import FiniteStates


@by_keyword
@torch.no_grad()
def diagnose(
    model: SequenceModel,
    data: Data,
    *,
    num_particles: int = 500,
    num_simulations: int = 100,
    num_steps: int = 5,
    num_origins: int = 200,
    num_restarts: int = 4,
    num_iterations: int = 100,
    num_lags: int = 10,
    fit: EmFit | None = None,
    posterior: Posterior | ParticlePosterior | None = None,
    seed: int = 0,
    progress: bool = True,
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
        progress: whether to show a progress bar on a terminal.

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
    checks = _Checks(model, batch, Variables.of(model.family, batch.legend), seed)
    given = {
        "residuals": lambda: checks.residuals(num_particles, num_lags),
        "simulations": lambda: checks.simulations(num_simulations),
        "coverage": lambda: checks.coverage(num_steps, num_origins, num_particles),
        "particles": lambda: checks.particles(num_particles),
        "states": lambda: checks.states(fit, num_restarts, num_iterations, posterior),
    }
    sections = list[Section]()
    for name in (bar := tqdm(given, unit="check", disable=None if progress else True, leave=False)):
        bar.set_postfix_str(name)
        sections += given[name]()
    names, left_out = checks.variables.names, tuple(checks.left_out)
    return Diagnosis(repr(model), tuple(sections), left_out, batch, names, checks.found, checks.pit)


class _Checks:
    """The checks of one model on checked data, each of which gives the sections that apply.

    Attributes:
        variables: names and kinds of the entries.
        left_out: a sentence on each check that could not be made.
        found: the one-step laws, None where they have no distribution function.
        pit: their PIT values.
    """

    def __init__(self, model: SequenceModel, data: Sequences, variables: Variables, seed: int) -> None:
        self._model, self._data, self._seed, self.variables = model, data, seed, variables
        self.left_out = list[str]()
        self.found: OneStep | None = None
        self.pit: Tensor | None = None

    def residuals(self, num_particles: int, num_lags: int) -> Iterator[Section]:
        try:
            self.found = one_step(self._model, self._data, num_particles, self._seed)
        except TypeError as error:
            self.left_out.append(f"One-step residuals are left out: {error}.")
            return
        self.pit = pit_values(self.found, self._seed)
        yield residuals(self.found, self.pit, self.variables, num_lags)

    def simulations(self, num_simulations: int) -> Iterator[Section]:
        if num_simulations and self._model.first == "condition":
            self.left_out.append("Simulations are left out: the model conditions on x_1, so it cannot be drawn from.")
        elif num_simulations:
            try:
                yield simulations(self._model, self._data, self.variables, num_simulations, self._seed)
            except DiffuseError:
                self.left_out.append("Simulations are left out: a diffuse start has no law to draw from.")

    def coverage(self, num_steps: int, num_origins: int, num_particles: int) -> Iterator[Section]:
        if num_origins and not with_intervals(self.variables):
            self.left_out.append("Coverage is left out: an interval of a bit says nothing.")
        elif num_origins:
            options = {"num_samples": NUM_SAMPLES, "num_particles": num_particles, "seed": self._seed}
            section = coverage(self._model, self._data, self.variables, num_steps, num_origins, options)
            if section is not None:
                yield section
                return
            self.left_out.append(
                f"Coverage is left out: the sequences are too short for forecasts of {counted(num_steps, 'step')}."
            )

    def particles(self, num_particles: int) -> Iterator[Section]:
        if self.found is not None and self.found.filtering is not None:
            yield particles(self._data, self.found.filtering)
        if has_guide(self._model):
            yield guide(self._model, self._data, num_particles, self._seed)

    def states(
        self,
        fit: EmFit | None,
        num_restarts: int,
        num_iterations: int,
        posterior: Posterior | ParticlePosterior | None,
    ) -> Iterator[Section]:
        several = has_tables(self._model) and self._model.states.num_states > 1  # type: ignore[union-attr]
        if several:
            yield state_use(self._model, self._data)
        if fit is not None:
            yield of_fit(fit, self._data.num_steps)
        elif several and num_restarts:
            yield refitted(self._model, self._data, num_restarts, num_iterations, self._seed)
        if posterior is not None and isinstance(self._model.states, FiniteStates):
            section = switching(posterior, self._model.states.num_states)
            yield from [] if section is None else [section]


NUM_SAMPLES = 1000
"""Draws per forecast, for models without exact laws ahead."""
MAY_BE_ZERO = ("num_simulations", "num_origins", "num_restarts")
"""Counts that leave a section out if they are zero."""


def check_sizes(**counts: int) -> None:
    """Raise unless each count is an integer of at least 1, or 0 where that leaves a section out.

    Raises:
        ValueError: another number.
    """
    check_counts(**{name: count for name, count in counts.items() if count != 0 or name not in MAY_BE_ZERO})
