"""`pgm-rnn fit` by EM: a model is fitted under a progress bar, then scored, shown and saved by `fitted`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from pgm_rnn.checks import check_counts
from pgm_rnn.emissions import Gaussian, Pen
from pgm_rnn.inference import em, kalman
from pgm_rnn.models import HMM, LinearGaussianSSM
from pgm_rnn.models.linear_start import linear_start
from pgm_rnn.report.driving import check_driven
from pgm_rnn.report.fitted import Job, Outcome, announce, check_job, counted, finish, material_of
from pgm_rnn.report.hmm_fit import PSEUDO_OBSERVATIONS, fit_by_em
from pgm_rnn.report.keeping import halved
from pgm_rnn.report.material import FileOptions, Material
from pgm_rnn.report.notes import as_notes, noted_em

HMM_FILE = FileOptions(valid_fraction=0.1, test_fraction=0.2)
LGSSM_FILE = FileOptions(valid_fraction=0.0, test_fraction=0.2, kind=("real",))
"""How a file is read and split by default; only a fit from several starts needs validation data."""


class HmmOptions(NamedTuple):
    """How an HMM is fitted; `num_restarts` None stands for up to 16, as many as keep starts x steps x states below 2e8.

    Attributes:
        num_iterations: largest number of iterations.
        num_restarts: number of random starts near the data, in addition to one from k-means++.
        pseudo_count: added to every expected count.
        pseudo_observations: number of observations like the whole data that are added to each state; None for the rule
            of `report.hmm_fit`.
        tolerance: gain in nats per step below which a fit stops.
    """

    num_iterations: int
    num_restarts: int | None
    pseudo_count: float
    pseudo_observations: float | None
    tolerance: float

    def for_states(self, num_states: int, material: Material) -> "HmmOptions":
        """The same with a number of restarts and, but for densities of a file, of pseudo-observations.

        Fits to a data set keep the number with which the entries of the zoo were trained.
        """
        restarts = min(16, max(1, int(2e8) // (material.train.num_steps * num_states)))
        added = None if material.file is not None and material.family.continuous else PSEUDO_OBSERVATIONS
        return self._replace(
            num_restarts=restarts if self.num_restarts is None else self.num_restarts,
            pseudo_observations=added if self.pseudo_observations is None else self.pseudo_observations,
        )

    def check(self) -> None:
        """Raise unless all options are in their ranges.

        Raises:
            ValueError: one is not.
        """
        check_counts(iterations=self.num_iterations)  # by the names of the command's options
        check_counts(restarts=1 if self.num_restarts is None else self.num_restarts)
        added = 0.0 if self.pseudo_observations is None else self.pseudo_observations
        _check_not_negative(pseudo_count=self.pseudo_count, pseudo_observations=added, tolerance=self.tolerance)


def fit_hmm(job: Job, num_states: int, options: HmmOptions, *, half: bool = False) -> Outcome:
    """Fit an HMM by EM, in float32 to a data set and in float64 to a file.

    Raises:
        ValueError: an argument is out of range, or the source is missing or cannot be read.
    """
    check_counts(num_states=num_states)
    options.check()
    folder = check_job(job, "hmm", num_states)
    material = hmm_material(job)
    options = options.for_states(num_states, material)
    announce(job, material, hmm_title(material, counted(num_states, "state"), options))
    outcome = fitted_hmm(job, material, num_states, options, half=half)
    finish(job, folder, material, outcome)
    return outcome


def hmm_material(job: Job) -> Material:
    """The job's data, with observations of a family that has closed forms."""
    material = material_of(job, HMM_FILE)
    check_driven("hmm", None, material.train)
    return _one_component(material)


def hmm_title(material: Material, states: str, options: HmmOptions) -> str:
    """What is about to be fitted, in a line."""
    random = "random starts" if options.num_restarts is None else counted(options.num_restarts, "random start")
    return f"HMM, {states}, {type(material.family).__name__} emission, EM from {random} and one from k-means"


