"""`pgm-rnn fit` by EM: a model is fitted under a progress bar, then scored, shown and saved by `fitted`."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from pgm_rnn.checks import check_counts
from pgm_rnn.data import list_datasets
from pgm_rnn.emissions import Gaussian, Pen
from pgm_rnn.inference import em
from pgm_rnn.inference.random_starts import Start, random_starts
from pgm_rnn.models import HMM
from pgm_rnn.models.linear_start import linear_start
from pgm_rnn.report.fitted import Job, Outcome, announce, check_job, counted, finish, material_of
from pgm_rnn.report.keeping import halved
from pgm_rnn.report.material import FileOptions, Material

HMM_FILE = FileOptions(emission="gaussian", valid_fraction=0.1, test_fraction=0.2)
LGSSM_FILE = FileOptions(valid_fraction=0.0, test_fraction=0.2)
"""How a file is taken unless the job says otherwise; only several starts need validation data."""


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
    """Fit an HMM by EM from random starts near the data, in float32 to a data set and in float64 to a file.

    Where `num_restarts` is None there are up to 16, as many as keep a number a start, step and state below 2e8 numbers.

    Raises:
        ValueError: arguments out of range, a source that is not there or cannot be read.
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
    announce(job, material, f"{title}, EM from {counted(num_restarts, 'start')}", _hint(job, material))
    start = _hmm_start(material, num_states, num_restarts, job.seed)
    found = em.fit(start, material.train, valid=material.valid, seed=job.seed, **options)  # type: ignore[arg-type]
    judge = "training" if material.valid is None else "validation"
    best = f"start {found.restarts.chosen + 1} of {num_restarts} is the best on the {judge} data"
    half, why = halved(start) if half else (False, "")
    remarks = [remark for remark in (best if num_restarts > 1 else "", why) if remark]
    outcome = _em_outcome(found, options, "\n".join(remarks))._replace(half=half)
    finish(job, folder, material, outcome)
    return outcome


def fit_lgssm(job: Job, *, latent_dim: int, num_iterations: int, tolerance: float) -> Outcome:
    """Fit a linear-Gaussian state-space model by EM from `linear_start`, in float64.

    As many sequences as states or fewer say nothing of the spread of z_1, and the likelihood has no bound as its
    covariance shrinks: then the law of z_1 stays that of the start, where it is the law of the states over all steps.

    Raises:
        ValueError: arguments out of range, a source that is not there, cannot be read or has no real vectors.
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
    try:
        found = em.fit(
            start,
            train,
            num_iterations=num_iterations,
            tolerance=tolerance,
            frozen=("initial_mean", "initial_cov") if keeps_initial else (),
        )
    except ValueError as error:  # a covariance that is no longer positive definite
        raise ValueError(
            "expected variables with some noise, got one that the states come to predict exactly, such as a constant "
            "or the number of a row; leave it out with --column, or take fewer states"
        ) from error
    remark = "the law of the first state is not fitted: it stays that of the start" if keeps_initial else ""
    outcome = _em_outcome(found, {"num_iterations": num_iterations, "tolerance": tolerance}, remark)
    finish(job, folder, material, outcome)
    return outcome


def _one_component(material: Material) -> Material:
    """The same observations; of the pen, with one normal law a state, for which EM has closed forms."""
    return replace(material, family=Pen(1)) if isinstance(material.family, Pen) else material


def _hint(job: Job, material: Material) -> str:
    x = material.train.x
    whole = x.is_floating_point() and bool(((x >= 0) & (x == x.floor())).all())
    if job.source in list_datasets() or job.file.emission is not None or not whole:
        return ""
    return "whole numbers, taken for real ones; for counts or symbols: --emission poisson, --emission categorical"


def _hmm_start(material: Material, num_states: int, num_restarts: int, seed: int) -> HMM:
    """One random start near the data; `em.fit` draws the `num_restarts` - 1 that come before it."""
    dtype = material.train.x.dtype if material.train.x.is_floating_point() else torch.get_default_dtype()
    shape = HMM.random(num_states, emission=material.family, seed=seed).to(dtype)
    x, _ = shape.check(*material.train[:2])
    like = Start(shape.initial_probs.detach(), shape.transition_probs.detach(), shape.emission_table)
    return HMM(*random_starts(like, x[material.train.mask], num_restarts, seed)[-1])


def _em_outcome(found: em.EmFit, options: Mapping[str, object], remark: str) -> Outcome:
    rounds = max(0, len(found.log_likelihoods) - 1)
    return Outcome(found.model, found.stopped_by, rounds, "iteration", found.seconds, remark, options)


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"expected {name} to be at least 0, got {value}")
