"""Evaluation of a model: nats per step on held-out sequences, exact, bounded or estimated.

With L_i the log likelihood of sequence i, or the bound or estimate in its place, and T_i its number of steps of which
at least one entry was observed (so that sequences with gaps are comparable to whole ones):

    sum          -sum_i L_i / sum_i T_i                            every step counts the same
    sequence     -(1/B) sum_i L_i / T_i                            every sequence counts the same
    skip-first   -sum_i (L_i - L_i^1) / sum_i (T_i - 1)            the terms of t = 2..T given the first observation

L_i^1 is the same bound on log p(x_1) with the same draws: log p(x_1) itself (exact), the first normaliser of the
filter (FIVO), the mean of log w_1^k (ELBO) or the logarithm of the mean of w_1^k (IWAE, importance), where
w_1 = p(x_1, z_1) / q(z_1 | x). So skip-first drops the term of t = 1, and tends to log p(x_{2:T} | x_1) as the number
of particles grows. Except for "exact" it is a difference of two bounds, and itself no bound. A model with
first="condition" is always given x_1: then skip-first equals "sum", and each sequence counts T_i - 1 steps.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_choice, check_counts
from pgm_rnn.inference import mixture_kalman, smc
from pgm_rnn.inference.diagnosis import check_scores
from pgm_rnn.inference.mixture_kalman.problem import sums_out_vectors
from pgm_rnn.inference.suitable import no_model
from pgm_rnn.inference.svi import bounds
from pgm_rnn.randomness import seeded
from pgm_rnn.results import shown
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import as_batch, checked, marked
from pgm_rnn.sequences import Data, Sequences, some_observed

BOUNDS = ("exact", "elbo", "iwae", "fivo", "importance")
NORMALISATIONS = ("sum", "sequence", "skip-first")
MAX_STATES = 2**18
"""Largest particles x sequences x steps (FIVO: particles x sequences) in memory at a time."""
FIVO_RUNS = 2
"""Number of independent filters whose bounds are averaged; their spread gives the Monte Carlo error."""


class Evaluation(NamedTuple):
    """Result of `evaluate`.

    Attributes:
        nats_per_step: negative log likelihood in nats per step, by the chosen normalisation.
        standard_error: standard error of nats_per_step over the sequences as a sample, by the delta method for a ratio;
            NaN for a single sequence.
        bound: how the log likelihood was computed: "exact"; "ELBO", "IWAE_64", "FIVO_128" and the like (lower bounds
            on it, so that nats_per_step is at least the exact one in expectation); or "importance_500" (an estimate).
        log_likelihoods: one value per sequence, in nats, (batch,).
        num_steps: number of observations counted, one fewer per sequence where x_1 is given or skipped.
        normalisation: "sum", "sequence" or "skip-first".
        monte_carlo_error: standard error of nats_per_step over the draws alone; 0 without any, NaN for one particle.
        effective_particles: for "iwae" and "importance", the effective sample size of the K draws, as the median over
            the sequences. Far below 10, nats_per_step is biased upwards by more than its error. NaN otherwise.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "nats_per_step", "standard_error", "bound", "num_steps")

    nats_per_step: float
    standard_error: float
    bound: str
    log_likelihoods: Tensor
    num_steps: int
    normalisation: str = "sum"
    monte_carlo_error: float = 0.0
    effective_particles: float = math.nan


