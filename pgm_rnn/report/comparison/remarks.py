"""What must be said beside the numbers of a comparison: one sentence for each thing that is not obvious."""

from collections.abc import Iterator, Mapping, Sequence

from pgm_rnn.report.comparison.leaving_out import AVERAGED
from pgm_rnn.report.comparison.ranking import GOOD_K, Group
from pgm_rnn.report.comparison.trained import KNOWN, OTHER, UNKNOWN

WHY_BOUNDS = (
    "exact likelihoods and bounds are not ranked together: a bound lies above the exact nats by an unknown gap, so its "
    "model may be better than it looks"
)
WHY_GAPS = "two bounds differ by their gaps, too: more particles (num_particles=...) make both gaps smaller"
WHY_DRAWS = (
    "scores of one value of the parameters and of a posterior stand apart: the one leaves out folds or nothing, the "
    "other single sequences or steps"
)


def remarks_of(groups: Sequence[Group], fits: Mapping[str, str], *, held_out: bool, single: bool) -> Iterator[str]:
    """The remarks on groups of models.

    Args:
        groups: the groups.
        fits: for each exact model, whether the data are those that it was fitted to: KNOWN, OTHER or UNKNOWN.
        held_out: whether there are scores of models that were fitted anew.
        single: whether the data are a single series.
    """
    yield from _of_groups(groups)
    yield from _of_weights(groups)
    of = {state: [name for name, found in fits.items() if found == state] for state in (KNOWN, OTHER, UNKNOWN)}
    if of[OTHER]:
        yield f"no AIC and BIC: {_fitted(of[OTHER])} to other data, or to a part of these"
    if of[UNKNOWN]:
        yield f"AIC and BIC hold if {_fitted(of[UNKNOWN])} to these data, which is not known"
    if of[KNOWN] and not held_out:
        yield (
            f"{_fitted(of[KNOWN])} to these data, on which more parameters always look better: go by BIC, or by "
            f"held-out scores, {'origins=5' if single else 'folds=5'}"
        )


def _of_groups(groups: Sequence[Group]) -> Iterator[str]:
    """Why the models stand in several groups."""
    labels = {group.label for group in groups}
    draws = {label for label in labels if label == AVERAGED or label.startswith("PSIS")}
    bounds = labels - draws - {"exact"}
    if bounds and "exact" in labels:
        yield WHY_BOUNDS
    if any(group.label in bounds and len(group.standings) > 1 for group in groups):
        yield WHY_GAPS
    if draws and labels - draws:
        yield WHY_DRAWS


def _of_weights(groups: Sequence[Group]) -> Iterator[str]:
    """Which values of importance weights are not reliable, and which were computed by new fits."""
    for group in groups:
        for one in group.standings:
            if one.num_unreliable:
                yield (
                    f"{one.model}: Pareto k is above {GOOD_K} for {one.num_unreliable} terms of {group.label}, whose "
                    "values are not reliable; fit=... repeats the fit for them"
                )
            if one.num_refits:
                yield f"{one.model}: {one.num_refits} terms of {group.label} had k above {GOOD_K} and were fitted anew"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _fitted(names: Sequence[str]) -> str:
    """Such as "A was fitted"."""
    return f"{_listed(names)} {'was' if len(names) == 1 else 'were'} fitted"
