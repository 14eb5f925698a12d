"""`pgm-rnn leaderboard`: every trained model of a data set under one normalisation, beside published figures.

    nats per step = - sum_i log p(x^{(i)}) / sum_i T_i        on the test split, all entries, first step included

The number is exact if the model's likelihood has a closed form. Otherwise there is a row for each of ELBO, FIVO_128 and
importance_500, which all lie above the exact number on average. Likelihoods, bounds, estimates and published figures
stand in tables of their own, because an order across them would mean nothing.
The page has a section for each data set; running the command for one leaves the other sections as they are.
"""

import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from pgm_rnn.checks import check_choice
from pgm_rnn.data import load
from pgm_rnn.files import write_whole
from pgm_rnn.inference import svi
from pgm_rnn.models.registry import list_models
from pgm_rnn.report import score_cache
from pgm_rnn.report.material import in_dtype_of
from pgm_rnn.report.records import check_output
from pgm_rnn.report.score_cache import Score
from pgm_rnn.report.terminal import console
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.zoo.entries import HOME, describe_pretrained, list_pretrained, load_pretrained

BOUNDS = {"fivo": 128, "elbo": 50, "importance": 500}
"""For a model without a likelihood in closed form: the bounds to compute, with their numbers of particles or draws."""


KINDS = ("likelihoods", "bounds", "estimates")
"""Kinds of scores of ours, each with a table of its own."""
_TITLES = {
    "likelihoods": "Likelihoods, exact",
    "bounds": "Bounds: at least the exact number on average",
    "estimates": "Estimates by importance sampling: at least the exact number on average",
    "published": "Published figures, for the same splits",
}


def kind_of(bound: str) -> str:
    """The kind of a score: exact scores are likelihoods, importance-sampled ones estimates, and others bounds."""
    if bound == "exact":
        return "likelihoods"
    return "estimates" if bound.startswith("importance") else "bounds"


class Row(NamedTuple):
    """One score of one entry of the zoo.

    Attributes:
        entry: name of the entry.
        nats_per_step: score on the test set.
        standard_error: standard error over sequences.
        bound: "exact", or the name of the bound or estimate.
        parameters: number of parameters, including those of the guide.
        minutes: training time, including that of a fit that it started from.
        seed: random seed of the fit.
        commands: the commands that made the entry, in their order.
        seconds: time of this evaluation.
    """

    entry: str
    nats_per_step: float
    standard_error: float
    bound: str
    parameters: int
    minutes: float
    seed: int
    commands: tuple[str, ...]
    seconds: float


class Published(NamedTuple):
    """A published score; its error was not given."""

    model: str
    nats_per_step: float
    bound: str
    source: str


_BOULANGER = "Boulanger-Lewandowski et al. (2012)"
PUBLISHED = {
    "jsb": (
        Published("RNN", 8.71, "exact", _BOULANGER),
        Published("LSTM", 8.67, "exact", "Chung et al. (2014)"),
        Published("VRNN", 6.91, "FIVO_128", "Maddison et al. (2017)"),
        Published("deep Markov model", 6.93, "ELBO", "Krishnan et al. (2017)"),
        Published("deep Markov model", 6.39, "importance", "Krishnan et al. (2017)"),
        Published("RNN-NADE", 5.19, "exact", _BOULANGER),
    ),
    "nottingham": (
        Published("RNN", 4.46, "exact", _BOULANGER),
        Published("RNN-NADE", 2.31, "exact", _BOULANGER),
    ),
}
"""Published scores on the same splits of the same piano rolls."""


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
    if load(data).test is None:
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
    for table in _tables(data, rows):
        out.print(table)
        out.print()
    out.print("nats per step on the test split, ± standard error over sequences")
    if page is not None:
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        write_whole(page, with_section(before, data, section(data, rows)).encode())
        out.print(f"written to {page}")
    return rows


def evaluated(name: str, info: dict[str, Any], home: Path, *, cached: bool = True) -> list[Row]:
    """The rows of one entry: a single row if its model is exact, else one row for each of `BOUNDS`."""
    model = load_pretrained(name, home=home).requires_grad_(False)
    assert isinstance(model, SequenceModel)
    test = load(info["data"], seed=info["seed"]).test
    assert test is not None
    test = in_dtype_of(model, test)
    parameters = sum(p.numel() for p in model.parameters())
    before = info["fit"].get("start")
    commands = (*([before["command"]] if before else []), info["command"])
    minutes = (info["seconds"] + (before["seconds"] if before else 0.0)) / 60
    rows = []
    for bound, num_particles in {"exact": 1}.items() if model.exact else BOUNDS.items():
        key = score_cache.key_of(name, home, test, bound, num_particles)
        score = score_cache.find(key) if cached else None
        if score is None:
            score = _scored(model, test, bound, num_particles)
            if cached:
                score_cache.keep(key, score)
        about = (parameters, minutes, info["seed"], commands, score.seconds)
        rows.append(Row(name, score.nats_per_step, score.standard_error, _label(score.bound, num_particles), *about))
    return rows


