"""A sweep: all cells of an experiment, run on local cores or on a Dask cluster and stored on disk when finished.

A cell is a function of the settings alone, run on one thread, so the rows of a sweep do not depend on where or in which
order its cells run. Each finished cell is one file that is written whole or not at all: an interrupted sweep that is
started again with the same settings continues with the remaining cells.
"""

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from pgm_rnn.checks import check_choice
from pgm_rnn.experiments.experiment import Cell, Experiment, Row
from pgm_rnn.experiments.settings import Settings, reproducible
from pgm_rnn.files import held, write_whole

Done = tuple[Cell, list[Row]]

CONNECT_SECONDS = 10
"""Seconds that a scheduler may take to answer."""


_TURN = threading.Lock()


@dataclass(frozen=True)
class Plan:
    """The place where cells run.

    Attributes:
        backend: "local" for processes of this machine, "dask" for a running cluster.
        jobs: number of local processes; -1 for one per core, 1 for this process alone.
        scheduler: address of the cluster's scheduler.

    Raises:
        ValueError: an unknown backend, an invalid number of jobs, a missing scheduler, or one without "dask".
    """

    backend: str = "local"
    jobs: int = -1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        check_choice("backend", self.backend, ("local", "dask"))
        if self.jobs != -1 and self.jobs < 1:
            raise ValueError(f"expected jobs to be a number of processes, or -1 for one per core, got {self.jobs}")
        if self.backend == "dask" and self.scheduler is None:
            raise ValueError("expected the scheduler's address with --backend dask, as in --scheduler tcp://host:8786")
        if self.backend == "local" and self.scheduler is not None:
            raise ValueError("expected --scheduler only with --backend dask, got it with local; add --backend dask")


def run_cell(experiment: Experiment, settings: Settings, cell: Cell) -> Done:
    """A cell and its rows; this function is sent to workers. Cells take turns if a worker has several threads.

    Torch's random state, default dtype and number of threads belong to the process.
    """
    with _TURN, reproducible():
        return cell, experiment.run(settings, cell)


@contextmanager
def workers(plan: Plan) -> Iterator[Callable[[Experiment, Settings, list[Cell]], Iterator[Done]]]:
    """A function that runs cells where the plan says, and yields each as soon as it is finished.

    Raises:
        ConnectionError: the scheduler does not answer.
        ValueError: Dask is not installed.
    """
    import joblib

    def run(experiment: Experiment, settings: Settings, cells: list[Cell]) -> Iterator[Done]:
        if plan.backend == "local" and plan.jobs == 1:
            return (run_cell(experiment, settings, cell) for cell in cells)
        parallel = joblib.Parallel(n_jobs=plan.jobs, return_as="generator_unordered", batch_size=1)
        return parallel(joblib.delayed(run_cell)(experiment, settings, cell) for cell in cells)

    if plan.backend == "local":
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield run
        return
    with _client(plan.scheduler) as client, joblib.parallel_config("dask", client=client):
        yield run


@contextmanager
def _client(scheduler: str | None) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("expected Dask for --backend dask; install it: pip install 'pgm-rnn[experiments]'") from None
    try:
        check_host(str(scheduler))
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConnectionError(
            f"expected a Dask scheduler at {scheduler}, got no answer within {CONNECT_SECONDS} s; start one "
            "with `dask scheduler`, or leave --backend out"
        ) from error
    with client:
        yield client


def check_host(address: str) -> None:
    """Check that the host in a scheduler's address exists, because Dask would keep looking for it.

    Raises:
        OSError: no machine has this name.
    """
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme in ("tcp", "tls", "ws", "wss"):
        socket.getaddrinfo(parts.hostname, None)


def sweep(
    experiment: Experiment,
    settings: Settings,
    folder: Path,
    run: Callable[[Experiment, Settings, list[Cell]], Iterator[Done]],
    advance: Callable[[int], object] = lambda number: None,
    *,
    fresh: bool = False,
) -> list[Row]:
    """All rows of an experiment; finished cells are taken from `folder`, the others run and put there.

    Args:
        experiment: the experiment to run.
        settings: its sizes and seed.
        folder: folder of the cells, created if it is missing; the caller removes it afterwards.
        run: function from `workers` that runs cells.
        advance: function called with the number of cells finished; cells found on disk are counted at once.
        fresh: whether the cells in the folder are discarded first.

    Raises:
        ValueError: the folder has cells of other settings.
        BlockingIOError: another process runs this sweep.
        OSError: the folder cannot be created or written to.
    """
    cells = experiment.cells(settings)
    with held(folder):
        for path in folder.glob("*.json") if fresh else ():
            path.unlink()
        _check_same(folder / "settings.json", experiment, settings)
        missing = [cell for cell in cells if not _file(folder, cell).exists()]
        advance(len(cells) - len(missing))
        for cell, rows in run(experiment, settings, missing):
            write_whole(_file(folder, cell), json.dumps(rows).encode())
            advance(1)
        found = [json.loads(_file(folder, cell).read_text()) for cell in cells]
    return experiment.order(row for rows in found for row in rows)


def forget(experiment: Experiment, settings: Settings, folder: Path) -> None:
    """Remove a finished sweep's cells, and the folder unless it has others."""
    for cell in experiment.cells(settings):
        _file(folder, cell).unlink(missing_ok=True)
    if {path.name for path in folder.iterdir()} <= {"settings.json", "lock"}:
        shutil.rmtree(folder)


def _file(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.name}.json"


def _check_same(path: Path, experiment: Experiment, settings: Settings) -> None:
    """Write down what a sweep is run with; a ValueError if more than the number of draws has changed since."""
    now: dict[str, Any] = {"experiment": experiment.id, "torch": torch.__version__, **settings.as_json()}
    if not path.exists():
        write_whole(path, json.dumps(now, indent=2).encode())
        return
    then = json.loads(path.read_text())
    then["replicates"] = now["replicates"]  # a cell depends on its own replicates alone
    different = [name for name in {**now, **then} if now.get(name) != then.get(name)]
    if different:
        changes = ", ".join(f"{name} {then.get(name)} then and {now.get(name)} now" for name in different)
        raise ValueError(
            f"expected the settings with which the unfinished sweep in {path.parent} was begun, got others: "
            f"{changes}; use them, choose another --out, or begin again with --fresh"
        )
