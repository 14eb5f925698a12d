"""`pgm-rnn fit hmm --num-states 1,2,3,4`: several numbers of states side by side, the best one kept.

    AIC = 2 (n + k),   BIC = 2 n + k log N        n: nats of the training data, k free parameters, N training steps

The model of lowest BIC is kept. Validation and test sets are shown beside it and choose nothing here.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table

from pgm_rnn.report.fitted import Job, Outcome, announce, check_job, counted, finish, kept_if_it_fails, record_of
from pgm_rnn.report.fitting import HmmOptions, fitted_hmm, hmm_material, hmm_title
from pgm_rnn.report.material import Material, Score
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model.criteria import Criteria

RULE = "lowest BIC"


class Candidate(NamedTuple):
    """A fit with one number of states.

    Attributes:
        num_states: the number of states.
        num_free_parameters: k.
        aic: Akaike's criterion of the training data.
        bic: the Bayesian information criterion of the training data.
        nats_per_step: nats per step of each split.
    """

    num_states: int
    num_free_parameters: int
    aic: float
    bic: float
    nats_per_step: dict[str, float]


def fit_hmms(job: Job, numbers: Sequence[int], options: HmmOptions, *, half: bool = False) -> Outcome:
    """Fit an HMM for each number of states, print a table, and score and save the one of lowest BIC.

    Ctrl-C ends the present fit, and no further one begins.

    Raises:
        ValueError: an argument is out of range, or the source is missing or cannot be read.
    """
    options.check()
    folders = {num: check_job(job, "hmm", num) for num in numbers}
    material = hmm_material(job)
    states = f"{', '.join(map(str, numbers))} states"
    announce(job, material, hmm_title(material, states, options))
    found: list[tuple[Candidate, Outcome]] = []
    for num in numbers:
        outcome = fitted_hmm(job, material, num, options.for_states(num, material), half=half)
        unscored = record_of(job, material.description, outcome, [], material.file)
        with kept_if_it_fails(job, folders[num], outcome, unscored):
            found.append((candidate(num, outcome, material.scores(outcome.model)), outcome))
        _say_how_one_ended(num, outcome)
        if outcome.stopped_by == "interrupt":
            break
    best, kept = min(found, key=lambda pair: pair[0].bic)
    candidates = [one for one, _ in found]
    _show(candidates, best, material)
    also = {"rule": RULE, "candidates": [one._asdict() for one in candidates]}
    finish(job, folders[best.num_states], material, kept, also)
    return found[-1][1] if found[-1][1].stopped_by == "interrupt" else kept


def candidate(num_states: int, outcome: Outcome, scores: Sequence[Score]) -> Candidate:
    """The criteria of a fit, from its scores; those of the training data come first."""
    train = scores[0]
    criteria = Criteria.of(outcome.model, train.nats_per_step * train.num_steps, train.num_steps)
    return Candidate(num_states, *criteria, {score.split: score.nats_per_step for score in scores})


def _say_how_one_ended(num_states: int, outcome: Outcome) -> None:
    rounds = counted(outcome.num_rounds or 0, outcome.unit)
    console().print(f"{counted(num_states, 'state')}: {rounds} in {outcome.seconds:.1f} s, {_end(outcome)}")


def _end(outcome: Outcome) -> str:
    return "interrupted" if outcome.stopped_by == "interrupt" else f"stopped by {outcome.stopped_by}"


def _show(candidates: Sequence[Candidate], best: Candidate, material: Material) -> None:
    """Print a row per number of states, and the rule."""
    splits = list(best.nats_per_step)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("states", "parameters", "AIC", "BIC", *splits, ""):
        table.add_column(name, justify="right" if name else "left")
    for one in candidates:
        criteria = Criteria(one.num_free_parameters, one.aic, one.bic).cells()
        scores = [f"{one.nats_per_step[split]:.3f}" for split in splits]
        table.add_row(f"{one.num_states}", *criteria, *scores, "kept" if one is best else "")
    out = console()
    out.print()
    out.print(table)
    out.print(f"{', '.join(splits)}: nats per step; AIC and BIC of the training data, in nats times two")
    out.print(f"kept: {counted(best.num_states, 'state')}, the {RULE}")
    out.print()
