"""No fit is lost: an earlier one is not replaced unasked, and one that cannot be saved or scored is kept somewhere."""

import errno
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgm_rnn import load_model, save_model
from pgm_rnn.emissions import Gaussian
from pgm_rnn.files import write_whole
from pgm_rnn.inference import em
from pgm_rnn.inference.svi import checkpoints as files_of_checkpoints
from pgm_rnn.inference.svi.metrics import Metrics
from pgm_rnn.models import HMM
from pgm_rnn.report import material
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.storage import describe, models
from pgm_rnn.storage import folder as files
from pgm_rnn.storage.tensors import in_half
from tests.instances import assert_same, of_sequences
from tests.test_cli import call

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]
HMM_FIT = "fit hmm --data synthetic-hmm --num-states 2 --iterations 2 --restarts 1"
COUNTS = "fit markov-chain --data synthetic-hmm"
RUN = "fit rnn --data synthetic-hmm --cell gru --hidden-dim 2 --epochs 1"
LABELS = "fit bidirectional-rnn --data synthetic-hmm --hidden-dim 2 --epochs 1 --batch-size 2000"
MANY = "fit lgssm --data many.npy --latent-dim 1 --iterations 2"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_synthetic_sequences: None) -> None:
    """An empty folder as the present one, and float32 as in a fresh interpreter."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    np.save("many.npy", np.random.default_rng(0).normal(size=(8, 6, 2)))


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


# Earlier fits.


@pytest.mark.parametrize("command", [HMM_FIT, COUNTS, RUN, LABELS, MANY])
def test_an_earlier_fit_is_not_replaced_unasked(command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    earlier = HMM.random(3, 2, seed=0)
    save_model(earlier, "out", info={"who": "me"})
    before = contents("out")
    assert call(monkeypatch, *command.split(), "--output", "out") == 2
    captured = capsys.readouterr()
    assert (
        "expected a new folder for the fit, got out, which holds an earlier one; choose another with --output, or "
        in (captured.err)
    )
    assert (captured.out, captured.err.count("\n")) == ("", 1)  # before any work
    assert contents("out") == before
    assert call(monkeypatch, *command.split(), "--output", "out", "--overwrite") == 0
    assert describe("out").info["data"] in ("synthetic-hmm", "many.npy")


@pytest.mark.parametrize("option", ["--sequence", "--time"])
def test_a_misspelt_column_is_said_before_the_folder(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    save_model(HMM.random(3, 2, seed=0), "out")
    Path("river.csv").write_text("site,flow\na,1.5\na,2.5\n")
    command = ["fit", "hmm", "--data", "river.csv", "--num-states", "2", "--output", "out", option]
    assert call(monkeypatch, *command, "sight") == 2
    assert f"expected {option} to be one of site, flow, got 'sight'" in capsys.readouterr().err
    assert call(monkeypatch, *command, "site") == 2
    assert "got out, which holds an earlier one" in capsys.readouterr().err


def test_the_folder_that_a_fit_names_itself_is_kept_too(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert call(monkeypatch, *HMM_FIT.split()) == 0
    before = contents("fits/hmm-synthetic-hmm-2")
    assert call(monkeypatch, *HMM_FIT.split(), "--seed", "1") == 2
    assert "got fits/hmm-synthetic-hmm-2, which holds an earlier one" in capsys.readouterr().err
    assert contents("fits/hmm-synthetic-hmm-2") == before


def test_a_fit_that_comes_first_in_the_meantime_stays(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Two runs find the folder free and end one after the other: the second is kept beside."""
    other, fit = HMM.random(3, 2, seed=0), em.fit

    def slow(*arguments: Any, **options: Any) -> em.EmFit:
        save_model(other, "out")
        return fit(*arguments, **options)

    monkeypatch.setattr(em, "fit", slow)
    assert call(monkeypatch, *HMM_FIT.split(), "--output", "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    (beside,) = re.findall(r"which holds a saved model; .*; the fitted model is saved in (out-\w+); move it", error)
    assert_same(load_model("out").state_dict(), other.state_dict())
    assert load_model(beside).num_states == 2


def test_a_run_that_goes_on_replaces_what_it_saved_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with_checkpoints = [*RUN.split(), "--checkpoint", "run", "--output", "out"]
    assert call(monkeypatch, *with_checkpoints) == 0
    first = load_model("out").state_dict()
    assert call(monkeypatch, *with_checkpoints) == 2
    assert call(monkeypatch, *with_checkpoints, "--resume") == 0  # the same command again, as after a kill
    assert_same(load_model("out").state_dict(), first)
    other = [*RUN.split(), "--checkpoint", "other", "--output", "out", "--resume"]
    assert call(monkeypatch, *other) == 2
    assert "got out, which holds an earlier one" in capsys.readouterr().err.splitlines()[-1]
    save_model(HMM.random(2, 3), "out")
    assert call(monkeypatch, *with_checkpoints, "--resume") == 2
    assert load_model("out").recipe[0] == "hmm"


# Fits that cannot be saved.


def full_at(*names: str) -> Any:
    """`write` of saved models, with a full disk under some folders."""
    write = files.write

    def full(folder: Path, described: bytes, packed: bytes, *, overwrite: bool) -> None:
        if any(folder.is_relative_to(Path(name).resolve()) for name in names):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        write(folder, described, packed, overwrite=overwrite)

    return full


def test_a_full_disk_leaves_the_fit_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr(files, "write", full_at("."))
    assert call(monkeypatch, *HMM_FIT.split(), "--output", "out") == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    (place,) = re.findall(r"No space left on device: .*; the fitted model is saved in (\S+); move it", captured.err)
    assert Path(place).is_relative_to(tmp_path / "scratch")
    assert "stopped by num_iterations" in captured.out
    assert describe(place).info["scores"][0]["split"] == "train"
    assert load_model(place).num_states == 2


def test_a_fit_that_no_disk_takes_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(files, "write", full_at("/"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    assert call(monkeypatch, *HMM_FIT.split(), "--output", "out") == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert (
        "; the fitted model could not be saved elsewhere either; make room and fit again (--checkpoint would keep"
        in error
    )
    assert error.count("\n") == 1
    assert not list((tmp_path / "scratch").iterdir())
    assert not Path("out").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="modes of folders, which mean nothing to root")
def test_a_folder_that_cannot_be_written_to_is_an_error_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    save_model(HMM.random(3, 2), "out")
    Path("out").chmod(0o555)
    assert call(monkeypatch, *HMM_FIT.split(), "--output", "out", "--overwrite") == 2
    assert "cannot write to" in capsys.readouterr().err
    Path("out").chmod(0o755)


@pytest.mark.parametrize("error", [ValueError("expected finite numbers, got others"), KeyboardInterrupt()])
def test_a_fit_whose_scores_fail_is_saved_all_the_same(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def failing(model: SequenceModel, split: str, data: object) -> None:
        raise error

    monkeypatch.setattr(material, "_scored", failing)
    assert call(monkeypatch, *HMM_FIT.split(), "--output", "out") == (2 if isinstance(error, ValueError) else 130)
    assert "saved in out" in capsys.readouterr().out
    assert load_model("out").num_states == 2
    assert describe("out").info["scores"] == []
    assert call(monkeypatch, "publish", "out", "entry", "--failure-modes", "All.", "--into", "zoo") == 2
    assert "expected a model that pgm-rnn fit saved, got out without scores" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["hmm --num-states 2 --iterations 3 --restarts 2", "rnn --hidden-dim 2 --epochs 1"])
def test_a_fit_that_half_precision_cannot_hold_is_kept_in_full(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    np.save("far.npy", np.random.default_rng(0).normal(1e6, 1, size=(9, 6, 1)))
    if command.startswith("rnn"):
        monkeypatch.setattr(models, "in_half", lambda name, value: in_half(name, value * 1e9))
    assert call(monkeypatch, "fit", *command.split(), "--data", "far.npy", "--half", "--output", "out") == 0
    found = capsys.readouterr().out
    assert "stored in full precision: expected numbers up to 65504 for half precision, got larger ones in " in found
    assert next(load_model("out").parameters()).dtype == torch.float64


# What is fitted.


def test_the_padding_of_a_file_is_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of padded series are those of the series by themselves, one after the other."""
    lengths = [12, 3, 7, 5, 9, 4, 6, 8, 10, 2]
    x = np.random.default_rng(0).normal(size=(10, 12, 2))
    for i, length in enumerate(lengths):
        x[i, length:] = 1e9
    np.savez("padded.npz", x=x, lengths=lengths)
    for command in ("hmm --num-states 2 --iterations 3 --restarts 2", "lgssm --latent-dim 1 --iterations 3"):
        fit = f"fit {command} --data padded.npz --output out --overwrite --json r.json"
        assert call(monkeypatch, *fit.split()) == 0
        model, scores = load_model("out"), json.loads(Path("r.json").read_text())["scores"]
        assert isinstance(model, SequenceModel)
        exact = [
            float(model.log_marginal_likelihood(torch.from_numpy(row[None, :n])).detach())
            for row, n in zip(x, lengths, strict=True)
        ]
        assert sum(score["num_steps"] for score in scores) == sum(lengths)
        assert (scores[-1]["split"], scores[-1]["num_steps"]) == ("test", 12)
        assert scores[-1]["nats_per_step"] == pytest.approx(-sum(exact[8:]) / 12, rel=1e-9)
        evaluation = "evaluate out --data padded.npz --json e.json"
        assert call(monkeypatch, *evaluation.split()) == 0
        whole = json.loads(Path("e.json").read_text())
        assert whole["nats_per_step"] == pytest.approx(-sum(exact) / sum(lengths), rel=1e-9)


def test_the_years_of_a_file_are_not_fitted(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    volumes = np.random.default_rng(0).normal(1000, 100, size=40).round()
    rows = "\n".join(f"{1871 + t},{volume:g}" for t, volume in enumerate(volumes))
    Path("nile.csv").write_text(f"year,volume\n{rows}\n")
    np.savetxt("volume.csv", volumes, header="volume", comments="")
    for name in ("nile", "volume"):
        fit = f"fit lgssm --data {name}.csv --latent-dim 1 --iterations 5"
        assert call(monkeypatch, *fit.split()) == 0
        assert ("1 variable (volume), times in year" in capsys.readouterr().out) == (name == "nile")
    assert_same(load_model("fits/lgssm-nile-1").state_dict(), load_model("fits/lgssm-volume-1").state_dict())
    assert describe("fits/lgssm-nile-1").info["file"]["columns"] == ["volume"]
    for model in ("nile", "volume"):
        assert call(monkeypatch, *f"forecast fits/lgssm-{model}-1 --data nile.csv --num-steps 1".split()) == 0
        captured = capsys.readouterr()
        assert captured.out.splitlines()[-1].split()[:2] == [str(1871 + 40), "volume"]
        assert captured.err == ""  # both know the name of their column
    both = "fit lgssm --data nile.csv --latent-dim 1 --iterations 5 --column year --column volume --output both"
    assert call(monkeypatch, *both.split()) == 0
    assert of_sequences(load_model("both")).family.event_shape == (2,)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit hmm --num-states 2 --data years.npz", "got years as well, which would not be used"),
        ("fit rnn --data large.npy --kind real", "expected numbers of size up to 1e+150 in column '1', got 1e+308"),
        ("fit lgssm --latent-dim 1 --data large.npy", "expected numbers of size up to 1e+150"),
        (
            "fit hmm --num-states 2 --data symbols.npy --emission categorical",
            "expected symbols below 1,000,000 in column '1', got 1e+18",
        ),
        (
            "evaluate single --data float.npy",
            "expected numbers up to 3.4e+38, the largest of the model's torch.float32, got 1e+39",
        ),
        ("evaluate symbols --data symbols.npy", "expected symbols below 1,000,000 in column '1'"),
    ],
)
def test_numbers_that_cannot_be_used_are_one_sentence(
    command: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    np.savez("years.npz", x=np.ones((3, 2)), years=np.arange(3))
    np.save("large.npy", np.array([1.0, 2.0, 1e308, -1e308, 5.0, 1.0, 2.0]))
    np.save("float.npy", np.array([[1.0, 1e39], [2.0, 0.0]]))
    np.save("symbols.npy", np.array([1.0, 0.0, 1e18, 2.0, 0.0, 2.0]))
    save_model(HMM.random(2, emission=Gaussian(2)).float(), "single")
    save_model(HMM.random(2, 3), "symbols")
    assert call(monkeypatch, *command.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


# A disk that is full while a fit goes on.


def full_from(number: int, method: Any) -> Any:
    """The same function until the call of this number, from 1, which finds the disk full, as a write says it."""
    calls = list[int]()

    def called(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return method(*arguments, **options)

    return called


GRADIENT = "fit rnn --data many.npy --cell gru --hidden-dim 2 --output out"


def test_a_disk_that_fills_up_with_metrics_costs_no_parameters(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert call(monkeypatch, *GRADIENT.split(), "--epochs", "3") == 0  # what is there after three epochs
    expected = load_model("out").state_dict()
    capsys.readouterr()
    monkeypatch.setattr(Metrics, "add", full_from(3, Metrics.add))
    assert call(monkeypatch, *GRADIENT.split(), "--overwrite", "--epochs", "9", "--metrics", "m.jsonl") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (
        "the fit could not continue, could not write m.jsonl: No space left on device; the parameters so far are"
        in error
    )
    assert "saved in out; make room or choose another place, and continue from its parameters with --start out" in error
    assert_same(load_model("out").state_dict(), expected)
    notes = describe("out").info
    assert (notes["stopped_by"], notes["epochs"]) == ("error", None)
    assert [score["split"] for score in notes["scores"]] == ["train", "valid", "test"]


def test_a_disk_that_fills_up_with_checkpoints_costs_no_parameters(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = f"{GRADIENT} --epochs 4 --checkpoint run --checkpoint-minutes 0"
    monkeypatch.setattr(files_of_checkpoints, "write_whole", naming_full_from(5))  # one before, two for each epoch
    assert call(monkeypatch, *run.split()) == 2
    error = capsys.readouterr().err
    assert f"the fit could not continue, could not write {Path.cwd()}/run/state-" in error
    assert (
        "the parameters so far are saved in out; make room or choose another place, and continue with --resume" in error
    )
    assert describe("out").info["stopped_by"] == "error"
    monkeypatch.setattr(files_of_checkpoints, "write_whole", write_whole)
    assert call(monkeypatch, *run.split(), "--resume") == 0
    assert describe("out").info["epochs"] == 4


def naming_full_from(number: int) -> Any:
    """`write_whole`, whose call of this number finds the disk full when it flushes."""
    calls, real = list[int](), os.fsync

    def written(path: Path, content: bytes) -> None:
        calls.append(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pgm_rnn.files.os.fsync", full_from(1, real) if len(calls) == number else real)
            write_whole(path, content)

    return written


def test_a_disk_that_is_full_before_the_first_step_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(files_of_checkpoints, "write_whole", naming_full_from(1))
    assert call(monkeypatch, *GRADIENT.split(), "--checkpoint", "run") == 2
    assert re.search(
        r"could not use \S+/run/state-\w+.safetensors: No space left .*; make room", capsys.readouterr().err
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "make room or"), (errno.EROFS, "choose another place"), (errno.EISDIR, "choose another place")],
)
def test_what_cannot_be_written_is_named(
    code: int, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert call(monkeypatch, *MANY.split(), "--output", "m") == 0
    capsys.readouterr()

    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("pgm_rnn.files.os.replace", refused)
    monkeypatch.setattr("pgm_rnn.report.records.os.replace", refused)
    for command, name in (
        ("sample m --out s.npz", "s.npz"),
        ("forecast m --data many.npy --num-steps 2 --num-samples 3 --out f.npz", "f.npz"),
        ("evaluate m --data many.npy --json e.json", "e.json"),
        ("publish m entry --failure-modes some --into zoo", "zoo/"),
    ):
        assert call(monkeypatch, *command.split()) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert re.search(rf"could not use \S*{name}\S*: {os.strerror(code)}; {remedy}", error)
        assert not list(Path().glob(".*"))
