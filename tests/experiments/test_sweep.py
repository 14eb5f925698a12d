"""Sweeps: the same rows wherever, whenever and in whatever order cells run."""

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from typing_extensions import override

from pgm_rnn.experiments.experiment import Cell, Experiment, Row, Rows
from pgm_rnn.experiments.figure_5 import Figure5
from pgm_rnn.experiments.settings import Settings
from pgm_rnn.experiments.sweep import Done, Plan, forget, run_cell, sweep, workers
from pgm_rnn.files import held

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Dice(Experiment):
    """A cell is two numbers from its own seed."""

    id = "dice"
    settings = quick = Settings(replicates=6, num_states=(2, 3))

    @override
    def cells(self, settings: Settings) -> list[Cell]:
        return [Cell("throw", m, 1, group) for m in settings.num_states for group in settings.replicate_groups()]

    @override
    def run(self, settings: Settings, cell: Cell) -> list[Row]:
        generator = torch.Generator().manual_seed(settings.seed_of(*cell))
        value = float(torch.rand(1, generator=generator))
        return [{"num_states": cell.num_states, "replicate": cell.replicates[0], "value": value}]

    @override
    def draw(self, rows: Rows) -> "Figure":
        raise NotImplementedError


def in_order(experiment: Experiment, settings: Settings, cells: list[Cell]) -> Iterator[Done]:
    return (run_cell(experiment, settings, cell) for cell in cells)


def shuffled(experiment: Experiment, settings: Settings, cells: list[Cell]) -> Iterator[Done]:
    return in_order(experiment, settings, random.Random(0).sample(cells, len(cells)))


def test_rows_do_not_depend_on_the_order_in_which_cells_run(tmp_path: Path) -> None:
    dice = Dice()
    expected = sweep(dice, dice.settings, tmp_path / "a", in_order)
    assert sweep(dice, dice.settings, tmp_path / "b", shuffled) == expected
    assert [(row["num_states"], row["replicate"]) for row in expected] == [(m, r) for m in (2, 3) for r in range(6)]
    assert sweep(dice, dataclasses.replace(dice.settings, seed=1), tmp_path / "c", in_order) != expected


def test_an_interrupted_sweep_goes_on_and_runs_no_finished_cell_again(tmp_path: Path) -> None:
    dice = Dice()
    ran: list[Cell] = []
    counts: list[int] = []

    def interrupted(experiment: Experiment, settings: Settings, cells: list[Cell]) -> Iterator[Done]:
        for cell in cells[:5]:
            ran.append(cell)
            yield run_cell(experiment, settings, cell)
        raise KeyboardInterrupt

    def counted(experiment: Experiment, settings: Settings, cells: list[Cell]) -> Iterator[Done]:
        ran.extend(cells)
        return in_order(experiment, settings, cells)

    with pytest.raises(KeyboardInterrupt):
        sweep(dice, dice.settings, tmp_path / "a", interrupted)
    rows = sweep(dice, dice.settings, tmp_path / "a", counted, counts.append)
    assert sorted(ran) == sorted(dice.cells(dice.settings))
    assert counts == [5] + [1] * 7
    assert rows == sweep(dice, dice.settings, tmp_path / "b", in_order)


def test_an_unfinished_sweep_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    dice = Dice()
    sweep(dice, dice.settings, tmp_path, in_order)
    with pytest.raises(ValueError, match="got others: seed 0 then and 1 now; use them, choose another --out, or begin"):
        sweep(dice, dataclasses.replace(dice.settings, seed=1), tmp_path, in_order)


def test_fewer_draws_are_finished_from_the_cells_of_more_and_leave_the_others(tmp_path: Path) -> None:
    dice = Dice()
    few = dataclasses.replace(dice.settings, replicates=2)
    rows = sweep(dice, dice.settings, tmp_path, in_order)

    def none_missing(experiment: Experiment, settings: Settings, cells: list[Cell]) -> Iterator[Done]:
        assert not cells
        return iter(())

    assert sweep(dice, few, tmp_path, none_missing) == [row for row in rows if int(row["replicate"]) < 2]
    forget(dice, few, tmp_path)
    assert len(list(tmp_path.glob("throw-*.json"))) == 2 * 4
    forget(dice, dice.settings, tmp_path)
    assert not tmp_path.exists()


def test_a_fresh_sweep_forgets_the_old_one(tmp_path: Path) -> None:
    dice = Dice()
    other = dataclasses.replace(dice.settings, seed=1)
    sweep(dice, dice.settings, tmp_path / "a", in_order)
    assert sweep(dice, other, tmp_path / "a", in_order, fresh=True) == sweep(dice, other, tmp_path / "b", in_order)


def test_two_processes_do_not_share_a_sweep(tmp_path: Path) -> None:
    dice = Dice()
    with held(tmp_path), pytest.raises(BlockingIOError, match="expected a folder that no other run is using"):
        sweep(dice, dice.settings, tmp_path, in_order, fresh=True)


def test_a_cell_that_was_not_written_whole_is_not_there(tmp_path: Path) -> None:
    dice = Dice()
    rows = sweep(dice, dice.settings, tmp_path, in_order)
    cell = tmp_path / f"{dice.cells(dice.settings)[0].name}.json"
    cell.rename(cell.with_name(f".{cell.name}.new"))  # as a killed write leaves it
    assert sweep(dice, dice.settings, tmp_path, in_order) == rows
    assert json.loads(cell.read_text()) == [rows[0]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backend": "spark"}, "expected backend to be one of local, dask, got 'spark'"),
        ({"backend": "dask"}, "expected the scheduler's address with --backend dask"),
        ({"scheduler": "tcp://here:1"}, "expected --scheduler only with --backend dask"),
        ({"jobs": 0}, "expected jobs to be a number of processes, or -1 for one per core, got 0"),
    ],
)
def test_plans_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**wrong)  # type: ignore[arg-type]


QUICK = dataclasses.replace(Figure5.quick, num_updates=5)


def test_local_processes_give_the_rows_of_this_one(tmp_path: Path) -> None:
    dice = Dice()
    expected = sweep(dice, dice.settings, tmp_path / "a", in_order)
    with workers(Plan(jobs=2)) as run:
        assert sweep(dice, dice.settings, tmp_path / "b", run) == expected


@pytest.mark.filterwarnings("default")  # distributed closes its sockets late
def test_a_dask_cluster_of_two_workers_gives_the_rows_of_a_plain_run(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    figure = Figure5()
    expected = sweep(figure, QUICK, tmp_path / "a", in_order)
    # Workers that are threads share torch's random state and its default dtype: cells must take turns.
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options, local_directory=str(tmp_path / "dask")) as cluster,
        workers(Plan("dask", scheduler=cluster.scheduler_address)) as run,
    ):
        assert sweep(figure, QUICK, tmp_path / "b", run) == expected


@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("pgm_rnn.experiments.sweep.CONNECT_SECONDS", 0.2)
    plan = Plan("dask", scheduler="tcp://127.0.0.1:1")
    with (
        pytest.raises(ConnectionError, match=r"expected a Dask scheduler at tcp://127.0.0.1:1, got no answer"),
        workers(plan),
    ):
        pass
