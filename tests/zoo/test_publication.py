"""An entry is published whole or not at all, and a damaged manifest or a foreign folder is one sentence."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pgm_rnn import load_model, save_model, zoo
from pgm_rnn.models import HMM
from pgm_rnn.storage import DESCRIPTION, StorageError
from pgm_rnn.zoo import entries
from pgm_rnn.zoo.publication import MANIFEST, put, read_manifest
from pgm_rnn.zoo.publish import publish
from tests.instances import assert_same
from tests.test_cli import call

NOTES: dict[str, Any] = {
    "data": "none",
    "description": "made up",
    "seed": 0,
    "command": "pgm-rnn fit hmm",
    "seconds": 0.0,
    "iterations": 1,
    "torch": "2",
    "pgm_rnn": "0",
    "stopped_by": "tolerance",
    "fit": {},
    "scores": [
        {
            "split": "test",
            "nats_per_step": 1.0,
            "standard_error": 0.0,
            "bound": "exact",
            "num_sequences": 1,
            "num_steps": 1,
        }
    ],
}


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    save_model(HMM.random(2, 3, seed=0), tmp_path / "fitted", NOTES)
    return tmp_path / "fitted"


@pytest.fixture
def home(fitted: Path, tmp_path: Path) -> Path:
    publish(fitted, "entry", "All of it.", tmp_path / "zoo")
    return tmp_path / "zoo"


def contents(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_nothing_but_entries_and_the_manifest_is_left(home: Path) -> None:
    assert {path.name for path in home.iterdir()} == {"entry", MANIFEST}
    assert {path.name for path in (home / "entry").iterdir()} == set(entries.FILES)
    entries.check_published("entry", entries.FILES, home)


@pytest.mark.parametrize("number", range(15))
def test_a_publication_that_fails_leaves_the_old_or_the_new_entry(
    number: int, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(HMM.random(2, 3, seed=1), tmp_path / "new", NOTES)
    calls, fsync = iter(range(1000)), os.fsync

    def fail(descriptor: int) -> None:
        if next(calls) == number:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    before = contents(home)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left on device"):
            publish(tmp_path / "new", "entry", "All of it.", home)
    found = zoo.load_pretrained("entry", home=home).state_dict()
    is_new = contents(home) != before
    assert is_new == (number > 9)  # two for each of four files, one for their folder, then the manifest's
    assert_same(found, load_model(tmp_path / "new" if is_new else tmp_path / "fitted").state_dict())
    publish(tmp_path / "new", "other", "All of it.", home)
    assert {path.name for path in home.iterdir()} == {"entry", "other", MANIFEST}


def test_publications_side_by_side_are_all_in_the_manifest(tmp_path: Path) -> None:
    home = tmp_path / "zoo"

    def work(name: str) -> None:
        put(home, name, {file: name.encode() for file in entries.FILES})

    threads = [threading.Thread(target=work, args=(f"entry-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entries.list_pretrained(home=home) == [f"entry-{number}" for number in range(8)]
    for name in entries.list_pretrained(home=home):
        entries.check_published(name, entries.FILES, home)


DAMAGE = [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"entry": 3}', b'{"entry": {"config.json": 3}}']
DAMAGE += [b'{"../entry": {}}', b'{"entry": {"../config.json": "0"}}', b"3"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_is_one_sentence(
    damage: bytes, home: Path, fitted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / MANIFEST).write_bytes(damage)
    message = "expected the digests of the files of each trained model in .*, got something else"
    with pytest.raises(StorageError, match=message):
        zoo.list_pretrained(home=home)
    with pytest.raises(StorageError, match=message):
        zoo.load_pretrained("entry", home=home)
    before = contents(home)
    for command in ("publish {} entry --failure-modes All --into {}", "leaderboard --data jsb --into {1}"):
        assert call(monkeypatch, *command.format(fitted, home).split()) == 2
        captured = capsys.readouterr()
        assert "got something else; install it again" in captured.err
        assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert contents(home) == before


@pytest.mark.parametrize("is_published", [True, False])
@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_symbolic_link_at_the_place_of_an_entry_is_refused(
    is_published: bool, target: str, home: Path, fitted: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "README.md").write_text("mine")
    name = "entry" if is_published else "other"
    if is_published:
        (home / name).rename(tmp_path / "moved")
    (home / name).symlink_to(tmp_path / target, target_is_directory=True)
    with pytest.raises(ValueError, match=r"expected a folder or nothing at .*, got a symbolic link; remove it, or"):
        publish(fitted, name, "All of it.", home)
    assert contents(tmp_path / "elsewhere") == {"README.md": b"mine"}
    assert (home / name).is_symlink()


def test_anything_else_at_the_place_of_an_entry_is_refused(home: Path, fitted: Path) -> None:
    (home / "docs").mkdir()
    (home / "docs" / "README.md").write_text("mine")
    (home / "file").write_text("mine")
    for name in ("docs", "file"):
        with pytest.raises(
            ValueError, match=r"expected nothing at .* or an entry that was published, got something els"
        ):
            publish(fitted, name, "All of it.", home)
    assert (home / "docs" / "README.md").read_text() == "mine"
    (home / "empty").mkdir()
    assert publish(fitted, "empty", "All of it.", home) == home / "empty"


def test_notes_that_were_changed_are_one_sentence(fitted: Path, tmp_path: Path) -> None:
    path = fitted / DESCRIPTION
    content = json.loads(path.read_text())
    del content["info"]["torch"]
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"expected the record of pgm-rnn fit in .*, got a changed one: KeyError\('torch"
    ):
        publish(fitted, "entry", "All of it.", tmp_path / "zoo")
    assert read_manifest(tmp_path / "zoo") == {}
    assert not (tmp_path / "zoo").exists()


def test_a_model_that_was_changed_is_not_published(fitted: Path, tmp_path: Path) -> None:
    path = fitted / entries.TENSORS
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(content)
    with pytest.raises(StorageError, match="as it was saved together with"):
        publish(fitted, "entry", "All of it.", tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()
