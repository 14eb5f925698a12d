"""A saved model is the old one or the new one, whatever happens to its writer, and shows when it was changed."""

import errno
import json
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pgm_rnn import load_model, save_model
from pgm_rnn.emissions import Categorical, Gaussian, Joint
from pgm_rnn.emissions.registry import FAMILIES
from pgm_rnn.files import in_turn
from pgm_rnn.models import HMM, NoisyRNN
from pgm_rnn.storage import DESCRIPTION, TENSORS, StorageError, describe
from pgm_rnn.storage.arguments import as_json
from tests.fresh import with_torch
from tests.instances import assert_same
from tests.storage.earlier import in_version_1, without_digests

ROOT = Path(__file__).parents[2]


def model(seed: int) -> HMM:
    return HMM.random(2, 3, seed=seed)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Kills.


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("kills")
    done = with_torch().module("tests.storage.killed", str(folder), folder=ROOT)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
@pytest.mark.parametrize(
    ("name", "loaded"),
    [
        ("new", {"1", "expected a saved model in a folder, got no file PLACE/model.json; save_model writes them"}),
        ("today", {"0", "1"}),
        ("yesterday", {"0", "1"}),
    ],
)
def test_a_save_that_is_killed_at_any_step_leaves_the_old_or_the_new_model(
    name: str, loaded: set[str], kills: dict[str, Any]
) -> None:
    """Both are seen, so that the kills do lie on either side of the change; the next save leaves two files alone."""
    assert kills[name]["kills"] > 10
    assert set(kills[name]["seen"]) == loaded | {f"{DESCRIPTION} {TENSORS}"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
@pytest.mark.parametrize(("name", "loaded"), [("published new", {"nothing", "1"}), ("published again", {"0", "1"})])
def test_a_publication_that_is_killed_at_any_step_leaves_the_old_or_the_new_entry(
    name: str, loaded: set[str], kills: dict[str, Any]
) -> None:
    assert kills[name]["kills"] > 20
    assert set(kills[name]["seen"]) == loaded


# Errors.


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("number", range(5))
def test_a_save_that_fails_leaves_what_was_there(
    number: int, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of the times that the system is asked to write down something, the first three before the change."""
    save_model(model(0), tmp_path / "model")
    for name in ("model", "new"):
        calls = iter(range(1000))

        def fail(descriptor: int, calls: Iterator[int] = calls) -> None:
            if next(calls) == number:
                raise error

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(type(error), match=r"No space left on device|^$"):
                save_model(model(1), tmp_path / name)
        if name == "new" and number < 3:
            assert names(tmp_path) == {"model"}
            continue
        assert_same(load_model(tmp_path / name).state_dict(), model(int(number >= 3)).state_dict())
        assert names(tmp_path / name) == {TENSORS, DESCRIPTION}


def test_a_full_disk_is_an_oserror_and_the_model_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model(0), tmp_path / "model")
    fitted, write = model(1), Path.open

    def full(path: Path, mode: str = "r", *others: Any) -> Any:
        if "w" in mode:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, mode, *others)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space left on device"):
            save_model(fitted, tmp_path / "model")
    assert_same(fitted.state_dict(), model(1).state_dict())
    assert_same(load_model(tmp_path / "model").state_dict(), model(0).state_dict())
    assert names(tmp_path / "model") == {TENSORS, DESCRIPTION}


def test_what_a_killed_save_left_is_no_reason_to_refuse_a_folder(tmp_path: Path) -> None:
    digest = "0123456789abcdef"
    leavings = [".lock", f".model-{digest}.safetensors", f"..model-{digest}.safetensors.new", ".model.json.new"]
    for name in leavings:
        (tmp_path / name).write_bytes(b"half")
    save_model(model(0), tmp_path)
    assert names(tmp_path) == {TENSORS, DESCRIPTION}
    (tmp_path / ".model.notes").write_text("mine")  # no leaving of a save
    with pytest.raises(ValueError, match="expected a new folder or one that holds a saved model"):
        save_model(model(1), tmp_path)
    assert (tmp_path / ".model.notes").read_text() == "mine"


def test_an_earlier_model_stays_where_it_must_not_be_overwritten(tmp_path: Path) -> None:
    save_model(model(0), tmp_path / "model", overwrite=False)
    with pytest.raises(FileExistsError, match=r"expected a new folder, got .*model, which holds a saved model"):
        save_model(model(1), tmp_path / "model", overwrite=False)
    assert_same(load_model(tmp_path / "model").state_dict(), model(0).state_dict())


# Writers and readers side by side.


def test_writers_wait_for_each_other_and_readers_see_whole_models(tmp_path: Path) -> None:
    """Digests of half a model would not fit, and a folder in change would miss a file."""
    place, failed = tmp_path / "model", list[BaseException]()
    save_model(model(0), place)
    drawn = [model(seed) for seed in range(3)]  # here: threads share the generator that they are drawn with
    expected = [found.transition_logits for found in drawn]

    def work(action: Callable[[int], object]) -> None:
        try:
            for number in range(12):
                action(number)
        except BaseException as error:
            failed.append(error)

    def reads(number: int) -> None:
        found = load_model(place)
        assert isinstance(found, HMM)
        assert any(torch.equal(found.transition_logits, logits) for logits in expected)

    actions = [lambda number: save_model(drawn[1], place), lambda number: save_model(drawn[2], place), reads]
    threads = [threading.Thread(target=work, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert names(place) == {TENSORS, DESCRIPTION}
    assert names(tmp_path) == {"model"}


def test_a_writer_that_keeps_a_folder_too_long_is_an_error_for_the_next(tmp_path: Path) -> None:
    with (
        in_turn(tmp_path / "model"),
        pytest.raises(BlockingIOError, match="expected a folder that no other process keeps writing to, got"),
        in_turn(tmp_path / "model", seconds=0.05),
    ):
        pass
    assert not (tmp_path / "model").exists()


# Digests.


def test_a_flipped_bit_anywhere_in_the_numbers_is_an_error(tmp_path: Path) -> None:
    save_model(model(0), tmp_path / "model")
    path = tmp_path / "model" / TENSORS
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        with pytest.raises(StorageError, match=r"^expected [^\n]*$"):
            load_model(tmp_path / "model")
    path.write_bytes(content[:-8] + bytes(8))
    with pytest.raises(
        StorageError, match=r"safetensors as it was saved together with model\.json, got one that was changed or"
    ):
        load_model(tmp_path / "model")


def test_an_option_that_was_changed_and_fits_all_the_same_is_an_error(tmp_path: Path) -> None:
    """Another activation has the same tensors and another law."""
    save_model(NoisyRNN.random(2, 3, activation="relu"), tmp_path / "model")
    path = tmp_path / "model" / DESCRIPTION
    content = json.loads(path.read_text())
    assert content["arguments"]["activation"] == "relu"
    content["arguments"]["activation"] = "tanh"
    path.write_text(json.dumps(content))
    with pytest.raises(StorageError, match=r"expected the model's name, arguments and dtype in .* as they were saved"):
        load_model(tmp_path / "model")
    content["arguments"]["activation"], content["info"] = "relu", {"looked at by": "a reader"}  # notes may be added
    path.write_text(json.dumps(content, indent=7))
    load_model(tmp_path / "model")
    assert describe(tmp_path / "model").info == {"looked at by": "a reader"}


def test_a_model_that_was_saved_without_digests_loads(tmp_path: Path) -> None:
    save_model(model(0), tmp_path / "model")
    without_digests(tmp_path / "model")
    assert_same(load_model(tmp_path / "model").state_dict(), model(0).state_dict())


@pytest.mark.parametrize("digests", [3, [], {"tensors": 3}, {"tensors": None}, {"other": "0"}])
def test_digests_of_another_kind_are_an_error(digests: object, tmp_path: Path) -> None:
    save_model(model(0), tmp_path / "model")
    path = tmp_path / "model" / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": digests}))
    with pytest.raises(StorageError, match=r"expected tensors, law under 'sha256' in .*, got other entries"):
        load_model(tmp_path / "model")


# Numbers.


def test_nan_is_neither_saved_nor_loaded(tmp_path: Path) -> None:
    broken = model(0)
    save_model(broken, tmp_path / "model")
    path = tmp_path / "model" / DESCRIPTION
    content = in_version_1(json.loads(path.read_text()))
    with torch.no_grad():
        broken.transition_logits[0, 1] = torch.nan
    with pytest.raises(
        ValueError, match=r"expected numbers in transition_logits of the model, got NaN in 1 of 4 places"
    ):
        save_model(broken, tmp_path / "other")
    assert names(tmp_path) == {"model"}
    from safetensors.torch import save_file

    save_file(broken.state_dict(), tmp_path / "model" / TENSORS)
    path.write_text(json.dumps(content))
    with pytest.raises(
        StorageError, match=r"expected numbers in transition_logits of .*safetensors, got NaN in 1 of 4"
    ):
        load_model(tmp_path / "model")


def test_numbers_beyond_half_precision_are_not_stored_as_infinity(tmp_path: Path) -> None:
    large = model(0)
    with torch.no_grad():
        large.initial_logits[0] = 1e5
    with pytest.raises(
        ValueError, match="expected numbers up to 65504 for half precision, got larger ones in initial_"
    ):
        save_model(large, tmp_path / "model", half=True)
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_states": 10**9}, "expected num_states to fit the 12 entries of the model's tensors, got 1000000000"),
        ({"emission": as_json(Categorical(10**12), FAMILIES)}, "expected num_symbols to fit the 12 entries"),
        (
            {"emission": as_json(Joint([Gaussian(), Categorical(10**12)]), FAMILIES)},
            "expected num_symbols to fit the 12 entries",
        ),
        ({"num_states": 1e999}, "that this version can follow"),
        ({"num_states": [2]}, "that this version can follow"),
    ],
)
def test_sizes_that_no_memory_holds_are_an_error_before_any_is_asked_for(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_model(model(0), tmp_path / "model")
    path = tmp_path / "model" / DESCRIPTION
    content = json.loads(path.read_text())
    content["arguments"] |= options
    path.write_text(json.dumps(content))
    with pytest.raises(StorageError, match=message):
        load_model(tmp_path / "model")


def test_notes_that_are_no_notes_are_an_error(tmp_path: Path) -> None:
    save_model(model(0), tmp_path / "model")
    path = tmp_path / "model" / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"info": []}))
    with pytest.raises(StorageError, match=r"expected info by name, as a JSON object, in .*, got list"):
        load_model(tmp_path / "model")


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_both_files_can_be_read_by_those_whom_the_umask_lets(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save_model(model(0), tmp_path / "model")
    finally:
        os.umask(before)
    for name in (TENSORS, DESCRIPTION):
        assert stat.S_IMODE((tmp_path / "model" / name).stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_both_files_can_be_read_by_the_same_people(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save_model(HMM.random(2, 3, seed=0), tmp_path / "mine")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "mine").iterdir()}
    assert modes == dict.fromkeys(("model.json", "model.safetensors"), 0o666 & ~mask)