@by_keyword
@torch.no_grad()
def evaluate(
    model: SequenceModel,
    x: Data,
    lengths: Tensor | None = None,
    *,
    bound: str | None = None,
    num_particles: int = 500,
    normalisation: str = "sum",
    batch_size: int = 256,
    seed: int = 0,
    mask: Tensor | None = None,
) -> Evaluation:
    """Negative log likelihood in nats per step, exact, bounded from above or estimated.

    "importance" is the same number as IWAE_K, read as an estimate of log p(x) with an error instead of as a bound. Its
    error comes from the delta method, sqrt(Var w / K) / mean w for each sequence, and is far too small if few weights
    dominate: see `effective_particles`.
    For a model that is `exact`, every bound except "fivo" is exact. Random numbers depend on the seed, the number of
    particles and the batch size.

    Args:
        model: any model.
        x: a padded batch, observations (batch, T, *event), or one sequence (T, *event), as any `Data`.
        lengths: (batch,) if x is a tensor with padding.
        bound: "exact", "elbo", "iwae", "fivo" or "importance"; None for "exact" where the model is, "elbo" otherwise.
        num_particles: K, for every bound except "exact".
        normalisation: "sum", "sequence" or "skip-first"; see `pgm_rnn.inference.svi.evaluation`.
        batch_size: sequences scored at a time; fewer sequences or particles are taken if memory would be short.
        seed: random seed for the draws.
        mask: True where x was observed, (batch, T) or the shape of x; None for wherever it is not NaN. What is missing
            is integrated out, and steps without any observed entry do not count.

    Raises:
        ValueError, TypeError: data that do not fit, or a bound that the model does not have.
        FloatingPointError: a log likelihood is NaN, or infinite where no observation can have probability zero.
    """
    if not isinstance(model, SequenceModel):
        raise no_model(model)
    bound = ("exact" if model.exact else "elbo") if bound is None else bound
    check_choice("bound", bound, BOUNDS)
    check_choice("normalisation", normalisation, NORMALISATIONS)
    check_counts(batch_size=batch_size, num_particles=num_particles)
    data = marked(model, as_batch(model, x, lengths, mask=mask))
    skips = normalisation == "skip-first" and model.first == "model"
    num_steps = num_modelled(model, data, skips)
    with seeded(seed, stream=12):
        parts = [
            _TERMS[bound](model, data.select(index), num_particles, skips)
            for index in torch.arange(len(data.lengths), device=data.x.device).split(batch_size)
        ]
    values, variances, effective = (torch.cat(columns) for columns in zip(*parts, strict=True))
    check_scores(model, model.family, data, values, f"log likelihood ({_LABELS[bound]})")
    steps = modelled_steps(model, data, skips)
    nats = -values.double()
    if normalisation == "sequence":
        kept = steps > 0
        nats, variances = nats[kept] / steps[kept], variances[kept] / steps[kept] ** 2
        steps = torch.ones_like(nats)
    total = float(steps.sum())
    error = math.sqrt(float(variances.double().sum())) / total
    label = _LABELS[bound] + ("" if bound in ("exact", "elbo") else f"_{num_particles}")
    mean, spread, median = float(nats.sum()) / total, ratio_error(nats, steps), float(effective.median())
    return Evaluation(mean, spread, label, values, num_steps, normalisation, error, median)


_LABELS = {"exact": "exact", "elbo": "ELBO", "iwae": "IWAE", "fivo": "FIVO", "importance": "importance"}


class Terms(NamedTuple):
    """Results for each sequence, (B,).

    Attributes:
        values: log likelihoods, without the terms of t = 1 if these are skipped.
        variances: variances of the values over the draws.
        effective: effective sample sizes, or NaN.
    """

    values: Tensor
    variances: Tensor
    effective: Tensor


Finder = Callable[[SequenceModel, Sequences, int, bool], Terms]
"""Computes the `Terms` of a batch, given a number of particles and whether the terms of t = 1 are skipped."""


def _exact(model: SequenceModel, data: Sequences, num_particles: int, skips: bool) -> Terms:
    values = model.log_marginal_likelihood(data, first="condition" if skips else None)
    return Terms(values, torch.zeros_like(values), torch.full_like(values, math.nan))


