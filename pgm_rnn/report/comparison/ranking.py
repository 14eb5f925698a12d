"""Models in the order of their scores, with paired differences to the best.

    behind = sum_i (n_i - n_i^best) / sum_i T_i       over the same units i

All models are scored on the same units, whose difficulty cancels in the difference: its standard error is often far
smaller than those of the scores.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pgm_rnn.inference import svi
from pgm_rnn.report.comparison.scores import Scores

GOOD_K = 0.7
"""Largest Pareto k with reliable importance weights (Vehtari et al., 2024)."""
CLEAR = 2.0
"""Standard errors of a difference from which on it is called clear."""


@dataclass(frozen=True)
class Standing:
    """One model in a group.

    Attributes:
        model: its name.
        nats_per_step: the smaller, the better.
        standard_error: of `nats_per_step` over the units; NaN for one unit.
        behind: difference to the best model of the group, in nats per step; 0 for that one.
        behind_error: standard error of the paired difference; NaN for the best one or a single unit.
        num_unreliable: number of terms whose Pareto k is above `GOOD_K` and that were not refitted.
        num_refits: number of terms for which the model was fitted anew.
        worst_k: the largest Pareto k of terms that were not refitted; NaN without weights.
    """

    model: str
    nats_per_step: float
    standard_error: float
    behind: float
    behind_error: float
    num_unreliable: int = 0
    num_refits: int = 0
    worst_k: float = math.nan


@dataclass(frozen=True)
class Group:
    """Models whose numbers are of one kind, the best one first.

    Attributes:
        measure: how the data were scored, such as "5-fold cross-validation".
        label: the kind of likelihood: "exact", or the name of the bound.
        unit: over what the standard errors are, with the number of it, such as "40 sequences".
        standings: the models.
        num_steps: number of scored steps.
    """

    measure: str
    label: str
    unit: str
    standings: tuple[Standing, ...]
    num_steps: int

    @property
    def advice(self) -> str:
        """One line on the first two models; empty for a single one."""
        if len(self.standings) < 2:
            return ""
        best, second = self.standings[:2]
        if math.isinf(best.nats_per_step):
            return "each of these models gives some of the data probability zero"
        if math.isinf(second.behind):
            return f"{best.model} is ahead of {second.model}, which gives some of the data probability zero"
        if second.behind == 0:
            return f"{best.model} and {second.model} have the same score"
        text = f"{best.model} is ahead of {second.model} by"
        if not second.behind_error > 0:
            return f"{text} {second.behind:.3g} nats per step; the standard error is not known from {self.unit}"
        times = second.behind / second.behind_error
        verdict = "a clear difference" if times >= CLEAR else "too close to call"
        places = max(0, 1 - math.floor(math.log10(second.behind_error)))  # two digits of the error
        numbers = f"{second.behind:,.{places}f} ± {second.behind_error:,.{places}f}"
        return f"{text} {numbers} nats per step: {times:.1f} standard errors, {verdict}"


def groups_of(measure: str, scores: Mapping[str, Scores]) -> tuple[Group, ...]:
    """The models in groups of one kind of likelihood each, exact ones first."""
    labels = sorted({found.label for found in scores.values()}, key=lambda label: (label != "exact", label))
    return tuple(
        ranked(measure, {name: found for name, found in scores.items() if found.label == label}) for label in labels
    )


def ranked(measure: str, scores: Mapping[str, Scores]) -> Group:
    """The models of one kind of likelihood, the best first.

    Raises:
        ValueError: models that score other steps than the first one.
    """
    best = min(scores, key=lambda name: (scores[name].nats_per_step, name))
    reference = scores[best]
    standings = [standing(name, found, None if name == best else reference) for name, found in scores.items()]
    standings.sort(key=lambda one: (one.model != best, one.behind))
    return Group(measure, reference.label, reference.units, tuple(standings), int(reference.steps.sum()))


def standing(name: str, found: Scores, best: Scores | None) -> Standing:
    """One model beside the best one of its group, None for that itself.

    Raises:
        ValueError: it scores other steps than the best one.
    """
    behind, error = 0.0, math.nan
    if best is not None:
        if not torch.equal(found.steps.double(), best.steps.double()):
            raise ValueError(
                f"expected models that score the same steps, got {int(found.steps.sum())} from {name} and "
                f"{int(best.steps.sum())} from another; use the same first='model' or 'condition' in all"
            )
        difference = found.nats - best.nats
        behind = float(difference.sum()) / float(found.steps.sum())
        error = svi.ratio_error(difference, found.steps)
    unreliable, worst = 0, math.nan
    if found.pareto_k is not None:
        known = found.pareto_k[~found.pareto_k.isnan()]
        unreliable, worst = int((known > GOOD_K).sum()), float(known.max()) if len(known) else math.nan
    return Standing(name, found.nats_per_step, found.standard_error, behind, error, unreliable, found.num_refits, worst)