def fitted_hmm(job: Job, material: Material, num_states: int, options: HmmOptions, *, half: bool) -> Outcome:
    """The best fit from all starts."""
    given: dict[str, Any] = options._asdict()
    num_restarts = given["num_restarts"]
    model = HMM.random(num_states, emission=material.family, seed=job.seed).to(_dtype(material))
    more = given | {"num_restarts": num_restarts + 1}
    found, said, kept = fit_by_em(model, material.train, valid=material.valid, seed=job.seed, **more)
    judge, chosen = "training" if material.valid is None else "validation", found.restarts.chosen
    best = f"random start {chosen} of {num_restarts}" if chosen else "the start from k-means"
    half, why = halved(model) if half else (False, "")
    notes = as_notes([*said, *([kept] if kept else [])])
    remark = "\n".join([f"{best} is the best on the {judge} data", *notes, *([why] if why else [])])
    return _em_outcome(found, given, remark)._replace(half=half)


def fit_lgssm(job: Job, *, latent_dim: int, num_iterations: int, tolerance: float) -> Outcome:
    """Fit a linear-Gaussian state-space model by EM from `linear_start`, in float64.

    If there are no more sequences than dimensions of the state, they do not determine the covariance of z_1, and the
    likelihood is unbounded as it shrinks. Then p(z_1) is not fitted: it stays at its start, which is the distribution
    of the states over all steps.

    Raises:
        ValueError: an argument is out of range, or the source is missing, cannot be read or has no real vectors.
    """
    check_counts(latent_dim=latent_dim, num_iterations=num_iterations)
    _check_not_negative(tolerance=tolerance)
    folder = check_job(job, "lgssm", latent_dim)
    material = material_of(job, LGSSM_FILE)
    if not isinstance(material.family, Gaussian) or material.family.size is None:
        raise ValueError(
            f"expected vectors of real numbers for lgssm, got {job.source}, whose observations are "
            f"{material.family.support}; use pgm-rnn fit hmm or rnn"
        )
    train = material.train._replace(x=material.train.x.double())
    start = linear_start(*train[:2], latent_dim=latent_dim)
    start = start if train.inputs is None else _driven(start, train.inputs.shape[-1])
    announce(job, material, f"linear-Gaussian state-space model, {counted(latent_dim, 'state')}, EM")
    keeps_initial = len(train.lengths) <= latent_dim
    options = {"num_iterations": num_iterations, "tolerance": tolerance}
    frozen = ("initial_mean", "initial_cov") if keeps_initial else ()
    try:
        found, said = noted_em(start, train, frozen=frozen, **options)
    except kalman.CovarianceError as error:
        raise ValueError(
            "expected variables with some noise, got one that the states predict exactly, such as a constant or a row "
            f"number; leave it out with --column, or use a smaller --latent-dim ({error})"
        ) from error
    kept = ["the distribution of the first state is not fitted: it stays at its start"] if keeps_initial else []
    outcome = _em_outcome(found, options, "\n".join([*kept, *as_notes(said)]))
    finish(job, folder, material, outcome, {"frozen": list(frozen)})
    return outcome


def _driven(model: LinearGaussianSSM, input_dim: int) -> LinearGaussianSSM:
    """The same model with inputs, which have no effect yet."""
    of_states, of_outputs = (torch.zeros(size, input_dim).double() for size in (model.latent_dim, model.obs_dim))
    moments: dict[str, Any] = model.moments()
    return LinearGaussianSSM(**moments, input_matrix=of_states, feedthrough_matrix=of_outputs)


def _one_component(material: Material) -> Material:
    """The same observations; for the pen, with one normal component per state, for which EM has closed forms."""
    return replace(material, family=Pen(1)) if isinstance(material.family, Pen) else material


def _dtype(material: Material) -> torch.dtype:
    x = material.train.x
    return x.dtype if x.is_floating_point() else torch.get_default_dtype()


def _em_outcome(found: em.EmFit, options: Mapping[str, object], remark: str) -> Outcome:
    rounds = max(0, len(found.log_likelihoods) - 1)
    return Outcome(found.model, found.stopped_by, rounds, "iteration", found.seconds, remark, options)


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"expected {name} to be at least 0, got {value}")
