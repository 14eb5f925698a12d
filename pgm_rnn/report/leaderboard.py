"""`pgm-rnn leaderboard`: every trained model of a data set under one normalisation, beside published figures.

    nats per step = - sum_i log p(x^{(i)}) / sum_i T_i        on the test split, all entries, first step included

The number is exact if the model's likelihood has a closed form. Otherwise there is a row for each of ELBO, FIVO_128 and
importance_500, which all lie above the exact number on average.
The page has a section for each data set; running the command for one leaves the other sections as they are.
"""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from pgm_rnn.checks import check_choice
from pgm_rnn.data import load
from pgm_rnn.files import write_whole
from pgm_rnn.inference import svi
from pgm_rnn.models.registry import list_models
from pgm_rnn.report.material import in_dtype_of
from pgm_rnn.report.records import check_output
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.zoo.entries import HOME, describe_pretrained, list_pretrained, load_pretrained

BOUNDS = {"fivo": 128, "elbo": 50, "importance": 500}
"""For a model without a likelihood in closed form: the bounds to compute, with their numbers of particles or draws."""


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


def leaderboard(data: str, page: Path | None = None, home: Path = HOME, progress: bool = True) -> list[Row]:
    """Evaluate every entry that was fitted to a data set, print the table, and write its section of a page.

    Label models are left out, because they do not model the sequences themselves.

    Args:
        data: name of the data set.
        page: a Markdown file, created if it is missing; None for none.
        home: folder of the entries.
        progress: whether a terminal shows a progress bar.

    Returns:
        The rows, the lowest number first.

    Raises:
        ValueError: the folder or the data set has no entries, the data set has no test split, or the page's folder is
            missing.
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
    if page is not None:
        check_output(page, "--output")
    names = [name for name, info in entries.items() if info["data"] == data]
    rows = [
        row
        for name in tqdm(names, unit="model", disable=None if progress else True, leave=False)
        for row in evaluated(name, entries[name], home)
    ]
    rows.sort(key=lambda row: row.nats_per_step)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(_table(data, rows))
    console.print("nats per step on the test split, ± standard error over sequences\na line without ± is published")
    if page is not None:
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        write_whole(page, with_section(before, data, section(data, rows)).encode())
        console.print(f"written to {page}")
    return rows


def evaluated(name: str, info: dict[str, Any], home: Path) -> list[Row]:
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
        start = time.perf_counter()
        found = svi.evaluate(model, test, bound=bound, num_particles=num_particles)
        seconds = time.perf_counter() - start
        about = (parameters, minutes, info["seed"], commands, seconds)
        rows.append(Row(name, found.nats_per_step, found.standard_error, _label(found.bound, num_particles), *about))
    return rows


def _label(bound: str, num_particles: int) -> str:
    return f"{bound}, {num_particles} draws" if bound == "ELBO" else bound


def _lines(data: str, rows: list[Row]) -> Iterable[tuple[str, ...]]:
    """The table's cells, the lowest number first, with published scores among ours."""
    ours = [
        (row.nats_per_step, (row.entry, f"{row.nats_per_step:.3f}", f"{row.standard_error:.3f}", row.bound))
        for row in rows
    ]
    others = [
        (figure.nats_per_step, (f"{figure.model}, {figure.source}", f"{figure.nats_per_step:.2f}", "", figure.bound))
        for figure in PUBLISHED.get(data, ())
    ]
    return (cells for _, cells in sorted(ours + others))


def _table(data: str, rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("model", overflow="fold")
    for column in ("nats per step", "±", "bound"):
        table.add_column(column, justify="left" if column == "bound" else "right", no_wrap=True)
    for cells in _lines(data, rows):
        table.add_row(*cells)
    return table


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
        _markdown(("model", "nats per step", "±", "bound"), _lines(data, rows)),
        _markdown(
            ("entry", "parameters", "training, min", "seed", "command"),
            [
                (row.entry, f"{row.parameters:,}", f"{row.minutes:.1f}", str(row.seed), _code(row.commands))
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
nats over the number of steps, all keys, the first step included. *exact* is the model's own likelihood; *ELBO* and
*FIVO_128* lie above it on average, and so does *importance_500*, the estimate from 500 weighted draws of the guide,
by less than the ELBO. ± is the standard error over the sequences of the split, which all models share: differences
between two models are known better than that. Rows without it are published figures, on the same splits.
"""


def with_section(page: str, data: str, text: str) -> str:
    """The page with a data set's section replaced, or appended if the page had none."""
    kept = [part for part in re.split(r"(?m)^(?=<!-- data: )", page)[1:] if not part.startswith(_mark(data))]
    parts = sorted([*(part.strip() + "\n" for part in kept), text])
    return "\n".join([HEADER, *parts])


def _mark(data: str) -> str:
    return f"<!-- data: {data} -->"
