"""A run that is killed and goes on ends with the same bits; what is no checkpoint of the run is an error."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pgm_rnn import files
from pgm_rnn.emissions import Categorical, Gaussian
from pgm_rnn.inference import svi
from pgm_rnn.inference.svi.checkpoints import CHECKPOINT, CheckpointError, Checkpoints, State
from pgm_rnn.inference.svi.training import Run
from pgm_rnn.sequences import as_sequences
from tests.fresh import with_all
from tests.inference import killed
from tests.inference.fits import SYMBOLS, data, fit, state
from tests.instances import assert_same, make_rnn

ROOT = Path(__file__).parents[2]
Folder = Path


def content(folder: Path) -> dict[str, Any]:
    """Of a checkpoint, without what a clock said; tensors are there by their SHA-256."""
    found: dict[str, Any] = json.loads((folder / CHECKPOINT).read_text())["content"]
    found["history"] = [entry[:-1] for entry in found["history"]]
    del found["seconds"], found["metrics_bytes"]
    return found


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


def tensors_of(folder: Path) -> Path:
    (path,) = folder.glob("state-*.safetensors")
    return path


# A run that goes on.


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.nightly)])
def test_a_run_that_is_killed_again_and_again_ends_with_the_bits_of_one_that_was_not(
    kills: int, tmp_path: Path
) -> None:
    whole, dead = tmp_path / "whole", tmp_path / "dead"
    dead.mkdir()
    whole.mkdir()
    done = with_all().module("tests.inference.killed", str(dead), str(kills), folder=ROOT)
    assert done.stdout.split() == [str(kills)], done.stderr
    expected = killed.run(whole)
    assert sum(1 for _ in dead.iterdir()) >= 1
    for folder in dead.iterdir():
        found = killed.run(folder, resume=True)
        assert_same(state(found.model), state(expected.model))
        assert [entry[:-1] for entry in found.history] == [entry[:-1] for entry in expected.history]
        assert content(folder / "run") == content(whole / "run")  # optimiser, random states, best parameters
        assert lines(folder) == lines(whole)
        assert {path.name for path in (folder / "run").iterdir()} == {path.name for path in (whole / "run").iterdir()}


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    with_them = killed.run(tmp_path, num_epochs=3, kl_warmup=2)
    without = killed.run(tmp_path, None, num_epochs=3, kl_warmup=2)
    assert_same(state(with_them.model), state(without.model))


def test_data_are_known_again_whatever_their_strides(tmp_path: Path) -> None:
    x = torch.rand(4, 5, 2)[..., :1]
    for many in (x, x.contiguous(), x.mT.contiguous().mT):
        fit(make_rnn("gru", Gaussian(1)), as_sequences(many), checkpoint=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="with another training data"):
        fit(make_rnn("gru", Gaussian(1)), as_sequences(x + 1), checkpoint=tmp_path, resume=True)


class Lost(BaseException):
    """Ends a run without its knowing, as a test can."""


def broken(folder: Path, monkeypatch: pytest.MonkeyPatch, num_saves: int) -> None:
    """A run that ends before checkpoint `num_saves`, counted from 0."""
    saves, save = iter(range(10_000)), Run.save

    def saved(run: Run) -> None:
        if next(saves) == num_saves:
            raise Lost
        save(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", saved)
        with pytest.raises(Lost):
            killed.run(folder, num_epochs=2, kl_warmup=1)


@pytest.mark.slow
@pytest.mark.parametrize("num_saves", range(8))
def test_a_run_goes_on_from_each_of_its_checkpoints(
    num_saves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    killed.run(tmp_path / "whole", num_epochs=2, kl_warmup=1)
    broken(tmp_path, monkeypatch, num_saves)
    found = killed.run(tmp_path, resume=True, num_epochs=2, kl_warmup=1)
    assert found.stopped_by == "num_epochs"
    assert content(tmp_path / "run") == content(tmp_path / "whole" / "run")
    assert lines(tmp_path) == lines(tmp_path / "whole")


def test_a_run_that_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"valid": data(1), "num_epochs": 60, "learning_rate": 0.01, "patience": 4}
    first = fit(make_rnn("gru", SYMBOLS), checkpoint=tmp_path, **options)
    assert first.stopped_by == "patience"
    monkeypatch.setattr(Run, "step", None)
    again = fit(make_rnn("gru", SYMBOLS, seed=5), checkpoint=tmp_path, resume=True, **options)
    assert (again.history, again.best_epoch, again.stopped_by) == (first.history, first.best_epoch, "patience")
    assert_same(state(again.model), state(first.model))


def test_checkpoints_are_as_far_apart_as_asked_or_as_cheap_as_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("pgm_rnn.inference.svi.checkpoints.write_whole", lambda *_: clock.append(clock.pop() + 2))
    found = []
    for seconds in (60, 1000, 0):
        checkpoints = Checkpoints(tmp_path, seconds)
        clock[0] = 0.0
        assert checkpoints.is_due()
        checkpoints.save(State({}, {}))  # two files, 2 seconds each
        found.append(next(at for at in range(2000) if clock.__setitem__(0, float(at)) is None and checkpoints.is_due()))
    assert found == [404, 1004, 4]


# Bad input.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with the checkpoint of a run."""
    fit(make_rnn("gru", SYMBOLS), checkpoint=tmp_path / "run")
    return tmp_path / "run"


