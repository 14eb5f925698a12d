"""`pgm-rnn fit` by EM: a model is fitted under a progress bar, then scored, shown and saved by `fitted`."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from pgm_rnn.checks import check_counts
from pgm_rnn.emissions import Gaussian, Pen
from pgm_rnn.inference import em, kalman
from pgm_rnn.models import HMM
from pgm_rnn.models.linear_start import linear_start
from pgm_rnn.report.fitted import Job, Outcome, announce, check_job, counted, finish, material_of
from pgm_rnn.report.keeping import halved
from pgm_rnn.report.material import FileOptions, Material

HMM_FILE = FileOptions(valid_fraction=0.1, test_fraction=0.2)
LGSSM_FILE = FileOptions(valid_fraction=0.0, test_fraction=0.2)
"""How a file is read and split by default; only a fit from several starts needs validation data."""


def fit_hmm(
    job: Job,
    *,
    num_states: int,
    num_iterations: int,
    num_restarts: int | None,
    pseudo_count: float,
    pseudo_observations: float,
    tolerance: float,
    half: bool = False,
) -> Outcome:
    """Fit an HMM by EM, in float32 to a data set and in float64 to a file.

    There are `num_restarts` random starts near the data, and one start from k-means++. If `num_restarts` is None there
    are up to 16 random starts, as many as keep starts x steps x states below 2e8.

    Raises:
        ValueError: an argument is out of range, or the source is missing or cannot be read.
    """
    check_counts(num_states=num_states, num_iterations=num_iterations)
    check_counts(num_restarts=1 if num_restarts is None else num_restarts)
    _check_not_negative(pseudo_count=pseudo_count, pseudo_observations=pseudo_observations, tolerance=tolerance)
    folder = check_job(job, "hmm", num_states)
    material = _one_component(material_of(job, HMM_FILE))
    if num_restarts is None:
        num_restarts = min(16, max(1, int(2e8) // (material.train.num_steps * num_states)))
    options = {"num_iterations": num_iterations, "num_restarts": num_restarts, "tolerance": tolerance}
    options |= {"pseudo_count": pseudo_count, "pseudo_observations": pseudo_observations}
    title = f"HMM, {counted(num_states, 'state')}, {type(material.family).__name__} emission"
    starts = f"EM from {counted(num_restarts, 'random start')} and one from k-means"
    announce(job, material, f"{title}, {starts}", _hint(job, material))
    model = HMM.random(num_states, emission=material.family, seed=job.seed).to(_dtype(material))
    more: dict[str, Any] = options | {"num_restarts": num_restarts + 1}
    found, notes = _noted(em.fit, model, material.train, valid=material.valid, seed=job.seed, start="data", **more)
    judge, chosen = "training" if material.valid is None else "validation", found.restarts.chosen
    best = f"random start {chosen} of {num_restarts}" if chosen else "the start from k-means"
    half, why = halved(model) if half else (False, "")
    remark = "\n".join([f"{best} is the best on the {judge} data", *notes, *([why] if why else [])])
    outcome = _em_outcome(found, options, remark)._replace(half=half)
    finish(job, folder, material, outcome)
    return outcome


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
    announce(job, material, f"linear-Gaussian state-space model, {counted(latent_dim, 'state')}, EM")
    keeps_initial = len(train.lengths) <= latent_dim
    options = {"num_iterations": num_iterations, "tolerance": tolerance}
    frozen = ("initial_mean", "initial_cov") if keeps_initial else ()
    try:
        found, notes = _noted(em.fit, start, train, frozen=frozen, **options)
    except kalman.CovarianceError as error:
        raise ValueError(
            "expected variables with some noise, got one that the states predict exactly, such as a constant or a row "
            f"number; leave it out with --column, or use a smaller --latent-dim ({error})"
        ) from error
    kept = ["the distribution of the first state is not fitted: it stays at its start"] if keeps_initial else []
    outcome = _em_outcome(found, options, "\n".join([*kept, *notes]))
    finish(job, folder, material, outcome)
    return outcome


def _one_component(material: Material) -> Material:
    """The same observations; for the pen, with one normal component per state, for which EM has closed forms."""
    return replace(material, family=Pen(1)) if isinstance(material.family, Pen) else material


def _hint(job: Job, material: Material) -> str:
    x = material.train.x
    whole = x.is_floating_point() and bool(((x >= 0) & (x == x.floor())).all())
    if job.source in job.registries.datasets or job.file.emission is not None or not whole:
        return ""
    return "the values are whole numbers, treated as real; for counts use --emission poisson, for symbols categorical"


def _dtype(material: Material) -> torch.dtype:
    x = material.train.x
    return x.dtype if x.is_floating_point() else torch.get_default_dtype()


def _noted(fit: Callable[..., em.EmFit], *arguments: Any, **options: Any) -> tuple[em.EmFit, list[str]]:
    """Run a fit and return its result with the warnings it gave, for the report."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", em.EmWarning)
        found = fit(*arguments, **options)
    for warning in said:
        if not issubclass(warning.category, em.EmWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return found, [f"note: {warning.message}" for warning in said if issubclass(warning.category, em.EmWarning)]


def _em_outcome(found: em.EmFit, options: Mapping[str, object], remark: str) -> Outcome:
    rounds = max(0, len(found.log_likelihoods) - 1)
    return Outcome(found.model, found.stopped_by, rounds, "iteration", found.seconds, remark, options)


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"expected {name} to be at least 0, got {value}")