def _weighted(mean: Callable[[Tensor], Tensor], variance: Callable[[Tensor, Tensor], Tensor]) -> Finder:
    """Terms from importance weights, in chunks of particles; the argument reduces log weights (K, B) to values (B,)."""

    def terms(model: SequenceModel, data: Sequences, num_particles: int, skips: bool) -> Terms:
        if model.exact:
            return _exact(model, data, num_particles, skips)
        size = max(1, MAX_STATES // data.x.shape[:2].numel())
        run = bounds.log_weights_after_first if skips else _without_first
        parts = [
            run(model, data, num_particles=min(size, num_particles - done)) for done in range(0, num_particles, size)
        ]
        log_w, first = (torch.cat(columns) for columns in zip(*parts, strict=True))
        counts = mean is bounds.iwae and num_particles > 1
        effective = bounds.effective_particles(log_w) if counts else torch.full_like(log_w[0], math.nan)
        return Terms(mean(log_w) - mean(first), variance(log_w, first), effective)

    return terms


def _without_first(model: SequenceModel, data: Sequences, *, num_particles: int) -> tuple[Tensor, Tensor]:
    log_w = bounds.log_weights(model, data, num_particles=num_particles)
    return log_w, torch.zeros_like(log_w)


def _variance_of_mean(log_w: Tensor, first: Tensor) -> Tensor:
    return (log_w - first).var(0) / len(log_w) if len(log_w) > 1 else torch.full_like(log_w[0], math.nan)


def _fivo(model: SequenceModel, data: Sequences, num_particles: int, skips: bool) -> Terms:
    """Means over `FIVO_RUNS` independent filters, computed for a few sequences at a time."""
    size = max(1, MAX_STATES // num_particles)
    filtering: Any = mixture_kalman if sums_out_vectors(model, checked(model, data)) else smc
    runs = []
    for _ in range(FIVO_RUNS):
        parts = [
            filtering.filter(model, data.select(index), num_particles=num_particles, degenerate="-inf")
            for index in torch.arange(len(data.lengths), device=data.x.device).split(size)
        ]
        first = [part.log_normalizers[:, 0] if skips else 0.0 for part in parts]
        runs.append(torch.cat([part.log_marginal_likelihood - start for part, start in zip(parts, first, strict=True)]))
    values = torch.stack(runs)
    return Terms(values.mean(0), values.var(0) / FIVO_RUNS, torch.full_like(values[0], math.nan))


_TERMS: dict[str, Finder] = {
    "exact": _exact,
    "elbo": _weighted(bounds.elbo, _variance_of_mean),
    "iwae": _weighted(bounds.iwae, bounds.variance_of_iwae),
    "importance": _weighted(bounds.iwae, bounds.variance_of_iwae),
    "fivo": _fivo,
}


def ratio_error(nats: Tensor, steps: Tensor) -> float:
    """Standard error of sum(nats) / sum(steps) over independent pairs (n,), by the delta method; NaN for one pair."""
    nats, steps = nats.double(), steps.double()
    num = len(nats)
    if num < 2:
        return math.nan
    residuals = nats - steps * nats.sum() / steps.sum()
    return float((residuals.square().sum() * num / (num - 1)).sqrt() / steps.sum())


def modelled_steps(model: SequenceModel, data: Sequences, skips_first: bool = False) -> Tensor:
    """Number of observations that are scored in each sequence, (batch,); those that are missing are not."""
    given = max(model.num_given, int(skips_first))
    if data.observed is None:
        return (data.lengths - given).clamp(min=0)
    return some_observed(data.observed)[:, given:].sum(1)


def num_modelled(model: SequenceModel, data: Sequences, skips_first: bool = False) -> int:
    """Number of observations that are scored in all sequences; those that are missing do not count.

    Raises:
        ValueError: there are none.
    """
    num_steps = int(modelled_steps(model, data, skips_first).sum())
    if num_steps == 0:
        given = "which are skipped" if skips_first else "which the model is given"
        got = f"only first ones, {given}" if data.observed is None else "none that is not missing, skipped or given"
        raise ValueError(f"expected at least one observation to score, got {got}")
    return num_steps