def resume(folder: Path, **options: Any) -> svi.Fit:
    return fit(options.pop("model", None) or make_rnn("gru", SYMBOLS), checkpoint=folder, resume=True, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": make_rnn("lstm", SYMBOLS)}, r"with another model: .rnn-gru .* there, .rnn-lstm .* here"),
        ({"model": make_rnn("gru", SYMBOLS, num_layers=2)}, "with another model"),
        ({"model": make_rnn("gru", SYMBOLS, first="condition")}, "with another model"),
        ({"model": make_rnn("gru", SYMBOLS).float()}, "with another shape"),
        ({"train": data(1)}, "with another training data"),
        ({"valid": data(1)}, "with another validation data: None there"),
        ({"learning_rate": 0.1}, "with another learning_rate: 0.001 there, 0.1 here"),
        ({"num_epochs": 4}, "with another num_epochs: 3 there, 4 here"),
        ({"seed": 1}, "with another seed: 0 there, 1 here"),
    ],
)
def test_a_checkpoint_of_another_run_is_an_error_that_says_what_differs(
    options: dict[str, Any], message: str, folder: Path
) -> None:
    model = options.get("model") or make_rnn("gru", SYMBOLS)
    before = state(model)
    with pytest.raises(CheckpointError, match=rf"(?s)expected a checkpoint of this run in .*{message}"):
        resume(folder, **{**options, "model": model})
    assert_same(before, state(model))


@pytest.mark.parametrize("version", ["pgm_rnn.inference.svi.run_state.__version__", "torch.__version__"])
def test_a_checkpoint_of_another_version_is_an_error(
    version: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "0.0.1")
    with pytest.raises(CheckpointError, match=r"with another version of .* there, '0.0.1' here"):
        resume(folder)


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


