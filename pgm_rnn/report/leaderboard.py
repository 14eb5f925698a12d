"""`pgm-rnn leaderboard`: every trained model of a data set under one normalisation, beside published figures.

    nats per step = - sum_i log p(x^{(i)}) / sum_i T_i        on the test split, all entries, first step included

The number is exact if the model's likelihood has a closed form. Otherwise there is a row for each of ELBO, FIVO_128 and
importance_500, which all lie above the exact number on average. A switching linear model has FIVO_16 alone, from a
Rao-Blackwellised filter: no guide of it was trained. Likelihoods, bounds, estimates and published figures stand in
tables of their own.
The page has a section for each data set; running the command for one leaves the other sections as they are.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from pgm_rnn.checks import check_choice
from pgm_rnn.data import load
from pgm_rnn.files import write_whole
from pgm_rnn.inference import svi
from pgm_rnn.inference.mixture_kalman.problem import sums_out_vectors
from pgm_rnn.models.registry import list_models
from pgm_rnn.report import score_cache
from pgm_rnn.report.leaderboard_page import section, with_section
from pgm_rnn.report.leaderboard_tables import KINDS, Group, Row, groups, kind_of
from pgm_rnn.report.material import in_dtype_of, particles_of
from pgm_rnn.report.records import check_output
from pgm_rnn.report.saved import data_of_fit
from pgm_rnn.report.score_cache import Score
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.zoo.comparisons import ESTIMATES, estimated, shown
from pgm_rnn.zoo.entries import HOME, describe_pretrained, list_pretrained, load_pretrained

BOUNDS = {"fivo": 128, "elbo": 50, "importance": 500}
"""For a model without a likelihood in closed form: the bounds to compute, with their numbers of particles or draws."""


def leaderboard(
    data: str,
    page: Path | None = None,
    home: Path = HOME,
    progress: bool = True,
    *,
    models: Sequence[str] = (),
    cached: bool = True,
) -> list[Row]:
    """Evaluate every entry that was fitted to a data set, print the tables, and write its section of a page.

    Label models are left out, because they do not model the sequences themselves.

    Args:
        data: name of the data set.
        page: a Markdown file, created if it is missing; None for none.
        home: folder of the entries.
        progress: whether to print a line to standard error before each model.
        models: names of entries to evaluate; empty for all of the data set. A page needs all.
        cached: whether a score that was kept may be used, and a new one is kept.

    Returns:
        The rows, by kind and then the lowest number first.

    Raises:
        ValueError: the folder or the data set has no entries, a name is not one of them, the data set has no test
            split, the page's folder is missing, or a page is asked for with some of the models.
        DataError: the data set cannot be obtained.
        OSError: the page cannot be written.
    """
    described = {name: describe_pretrained(name, home=home) for name in list_pretrained(home=home)}
    entries = {name: found.info for name, found in described.items() if found.name in list_models()}
    if not entries:
        raise ValueError(
            f"expected entries of trained models in {home}, got none; make one with pgm-rnn publish --into"
        )
    check_choice("--data", data, sorted({info["data"] for info in entries.values()}))
    dataset = load(data)
    if dataset.test is None and not dataset.is_series:
        raise ValueError(f"expected a data set with a test split, got {data}, which has none")
    names = [name for name, info in entries.items() if info["data"] == data]
    for name in models:
        check_choice("--model", name, names)
    if page is not None:
        if models:
            raise ValueError("expected a page of all models, got --model and --output; leave one of them out")
        check_output(page, "--output")
    names = [name for name in names if name in models] if models else names
    rows = []
    for number, name in enumerate(names, start=1):
        if progress:
            print(f"{number} of {len(names)}: {name}", file=sys.stderr, flush=True)
        rows += evaluated(name, entries[name], home, cached=cached)
    rows.sort(key=lambda row: (KINDS.index(kind_of(row.bound)), row.nats_per_step))
    out = console()
    estimates = [line for name in names for line in _estimates(name, entries[name], home)]
    tables = list(groups(data, rows, estimates, in_sample=dataset.is_series))
    for table in map(_table, tables):
        out.print(table)
        out.print()
    over = "of the whole series" if dataset.is_series else "on the test split, ± standard error over sequences"
    out.print(f"nats per step {over}")
    if page is not None:
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        write_whole(page, with_section(before, data, section(dataset, rows, tables)).encode())
        out.print(f"written to {page}")
    return rows


def evaluated(name: str, info: dict[str, Any], home: Path, *, cached: bool = True) -> list[Row]:
    """The rows of one entry, one for each number that its model has."""
    model = load_pretrained(name, home=home).requires_grad_(False)
    assert isinstance(model, SequenceModel)
    dataset = data_of_fit(info)
    test = dataset.train if dataset.test is None else dataset.test
    test = in_dtype_of(model, test)
    parameters = sum(p.numel() for p in model.parameters())
    before = info["fit"].get("start")
    commands = (*([before["command"]] if before else []), info["command"])
    minutes = (info["seconds"] + (before["seconds"] if before else 0.0)) / 60
    rows = []
    for bound, num_particles in _bounds(model, test).items():
        key = score_cache.key_of(name, home, test, bound, num_particles)
        score = score_cache.find(key) if cached else None
        if score is None:
            score = _scored(model, test, bound, num_particles)
            if cached:
                score_cache.keep(key, score)
        about = (parameters, minutes, info["seed"], commands, score.seconds)
        rows.append(Row(name, score.nats_per_step, score.standard_error, _label(score.bound, num_particles), *about))
    return rows


def _bounds(model: SequenceModel, test: Sequences) -> dict[str, int]:
    """The numbers that a model has, with their particles or draws."""
    if model.exact:
        return {"exact": 1}
    return {"fivo": particles_of(model, test)} if sums_out_vectors(model, test) else BOUNDS


def _scored(model: SequenceModel, test: Sequences, bound: str, num_particles: int) -> Score:
    start = time.perf_counter()
    found = svi.evaluate(model, test, bound=bound, num_particles=num_particles)
    seconds = time.perf_counter() - start
    return Score(float(found.nats_per_step), float(found.standard_error), found.bound, seconds)


def _label(bound: str, num_particles: int) -> str:
    return f"{bound}, {num_particles} draws" if bound == "ELBO" else bound


def _estimates(name: str, info: dict[str, Any], home: Path) -> list[tuple[str, ...]]:
    """An entry's estimates beside published ones, a line each."""
    model = load_pretrained(name, home=home) if name in ESTIMATES else None
    if not isinstance(model, SequenceModel):
        return []
    return [
        (f"{name}, {each.quantity}", shown(estimated(model, info, each)), shown(each.published), each.source)
        for each in ESTIMATES[name]
    ]


def _table(group: Group) -> Table:
    title, head, lines = group
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left")
    for column in head:
        words, wide = column in ("bound", "kind"), column.startswith("model") or column == "source"
        table.add_column(
            column,
            justify="left" if words or wide else "right",
            no_wrap=not wide,
            overflow="fold" if wide else "ellipsis",
        )
    for cells in lines:
        table.add_row(*cells)
    return table
