"""`pgm-rnn fit hmm --num-states 1,2,3,4`: several numbers of states side by side, the best one kept.

    AIC = 2 (n + k),   BIC = 2 n + k log N        n: nats of the training data, k free parameters, N training steps

The model of lowest BIC is kept. Validation and test sets are shown beside it and choose nothing here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from pgm_rnn.report.fitted import (
    Job,
    Outcome,
    announce,
    check_job,
    counted,
    finish,
    keep,
    kept_if_it_fails,
    kept_options,
    record_of,
)
from pgm_rnn.report.fitting import HmmOptions, fitted_hmm, hmm_material, hmm_title
from pgm_rnn.report.material import Material, Score
from pgm_rnn.report.stored_fits import digest_of, stored_fit
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model.criteria import Criteria
from pgm_rnn.storage import describe, holds_model, load_model

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

    Numbers that an earlier run of this command has fitted with the same data and options are not fitted again. Ctrl-C
    ends the present fit, and no further one begins.

    Raises:
        ValueError: an argument is out of range, the source is missing or cannot be read, or a folder holds a fit of
            another configuration.
    """
    options.check()
    folders = {num: check_job(replace(job, overwrite=True), "hmm", num) for num in numbers}
    material = hmm_material(job)
    of_run: dict[str, Any] = {"data_digest": digest_of(material), "half": half}
    known = {} if job.overwrite else _known(job, folders, options, material, of_run)
    states = f"{', '.join(map(str, numbers))} states"
    announce(job, material, hmm_title(material, states, options))
    found: list[tuple[Candidate, Outcome | None]] = []
    for num in numbers:
        if num in known:
            found.append((known[num], None))
            console().print(f"{counted(num, 'state')}: fitted by an earlier run of this command")
            continue
        outcome = fitted_hmm(job, material, num, options.for_states(num, material), half=half)
        unscored = record_of(job, material.description, outcome, [], material.file) | of_run
        with kept_if_it_fails(job, folders[num], outcome, unscored):
            found.append((candidate(num, outcome, material.scores(outcome.model)), outcome))
        _say_how_one_ended(num, outcome)
        if outcome.stopped_by == "interrupt":
            break
    best, kept = min(found, key=lambda pair: pair[0].bic)
    candidates = [one for one, _ in found]
    _show(candidates, best, material)
    also: dict[str, Any] = {"rule": RULE, "candidates": [one._asdict() for one in candidates], **of_run}
    last = found[-1][1]
    if kept is None:
        kept = _stored(folders[best.num_states])
        record = describe(folders[best.num_states]).info
        earlier = {one["num_states"]: one for one in record.get("candidates", ())}
        every = earlier | {one["num_states"]: one for one in also["candidates"]}
        also["candidates"] = [every[num] for num in sorted(every)]
        keep(replace(job, overwrite=True), folders[best.num_states], kept, record | also)
    else:
        job = replace(job, overwrite=job.overwrite or holds_model(folders[best.num_states]))  # `_known` saw to that
        finish(job, folders[best.num_states], material, kept, also)
    return last if last is not None and last.stopped_by == "interrupt" else kept


def _known(
    job: Job, folders: Mapping[int, Path], options: HmmOptions, material: Material, of_run: Mapping[str, Any]
) -> dict[int, Candidate]:
    """The candidates of earlier runs of the same configuration; the best of them is in its folder.

    Raises:
        ValueError: a folder holds a fit of another configuration.
    """
    found = dict[int, Candidate]()
    for num, folder in folders.items():
        there = describe(folder).info.get("sizes") if holds_model(folder) else None
        size = there.get("num_states", num) if isinstance(there, dict) else num  # --output is one folder for all
        wanted: dict[str, Any] = {
            **of_run,
            "model": "hmm",
            "file": kept_options(material.file),
            "seed": job.seed,
            "fit": options.for_states(size, material)._asdict(),
        }
        record = stored_fit(folder, wanted)
        if record is None:
            continue
        for one in record.get("candidates", ()):
            restarts = options.for_states(one["num_states"], material).num_restarts
            if one["num_states"] in folders and restarts == wanted["fit"]["num_restarts"]:
                found[one["num_states"]] = Candidate(**one)
        if size in folders and size not in found:  # fitted alone
            outcome = _stored(folder)
            found[size] = candidate(size, outcome, material.scores(outcome.model))
    return found


def _stored(folder: Path) -> Outcome:
    """The outcome of a fit that is in a folder."""
    record = describe(folder).info
    return Outcome(
        load_model(folder),
        record["stopped_by"],
        record["iterations"],
        "iteration",
        record["seconds"],
        "",
        record["fit"],
    )


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