PICKLE = b"cos\nsystem\n(S'touch executed'\ntR."
"""Of a program that makes a file; nothing may ever run it."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "as it was written, got one that was changed or cut short"),
        (lambda content: content[: len(content) // 2], "as it was written, got one that was changed or cut short"),
        (lambda content: b"", "as it was written, got one that was changed or cut short"),
        (
            lambda content: content[:-1] + bytes([content[-1] ^ 1]),
            "as it was written, got one that was changed or cut short",
        ),
        (lambda content: PICKLE, "as it was written, got one that was changed or cut short"),
    ],
)
def test_tensors_that_were_changed_are_an_error(change: Callable[[bytes], bytes], message: str, folder: Path) -> None:
    rewrite(tensors_of(folder), change)
    with pytest.raises(CheckpointError, match=message):
        resume(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.replace(b'"num_steps": 6', b'"num_steps": 5'), "as it was written, got a changed one"),
        (lambda content: content[: len(content) // 2], "got something else"),
        (lambda content: b"", "got something else"),
        (lambda content: b"[" * 100_000, "got something else"),
        (lambda content: PICKLE, "got something else"),
        (
            lambda content: content.replace(b'"version": 1', b'"version": 2'),
            "expected version 1 of .*, got 2 in .*; update",
        ),
    ],
)
def test_a_description_that_was_changed_is_an_error(
    change: Callable[[bytes], bytes], message: str, folder: Path
) -> None:
    rewrite(folder / CHECKPOINT, change)
    with pytest.raises(CheckpointError, match=message):
        resume(folder)


def test_a_pickle_with_the_right_digest_is_no_safetensors_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgm_rnn.inference.svi.checkpoints.save", lambda tensors: PICKLE)
    found = json.loads((folder / CHECKPOINT).read_text())["content"]
    Checkpoints(folder, 0).save(State({}, found))
    with pytest.raises(CheckpointError, match=r"expected a safetensors file in .*, got one that cannot be read"):
        resume(folder)


def test_tensors_that_are_missing_are_an_error(folder: Path) -> None:
    tensors_of(folder).unlink()
    with pytest.raises(
        CheckpointError, match=r"expected state-.*safetensors beside checkpoint.json in .*, got no such file"
    ):
        resume(folder)


def test_a_checkpoint_with_other_tensors_is_an_error(folder: Path) -> None:
    found = json.loads((folder / CHECKPOINT).read_text())["content"]
    Checkpoints(folder, 0).save(State({"model.no_such": torch.zeros(1)}, found))
    with pytest.raises(
        CheckpointError,
        match=r"(?s)expected a complete checkpoint of this run in .*, got parts that do not fit together: ",
    ):
        resume(folder)


def test_a_checkpoint_is_never_overwritten_by_a_new_run(folder: Path) -> None:
    before = (folder / CHECKPOINT).read_bytes()
    with pytest.raises(CheckpointError, match=r"expected a new folder for a new run, got a checkpoint in .*; continue"):
        fit(make_rnn("gru", SYMBOLS), checkpoint=folder)
    assert (folder / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("num_writes", range(5))
def test_a_full_disk_leaves_the_former_checkpoint(
    num_writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsyncs, fsync = iter(range(1000)), os.fsync

    def full(descriptor: int) -> None:
        if next(fsyncs) >= 8 + num_writes:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            fit(make_rnn("gru", SYMBOLS), checkpoint=tmp_path, checkpoint_seconds=0)
    assert not list(tmp_path.glob(".*.new"))
    found = resume(tmp_path, checkpoint_seconds=0)
    assert_same(state(found.model), state(fit(make_rnn("gru", SYMBOLS)).model))


def test_two_runs_in_one_folder_are_an_error_for_the_second(tmp_path: Path) -> None:
    with (
        files.held(tmp_path),
        pytest.raises(BlockingIOError, match="expected a folder that no other run is using, got"),
    ):
        fit(make_rnn("gru", SYMBOLS), checkpoint=tmp_path)
    fit(make_rnn("gru", SYMBOLS), checkpoint=tmp_path)  # the lock was let go


def test_a_folder_that_cannot_be_made_is_an_error_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="expected a folder that can be made and written to"):
        fit(make_rnn("gru", SYMBOLS), checkpoint=tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True}, "expected checkpoint=FOLDER with resume=True, got none"),
        ({"checkpoint_seconds": -1}, "expected checkpoint_seconds to be a number of at least 0, got -1"),
        ({"checkpoint_seconds": "60"}, "expected checkpoint_seconds to be a number of at least 0, got '60'"),
    ],
)
def test_options_of_checkpoints_that_do_not_fit_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(make_rnn("gru", Categorical(3)), **options)


def test_metrics_that_are_not_the_runs_are_an_error(tmp_path: Path) -> None:
    killed.run(tmp_path, num_epochs=1, kl_warmup=0)
    for path, message in ((None, "of at least [0-9]+ bytes, got none"), (tmp_path / "other.jsonl", "got one of 0")):
        with pytest.raises(CheckpointError, match=message):
            killed.run(tmp_path, resume=True, num_epochs=1, kl_warmup=0, metrics=path)