def _scored(model: SequenceModel, test: Sequences, bound: str, num_particles: int) -> Score:
    start = time.perf_counter()
    found = svi.evaluate(model, test, bound=bound, num_particles=num_particles)
    seconds = time.perf_counter() - start
    return Score(float(found.nats_per_step), float(found.standard_error), found.bound, seconds)


def _label(bound: str, num_particles: int) -> str:
    return f"{bound}, {num_particles} draws" if bound == "ELBO" else bound


HEAD: tuple[str, ...] = ("model", "nats per step", "±", "bound", "parameters", "min")
_PUBLISHED_HEAD: tuple[str, ...] = ("model and source", "nats per step", "kind")


def _groups(data: str, rows: list[Row]) -> Iterable[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Title, head and lines of each kind's table, the lowest number first; published figures are the last."""
    for kind in KINDS:
        found = sorted((row for row in rows if kind_of(row.bound) == kind), key=lambda row: row.nats_per_step)
        if found:
            yield _TITLES[kind], HEAD, [_cells(row) for row in found]
    figures = sorted(PUBLISHED.get(data, ()), key=lambda figure: (kind_of(figure.bound), figure.nats_per_step))
    if figures:
        lines: list[tuple[str, ...]] = [
            (f"{each.model}, {each.source}", f"{each.nats_per_step:.2f}", each.bound) for each in figures
        ]
        yield _TITLES["published"], _PUBLISHED_HEAD, lines


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (f"{row.nats_per_step:.3f}", f"{row.standard_error:.3f}")
    return row.entry, *numbers, row.bound, f"{row.parameters:,}", f"{row.minutes:.1f}"


def _tables(data: str, rows: list[Row]) -> Iterable[Table]:
    for title, head, lines in _groups(data, rows):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left")
        for column in head:
            words = column.startswith("model") or column in ("bound", "kind")
            table.add_column(
                column,
                justify="left" if words else "right",
                no_wrap=not column.startswith("model"),
                overflow="fold" if column.startswith("model") else "ellipsis",
            )
        for cells in lines:
            table.add_row(*cells)
        yield table


def section(data: str, rows: list[Row]) -> str:
    """A data set's section of the page, from its mark to the last line."""
    dataset = load(data)
    assert dataset.test is not None
    size = f"{len(dataset.test.lengths):,} sequences, {dataset.test.num_steps:,} steps"
    parts = [
        _mark(data),
        f"## {data}",
        f"{dataset.description}. Test split, {size}. `pgm-rnn leaderboard --data {data}`; "
        f"{sum(row.seconds for row in rows):.0f} s of evaluation.",
        *(f"**{title}**\n\n{_markdown(head, lines)}" for title, head, lines in _groups(data, rows)),
        "**How each was made**",
        _markdown(
            ("entry", "seed", "command"),
            [
                (row.entry, str(row.seed), _code(row.commands))
                for row in sorted({row.entry: row for row in rows}.values(), key=lambda row: row.entry)
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _code(commands: tuple[str, ...]) -> str:
    return ", then ".join(f"`{command}`" for command in commands)


def _markdown(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


HEADER = """# Leaderboard

Every trained model of the zoo on the test split of the data that it was fitted to, under one normalisation: the sum of
nats over the number of steps, all keys, the first step included. Numbers of different kinds are not ranked together.
*Likelihoods* are exact. *Bounds*, ELBO and FIVO_128, lie above the exact number on average, and so do *estimates*,
importance_500, from 500 weighted draws of the guide, by less than the ELBO. *Published figures* are for the same splits
and as precise as their papers give them. ± is the standard error over the sequences of the split, which all models
share, so differences between two models are more certain than that. Parameters include those of the guide; min is the
training time in minutes, including that of an earlier fit from which this one started.
"""


def with_section(page: str, data: str, text: str) -> str:
    """The page with a data set's section replaced, or appended if the page had none."""
    kept = [part for part in re.split(r"(?m)^(?=<!-- data: )", page)[1:] if not part.startswith(_mark(data))]
    parts = sorted([*(part.strip() + "\n" for part in kept), text])
    return "\n".join([HEADER, *parts])


def _mark(data: str) -> str:
    return f"<!-- data: {data} -->"
