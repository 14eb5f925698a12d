"""`pgm-rnn verify`: check the claims under a progress bar, print the results as a table and write them as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch
from rich import box
from rich.console import Console, Group
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.claims import CLAIMS, Claim, Result, check
from pgm_rnn.claims.claim import chosen_cases
from pgm_rnn.claims.on_data import check_on_data, num_chunks
from pgm_rnn.claims.sources import by_paper, place_of
from pgm_rnn.data import Dataset, load
from pgm_rnn.data.catalogue import DATASETS, DatasetInfo
from pgm_rnn.inference import svi
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.info import STEPS
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded
from pgm_rnn.report.fitted import counted
from pgm_rnn.report.records import write_json


def verify_claims(
    names: Sequence[str], seed: int, *, quick: bool = False, claims: Mapping[str, Claim] = CLAIMS
) -> list[Result]:
    """Check the claims called `names`, or all of them, on random instances (few if `quick`), and print a table.

    Raises:
        ValueError: an unknown claim.
    """
    for name in names:
        check_choice("claim", name, claims)
    chosen = [claims[name] for name in dict.fromkeys(names)] or list(claims.values())
    results = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(len(chosen_cases(claim, quick)) for claim in chosen))
        for claim in chosen:
            progress.update(task, description=claim.id)
            results.append(check(claim, seed, advance=lambda: progress.advance(task), quick=quick))
    console = Console(highlight=False)
    console.print(f"random instances, seed {seed}, {_threads()}\n")
    console.print(results_table(results, claims))
    return results


def verify_on_data(
    name: str,
    *,
    seed: int,
    cell: str = "lstm",
    hidden_dim: int = 64,
    num_epochs: int | None = None,
    datasets: Mapping[str, DatasetInfo] = DATASETS,
) -> list[Result]:
    """Fit an RNN to a data set, print its nats per step, and check the claims that apply on the held-out sequences.

    Raises:
        ValueError: an unknown data set or cell, or sizes below 1.
    """
    options: dict[str, Any] = {**STEPS} if num_epochs is None else {**STEPS, "num_epochs": num_epochs}
    check_counts(hidden_dim=hidden_dim, num_epochs=options["num_epochs"])
    check_choice("cell", cell, CELLS)
    dataset = load(name, seed=seed, datasets=datasets)
    console = Console(highlight=False, soft_wrap=True)
    with seeded(seed):
        rnn = RNN(cell, emission=dataset.emission, hidden_dim=hidden_dim)
    console.print(f"{name}: {dataset.description}")
    fit = svi.fit(rnn, dataset.train, dataset.valid, seed=seed, **options)
    console.print(
        f"{cell}, {hidden_dim} hidden units, seed {seed}, {_threads()}: {len(fit.history)} epochs "
        f"in {fit.seconds:.0f} s, stopped by {fit.stopped_by}, best epoch {fit.best_epoch}"
    )
    _print_scores(console, rnn, dataset)
    held_out = dataset.test or dataset.valid or dataset.train
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("held-out sequences", total=2 * num_chunks(held_out))
        results = check_on_data(rnn, held_out, seed, advance=lambda: progress.advance(task))
    console.print(results_table(results))
    return results


def _threads() -> str:
    return counted(torch.get_num_threads(), "thread")


def _print_scores(console: Console, rnn: RNN, dataset: Dataset) -> None:
    for split in ("train", "valid", "test"):
        sequences = getattr(dataset, split)
        if sequences is not None:
            score = svi.evaluate(rnn, sequences)
            console.print(
                f"  {split:5}  {score.nats_per_step:.3f} ± {score.standard_error:.3f} nats per step, exact "
                f"({len(sequences.lengths)} sequences)"
            )


def results_table(results: Iterable[Result], claims: Mapping[str, Claim] = CLAIMS) -> Group:
    """One table per paper with one row per claim: the residual, its tolerance and the control's residual.

    Claims stand under their place in the paper. The tables are at most 80 columns wide.
    """
    tables: list[Table | str] = []
    results = list(results)
    for paper, group in by_paper(results):
        table = Table(title=paper, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0)
        table.show_edge = False
        for name, justify, width in COLUMNS:
            table.add_column(name, justify=justify, min_width=width, max_width=width)
        for place, here in groupby(group, key=lambda result: place_of(result.source)):
            table.add_row(Text(place, style="italic"))
            for result in here:
                table.add_row(*_row(result))
        tables += [table, ""]
    tables.append("n: instances; control: least residual where a hypothesis is broken; it must exceed tolerance")
    if any(result.kind == "erratum" for result in results):
        tables.append("*: an erratum; the claim is corrected, the control is as printed")
    if any(claims[result.id].unit == "standard errors" for result in results):
        tables.append("tolerance 6.0e+00: residual and control are numbers of standard errors")
    return Group(*tables)


COLUMNS: tuple[tuple[str, Literal["left", "right"], int], ...] = (
    ("claim", "left", 36),
    ("n", "right", 3),
    ("residual", "right", 8),
    ("tolerance", "right", 9),
    ("control", "right", 7),
    ("verdict", "left", 7),
    ("s", "right", 3),
)


def _row(result: Result) -> list[str | Text]:
    return [
        f"  {result.id}{'*' if result.kind == 'erratum' else ''}",
        str(result.instances),
        f"{result.residual:.1e}",
        f"{result.tolerance:.1e}",
        f"{result.control_residual:.1e}",
        Text(result.verdict, style="green" if result.verdict == "holds" else "bold red"),
        f"{result.seconds:.1f}",
    ]


def write_results(results: Iterable[Result], path: Path) -> None:
    """Write a JSON list of objects with the fields of `Result`; numbers that are not finite become null.

    Raises:
        OSError: the folder cannot be written to.
    """
    write_json([result._asdict() for result in results], path)
