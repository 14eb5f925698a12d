"""A sweep: every cell of an experiment, run on local cores or on a Dask cluster, and kept on disk as it is finished.

A cell is a function of the settings alone, run on one thread, so a sweep's rows do not depend on where or in which
order its cells run. Each finished cell is one file that appears whole or not at all: an interrupted sweep, begun again
with the same settings, goes on from what is there.
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
"""How long a scheduler may take to answer."""


_TURN = threading.Lock()


@dataclass(frozen=True)
class Plan:
    """Where cells run.

    Attributes:
        backend: "local" for processes of this machine, "dask" for a cluster that exists.
        jobs: local processes; -1 for one per core, 1 for none beside this one.
        scheduler: the address of the cluster's scheduler.

    Raises:
        ValueError: an unknown backend, jobs that are no number of processes, or a scheduler missing or of no use.
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
            raise ValueError("expected --scheduler only with --backend dask, which says that cells run there")


def run_cell(experiment: Experiment, settings: Settings, cell: Cell) -> Done:
    """A cell and its rows; what is sent to a worker. Cells take turns where a worker has several threads.

    Torch's random state, default dtype and number of threads belong to the process.
    """
    with _TURN, reproducible():
        return cell, experiment.run(settings, cell)


@contextmanager
def workers(plan: Plan) -> Iterator[Callable[[Experiment, Settings, list[Cell]], Iterator[Done]]]:
    """A function that runs cells where the plan says and yields each as it is finished.

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
            f"expected a Dask scheduler at {scheduler}, nothing there answered within {CONNECT_SECONDS} s; start one "
            "with `dask scheduler`, or leave --backend out"
        ) from error
    with client:
        yield client


def check_host(address: str) -> None:
    """Raise an OSError where no machine has the name in a scheduler's address; Dask would look for it in vain."""
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
        experiment: what is run.
        settings: its sizes and seed.
        folder: of the cells, made if it is not there; the caller removes it when it has the rows.
        run: from `workers`.
        advance: called with the number of cells that are finished, found ones at once.
        fresh: throw away what is in the folder first.

    Raises:
        ValueError: the folder has cells of other settings.
        BlockingIOError: another process runs this sweep.
        OSError: the folder cannot be made or written to.
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
    then["replicates"] = now["replicates"]  # what a cell gives depends on the replicates in it alone
    different = [name for name in {**now, **then} if now.get(name) != then.get(name)]
    if different:
        changes = ", ".join(f"{name} {then.get(name)} then and {now.get(name)} now" for name in different)
        raise ValueError(
            f"expected the settings with which the unfinished sweep in {path.parent} was begun, got others: "
            f"{changes}; use them, choose another --out, or begin again with --fresh"
        )
