"""Two processes fit as one does, and a process that is lost ends the others."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from pgm_rnn import load_model
from pgm_rnn.inference.svi.processes import Processes
from tests.fresh import with_all
from tests.inference import several

ROOT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="needs gloo"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote."""
    place = tmp_path_factory.mktemp("several")
    done = with_all().module("tests.inference.several", str(place), folder=ROOT)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def found(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(("task", "fit"), [("exact", several.exact), ("labelled", several.labelled)])
def test_two_processes_have_the_loss_curve_of_one_on_the_same_minibatches(
    task: str, fit: Callable[..., Any], found: list[dict[str, Any]]
) -> None:
    expected = several.written(fit())
    history = torch.tensor(expected["history"])
    assert expected["best"] == found[0][task]["best"]
    # Sums of about a hundred numbers in another order, and Adam, which divides by a gradient's size.
    torch.testing.assert_close(torch.tensor(found[0][task]["history"]), history, rtol=1e-9, atol=0.0)
    for name, value in expected["parameters"].items():
        parameter = torch.tensor(found[0][task]["parameters"][name])
        torch.testing.assert_close(parameter, torch.tensor(value), rtol=1e-7, atol=1e-9)
    other = several.written(fit(seed=1))  # another order of the data is another curve
    assert (torch.tensor(other["history"])[:, 1] - history[:, 1]).abs().max() > 1e-4


@pytest.mark.parametrize("task", ["exact", "labelled", "drawn", "whole", "again"])
def test_the_processes_end_with_identical_parameters(task: str, found: list[dict[str, Any]]) -> None:
    assert found[0][task] == found[1][task]


def test_draws_of_two_processes_follow_the_law_of_ones(found: list[dict[str, Any]]) -> None:
    one = several.written(several.drawn())
    first, last = found[0]["drawn"]["history"][0], found[0]["drawn"]["history"][-1]
    assert first[1] != one["history"][0][1]
    assert first[1] == pytest.approx(one["history"][0][1], rel=0.2)
    assert last[2] < first[2]


def test_a_checkpoint_of_several_processes_changes_nothing_and_is_gone_on_from(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["whole"] == each["again"] == each["drawn"]


def test_the_first_process_alone_writes(folder: Path) -> None:
    epochs = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4, 5, 6]
    (tensors,) = (folder / "run").glob("state-*.safetensors")
    assert {path.name for path in (folder / "run").iterdir()} == {"checkpoint.json", "lock", tensors.name}


def test_what_is_wrong_for_one_process_is_an_error_in_each(folder: Path) -> None:
    for rank in range(2):
        differing, present, other = json.loads((folder / f"errors-{rank}.json").read_text())
        assert differing.startswith("ValueError: expected the same model, data and options in every process")
        assert present.startswith("CheckpointError: expected a new folder for a new run")
        assert "with another seed: 0 there, 5 here" in other


@pytest.mark.nightly
def test_the_command_line_fits_with_two_processes_and_saves_once(tmp_path: Path) -> None:
    arguments = "fit rnn --data few.npy --cell gru --hidden-dim 2 --epochs 1 --batch-size 10 --output"
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(40, 8, 2)))
    command = [sys.executable, *TORCHRUN, "-m", "pgm_rnn", *arguments.split(), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved in") == 1
    load_model(tmp_path / "out")


def test_a_process_that_dies_or_hangs_ends_the_others_with_an_error(folder: Path) -> None:
    found = json.loads((folder / "lost.json").read_text())
    assert len(found) == 2
    for said in found:
        assert said.startswith(
            "ProcessLostError: expected every process of the run to answer, got no answer from one that has ended or "
            "hangs; see its own error"
        )


def test_a_process_alone_needs_nobody() -> None:
    processes, index = Processes(torch.device("cpu")), torch.arange(5)
    assert (processes.rank, processes.size) == (0, 1)
    assert processes.part(index) is not None
    assert torch.equal(processes.part(index), index)
    assert list(processes.totals(1.5, 2.0)) == [1.5, 2.0]
    assert processes.from_first(b"content") == b"content"
