"""`compare`: several models side by side on the same data."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from pgm_rnn.checks import by_keyword, check_choice, check_counts
from pgm_rnn.inference.svi.evaluation import BOUNDS
from pgm_rnn.report.comparison.cross_validation import HeldOut, cross_validated, fold_places, origins_of, rolled
from pgm_rnn.report.comparison.entries import Entry, Refit, entries_of
from pgm_rnn.report.comparison.leaving_out import (
    Weighted,
    averaged,
    leave_future_out,
    leave_one_out,
    of_draws,
    sequence_values,
    step_values,
)
from pgm_rnn.report.comparison.ranking import Group, groups_of
from pgm_rnn.report.comparison.remarks import remarks_of
from pgm_rnn.report.comparison.result import AS_IT_IS, Comparison
from pgm_rnn.report.comparison.scores import Bound, Scores, scored
from pgm_rnn.report.comparison.trained import OTHER, check_same_fits, fitted_to
from pgm_rnn.report.fitted import counted
from pgm_rnn.report.one_step_terms import PARTICLES
from pgm_rnn.report.tables import described
from pgm_rnn.sequence_model.criteria import Criteria
from pgm_rnn.sequences import Data


class Wanted(NamedTuple):
    """The held-out scores that are asked for; arguments as for `compare`."""

    folds: int | None = None
    origins: int | None = None
    first_origin: int | None = None
    horizon: int | None = None

    def check(self, num_series: int, *, num_points: int, bayesian: bool) -> None:
        """Check that the data and the models allow them.

        Args:
            num_series: number of sequences.
            num_points: number of models that are no Bayesian fits.
            bayesian: whether there are Bayesian fits.

        Raises:
            ValueError: folds of a single series, origins in several, both, or options without their use.
        """
        given = {name: value for name, value in self._asdict().items() if value is not None}
        check_counts(**given)
        if self.folds is not None and self.origins is not None:
            raise ValueError("expected folds (several sequences) or origins (a single series), got both; leave one out")
        if self.origins is not None and num_series > 1:
            raise ValueError(
                f"expected a single series for rolling origin, got {num_series} sequences; use cross-validation over "
                "sequences, folds=5"
            )
        if not num_points and (self.folds is not None or self.origins is not None):
            raise ValueError(
                "expected folds or origins only for models to fit again, got only Bayesian fits, which PSIS-LOO and "
                "PSIS-LFO score without refitting; leave folds and origins out"
            )
        later = {"first_origin", "horizon"} & set(given)
        if later and self.origins is None and not (bayesian and num_series == 1):
            raise ValueError(
                f"expected {' and '.join(sorted(later))} only with origins, or for a Bayesian fit to a single series, "
                "got no origins; give origins=5"
            )


@by_keyword
def compare(
    models: Mapping[str, Any],
    data: Data,
    *,
    folds: int | None = None,
    origins: int | None = None,
    first_origin: int | None = None,
    horizon: int | None = None,
    fit: Refit | Mapping[str, Refit] | None = None,
    bound: str = "fivo",
    num_particles: int = PARTICLES,
    mask: Tensor | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    """Compare models on the same data: nats per step, paired differences, AIC and BIC, and held-out scores on request.

    Exact likelihoods and bounds stand in separate groups, and so do scores of a posterior. Standard errors are over
    sequences; those of a single series are over blocks of about T^(1/3) steps. Ctrl-C ends the refits early, and the
    folds or origins that were finished are compared.

    Args:
        models: by their names: models, results of em.fit or svi.fit, or Bayesian fits as pairs of a `WithPriors` and
            the result of mcmc.run. Bayesian fits are scored by PSIS-LOO over sequences, or PSIS-LFO for one series.
        data: sequences, as any `Data` that all models take.
        folds: K of cross-validation over sequences: each model is fitted anew K times, to all folds but one.
        origins: number of rolling origins in a single series: each model is fitted anew to the steps before each.
        first_origin: number of steps before the first origin, and before the first term of PSIS-LFO; half by default.
        horizon: h, to score the h steps after each origin jointly; by default all steps up to the next origin are
            scored one step ahead.
        fit: function of a copy of the model and the training sequences that fits it and returns it or the result of the
            fit; for a Bayesian fit, function of its `WithPriors` that returns the result of mcmc.run, called only where
            Pareto k is above 0.7. Or a mapping from names of models to such functions. The default fits as
            `pgm-rnn fit` does: by counts, by EM, or by gradient steps from random parameters.
        bound: "fivo", "elbo", "iwae" or "importance", for models without an exact likelihood; only "fivo" scores the
            steps of a single series.
        num_particles: particles of the filter, or draws of the guide, for each sequence.
        mask: True where x was observed, (batch, T) or the shape of x; None for wherever it is not NaN.
        seed: random seed of folds, fits and particles.
        progress: whether a terminal shows a progress bar.

    Returns:
        `print` shows its tables, `to_frame()` is a DataFrame, `best` the name of the best model.

    Raises:
        TypeError: something that is no model, fit or Bayesian pair.
        ValueError: fewer than two models, likelihoods of different kinds, data that a model does not take, or too few
            sequences or steps for the folds or origins.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> one, two = (HMM.random(num_states=k, num_symbols=3, seed=0) for k in (1, 2))
        >>> compare({"one": one, "two": two}, two.sample(50, 20, seed=1)).best
        'two'
    """
    check_choice("bound", bound, [name for name in BOUNDS if name != "exact"])
    check_counts(num_particles=num_particles)
    entries = entries_of(models, data, mask=mask, fit=fit)
    wanted = Wanted(folds, origins, first_origin, horizon)
    return compared(entries, Bound(bound, num_particles, seed), wanted, progress=progress)


def compared(entries: Sequence[Entry], bound: Bound, wanted: Wanted, *, progress: bool) -> Comparison:
    """The comparison of models with their data.

    Raises:
        ValueError: too few sequences or steps for what is wanted, or models that score other steps than the others.
    """
    points = [entry for entry in entries if entry.posterior is None]
    wanted.check(entries[0].num_series, num_points=len(points), bayesian=len(points) < len(entries))
    held, remark = _held_out(points, bound, wanted, progress=progress)
    draws = {entry.name: _draws_of(entry, progress=progress) for entry in entries if entry.posterior is not None}
    scores = {
        entry.name: averaged(entry, draws[entry.name])
        if entry.name in draws
        else scored(entry.model, entry.data, bound)
        for entry in entries
    }
    groups = (*held, *_left_out(entries, draws, wanted), *groups_of(AS_IT_IS, scores))
    fits = {entry.name: fitted_to(entry, scores[entry.name]) for entry in points if entry.model.exact}
    if not held:
        check_same_fits(fits)
    known = {
        entry.name: _criteria(entry, scores[entry.name]) for entry in points if fits.get(entry.name, OTHER) != OTHER
    }
    remarks = [*remark, *remarks_of(groups, fits, held_out=bool(held), single=entries[0].num_series == 1)]
    return Comparison(groups, known, tuple(remarks), _title(entries[0]), bool(remark))


def _held_out(
    points: Sequence[Entry], bound: Bound, wanted: Wanted, *, progress: bool
) -> tuple[tuple[Group, ...], list[str]]:
    """Groups of scores of models that are fitted anew, if they are asked for, and how far the refits came."""
    found: HeldOut | None = None
    if points and wanted.folds is not None:
        folds = fold_places(points[0].num_series, wanted.folds, bound.seed)
        found = cross_validated(points, folds, bound, bound.seed, progress=progress)
    if points and wanted.origins is not None:
        cuts = origins_of(points[0].data.x.shape[1], wanted.origins, wanted.first_origin, wanted.horizon)
        found = rolled(points, cuts, bound, bound.seed, progress=progress)
    if found is None:
        return (), []
    return groups_of(found.measure, found.scores), [found.remark] if found.remark else []


def _draws_of(entry: Entry, *, progress: bool) -> Weighted:
    """Log likelihoods of every draw: of sequences, or of the steps of a single series."""
    assert entry.posterior is not None  # callers have a Bayesian fit
    values = step_values if entry.num_series == 1 else sequence_values
    return of_draws(entry, entry.posterior, entry.data, values, progress=progress)


def _left_out(entries: Sequence[Entry], draws: Mapping[str, Weighted], wanted: Wanted) -> tuple[Group, ...]:
    """Groups of held-out scores of Bayesian fits."""
    fits = [entry for entry in entries if entry.name in draws]
    if not fits:
        return ()
    if fits[0].num_series > 1:
        scores = {entry.name: leave_one_out(entry, draws[entry.name]) for entry in fits}
        return groups_of("leave one sequence out", scores)
    cuts = origins_of(fits[0].data.x.shape[1], 1, wanted.first_origin, wanted.horizon)
    first, horizon = cuts.starts[0], cuts.horizon
    scores = {entry.name: leave_future_out(entry, draws[entry.name], first, horizon) for entry in fits}
    ahead = "one step" if horizon in (None, 1) else f"{horizon} steps"
    return groups_of(f"leave the future out, {ahead} ahead from step {first}", scores)


def _criteria(entry: Entry, scores: Scores) -> Criteria:
    return Criteria.of(entry.model, float(scores.nats.sum()), int(scores.steps.sum()))


def _title(entry: Entry) -> str:
    """The data, and how to read the numbers."""
    num, total = entry.num_series, entry.data.num_steps
    plain = counted(total, "step") if num == 1 else f"{num:,} sequences, {total:,} steps"
    holds = plain if entry.data.legend is None else described(entry.data)
    return f"{holds}; nats per step, the smaller the better; ± standard error"
