"""`pgm-rnn reproduce`: files, and one sentence for what the caller got wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pgm_rnn.cli import app
from pgm_rnn.cli.reproduce import FIGURES
from pgm_rnn.experiments.experiment import Cell, Row
from pgm_rnn.experiments.registry import EXPERIMENTS
from pgm_rnn.experiments.settings import Settings

pytestmark = pytest.mark.slow

QUICK = ["--quick", "--jobs", "1", "--replicates", "1", "--updates", "2"]


def invoke(*arguments: str) -> None:
    """Run the command and let its error through."""
    CliRunner().invoke(app, ["reproduce", *arguments], catch_exceptions=False, standalone_mode=False)


def test_a_quick_reproduction_leaves_four_files_and_prints_verdicts(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    result = CliRunner().invoke(app, ["reproduce", "figure-5", *QUICK, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [f"figure-5.{end}" for end in ("csv", "json", "png", "svg")]
    assert "it cannot outperform this optimal prediction" in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines() if str(out) not in line)
    assert "--replicates 1 --updates 2 --quick" in (out / "figure-5.json").read_text()
    assert str(tmp_path) not in (out / "figure-5.json").read_text()


def test_the_help_names_every_experiment() -> None:
    assert f"Experiment: {', '.join(EXPERIMENTS)} or all." == FIGURES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure-8"], "expected figure to be one of figure-5, figure-6, .*got 'figure-8'; did you mean 'figure-"),
        (["figure-6", "--num-states", "1"], "expected m, the number of states, of at least 2, got 1"),
        (["figure-5", "--num-sequences", "0"], "expected n, the number of training sequences, of at least 1, got 0"),
        (["figure-5", "--replicates", "0"], "expected replicates to be an integer of at least 1, got 0"),
        (
            ["figure-5", "--backend", "dusk"],
            "expected backend to be one of local, dask, got 'dusk'; did you mean 'dask'",
        ),
        (["figure-5", "--hidden-dim", "20"], "expected 1 and more among k, .* for figure-5, got 20"),
        (["figure-5", "--num-states", "2", "--num-states", "3"], "expected one m, .* for figure-5, got 2, 3"),
        (["figure-6", "--num-states", "4"], "expected more than one m, the number of states, for figure-6 to compare"),
        (["all", "--num-states", "4"], "expected more than one m, the number of states, for figure-6 to compare"),
        (["figure-7", "--num-sequences", "9", "--num-sequences", "8"], "expected one n, .* for figure-7, got 9, 8"),
        (["infinite-data", "--num-sequences", "9"], "expected no n, the number of training sequences, for infinite-"),
        (["infinite-data", "--hidden-dim", "2"], "expected 1 and more among k, .* for infinite-data, got 2"),
        (["figure-5", "--backend", "dask"], "expected the scheduler's address with --backend dask"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(arguments: list[str], message: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        invoke(*arguments, *([] if "--replicates" in arguments else QUICK), "--out", str(out))
    assert not out.exists()


@pytest.mark.filterwarnings("default")  # distributed closes its sockets late
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere.invalid:8786", "nonsense"])
def test_an_unreachable_scheduler_is_one_sentence_and_leaves_nothing(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgm_rnn.experiments.sweep.CONNECT_SECONDS", 0.2)
    with pytest.raises(OSError, match=f"expected a Dask scheduler at {address}, got no answer"):
        invoke("figure-5", "--quick", "--backend", "dask", "--scheduler", address, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="expected a folder that can be made and written to, choose another one"):
        invoke("figure-5", *QUICK, "--out", str(tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_interrupted_run_says_how_it_goes_on_and_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure, ran = EXPERIMENTS["figure-5"], []
    run = figure.run

    def interrupted(settings: Settings, cell: Cell) -> list[Row]:
        ran.append(cell)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run(settings, cell)

    monkeypatch.setattr(figure, "run", interrupted)
    arguments = ["reproduce", "figure-5", *QUICK, "--out", str(tmp_path / "a")]
    stopped = CliRunner().invoke(app, arguments)
    assert stopped.exit_code == 130
    assert "run the same command again to continue after the finished cells" in stopped.stderr
    assert not list((tmp_path / "a").glob("*.csv"))
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert [ran.count(cell) for cell in dict.fromkeys(ran)] == [1, 2, 1]
    monkeypatch.undo()
    assert CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "b")]).exit_code == 0
    assert (tmp_path / "a" / "figure-5.csv").read_text() == (tmp_path / "b" / "figure-5.csv").read_text()


def test_errors_end_the_program_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgm_rnn", "reproduce", "figure5", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected figure to be one of")
    assert "did you mean 'figure-5'?" in done.stderr
    assert done.stderr.count("\n") == 1
