"""`pgm-rnn reproduce`: run sweeps under a progress bar, write files, and print verdicts on the paper's sentences."""

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from pgm_rnn.checks import check_choice
from pgm_rnn.experiments.experiment import Experiment
from pgm_rnn.experiments.record import read_record, write_record
from pgm_rnn.experiments.registry import EXPERIMENTS
from pgm_rnn.experiments.settings import Settings
from pgm_rnn.experiments.sweep import Plan, forget, sweep, workers


def reproduce(
    name: str, folder: Path, plan: Plan, command: str, *, quick: bool, fresh: bool, **sizes: Any
) -> dict[str, list[str]]:
    """Run one experiment or "all", print the verdicts, and leave CSV, JSON, PNG and SVG in a folder.

    Args:
        name: name of an experiment, or "all".
        folder: output folder, created if it is missing.
        plan: where the cells are computed.
        command: the command that reproduces the run, kept with the numbers.
        quick: use small sizes that take seconds.
        fresh: discard an unfinished sweep instead of continuing it.
        sizes: `Settings` that replace the experiment's own.

    Returns:
        The verdicts of each experiment.

    Raises:
        ValueError: an unknown experiment, sizes that are too small or that it does not use, or an unfinished sweep with
            other settings.
        ConnectionError: the scheduler does not answer.
        OSError: the folder cannot be created or written to.
    """
    check_choice("figure", name, [*EXPERIMENTS, "all"])
    chosen = list(EXPERIMENTS.values()) if name == "all" else [EXPERIMENTS[name]]
    settings = {
        experiment.id: dataclasses.replace(experiment.quick if quick else experiment.settings, **sizes)
        for experiment in chosen
    }
    for experiment in chosen:
        experiment.check(settings[experiment.id])
    if quick:
        Console(stderr=True).print("quick: sizes so small that the verdicts mean nothing")
    verdicts = {}
    with workers(plan) as run:
        for experiment in chosen:
            _run(experiment, settings[experiment.id], folder, run, command, fresh=fresh)
            verdicts[experiment.id] = show(experiment, folder)
    return verdicts


def _run(experiment: Experiment, settings: Settings, folder: Path, run: Any, command: str, *, fresh: bool) -> None:
    cells_folder = folder / f".{experiment.id}-cells"
    columns = (TextColumn(experiment.id), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(experiment.id, total=len(experiment.cells(settings)))
        try:
            rows = sweep(
                experiment, settings, cells_folder, run, lambda number: progress.advance(task, number), fresh=fresh
            )
        except KeyboardInterrupt:
            progress.console.print("interrupted; run the same command again to continue after the finished cells")
            raise
    write_record(experiment, settings, command, rows, folder)
    forget(experiment, settings, cells_folder)


def show(experiment: Experiment, folder: Path) -> list[str]:
    """Print an experiment's verdicts, computed from its CSV, and return them."""
    record = read_record(experiment.id, folder)
    assert record is not None  # the record was written just now
    console = Console(highlight=False, width=min(80, Console().width))
    console.print(Text(f"{experiment.source}: {experiment.title}", style="bold"))
    verdicts = []
    for sentence in experiment.sentences:
        words, finding = sentence.judge(record.rows)
        verdicts.append(words)
        console.print()
        console.print(f'"{sentence.quote}" ({sentence.place})', markup=False)
        for line in (Text(words, style=_style(finding.draws)), Text(sentence.measure), Text(finding.reason)):
            console.print(Padding(line, (0, 0, 0, 2)))
    console.print(f"\n{folder / experiment.id}.csv .json .png .svg\n", markup=False, soft_wrap=True)
    return verdicts


def _style(draws: list[bool]) -> str:
    return "green" if all(draws) else "yellow" if any(draws) else "red"
