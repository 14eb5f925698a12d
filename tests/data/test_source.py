import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pooch
import pytest

from pgm_rnn.data import DataError
from pgm_rnn.data.handwriting import KANJI, PEN_DIGITS
from pgm_rnn.data.piano_rolls import JSB_CHORALES, NOTTINGHAM
from pgm_rnn.data.source import GITHUB, SourceFile, fetch, find
from pgm_rnn.data.speech import PACKED, TEST, TRAIN
from pgm_rnn.data.text import TINY_SHAKESPEARE

CONTENTS = b"one two three"
TAMPERED = b"one two thief"
FILE = SourceFile("numbers.txt", "owner/repository/commit/upstream.txt", hashlib.sha256(CONTENTS).hexdigest())


def put_copy(folder: Path, contents: bytes = CONTENTS) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / FILE.name
    path.write_bytes(contents)
    return path


@pytest.mark.parametrize("file", [JSB_CHORALES, NOTTINGHAM, TINY_SHAKESPEARE, TRAIN, TEST], ids=lambda file: file.name)
def test_every_original_is_pinned_to_a_commit_or_version_and_a_digest(file: SourceFile) -> None:
    assert GITHUB.startswith("https://")
    assert file.path is not None
    assert re.fullmatch(r"[\w-]+/[\w-]+/([0-9a-f]{40}|v[0-9.]+)/.+", file.path)
    assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)


@pytest.mark.parametrize("file", [PACKED, KANJI, PEN_DIGITS], ids=lambda file: file.name)
def test_every_file_that_was_made_from_an_original_says_which_and_has_a_digest(file: SourceFile) -> None:
    assert file.path is None
    assert file.made_from
    assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)


def test_the_users_folder_comes_before_the_cache(
    tmp_path: Path, cache: Path, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = put_copy(tmp_path / "mine")
    put_copy(cache)
    monkeypatch.setenv("PGM_RNN_DATA", str(tmp_path / "mine"))
    assert fetch(FILE, cache=cache, base_url=closed_url) == mine


def test_a_folder_in_the_users_folder_comes_after_it_and_before_the_cache(
    tmp_path: Path, cache: Path, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_copy(cache)
    (tmp_path / "mine").mkdir()
    inside = put_copy(tmp_path / "mine" / "inside")
    monkeypatch.setenv("PGM_RNN_DATA", str(tmp_path / "mine"))
    assert fetch(FILE, cache=cache, base_url=closed_url) == inside
    assert fetch(FILE, cache=cache, base_url=closed_url) != put_copy(tmp_path / "mine")
    assert fetch(FILE, cache=cache, base_url=closed_url) == tmp_path / "mine" / FILE.name


def test_a_file_deeper_in_the_users_folder_is_not_looked_for(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "inside").mkdir(parents=True)
    put_copy(tmp_path / "mine" / "inside" / "deeper")
    monkeypatch.setenv("PGM_RNN_DATA", str(tmp_path / "mine"))
    assert find(FILE, cache=cache) is None


def test_a_file_without_an_original_to_download_is_found_or_the_error_says_what_it_is(
    tmp_path: Path, cache: Path, closed_url: str
) -> None:
    file = FILE._replace(path=None, made_from="made by hand")
    message = f"expected numbers.txt in the folder that PGM_RNN_DATA names or in {cache}, got no such file; it is made "
    with pytest.raises(DataError, match=re.escape(message) + "by hand, and it cannot be downloaded"):
        fetch(file, cache=cache, base_url=closed_url)
    assert fetch(file, cache=put_copy(cache).parent, base_url=closed_url) == cache / FILE.name
    put_copy(cache, TAMPERED)
    with pytest.raises(DataError, match=r"expected SHA-256 .*; put the right one there$"):
        fetch(file, cache=cache, base_url=closed_url)


def test_a_file_that_the_users_folder_lacks_is_taken_from_the_cache(
    tmp_path: Path, cache: Path, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = put_copy(cache)
    monkeypatch.setenv("PGM_RNN_DATA", str(tmp_path))
    assert fetch(FILE, cache=cache, base_url=closed_url) == cached


def test_the_default_cache_is_the_one_of_the_operating_system(
    tmp_path: Path, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = put_copy(tmp_path / "pgm_rnn")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    assert fetch(FILE, base_url=closed_url) == cached


def test_an_empty_variable_counts_as_unset(cache: Path, closed_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = put_copy(cache)
    monkeypatch.setenv("PGM_RNN_DATA", "")
    assert fetch(FILE, cache=cache, base_url=closed_url) == cached


def test_a_tilde_in_the_users_folder_is_the_home_folder(
    tmp_path: Path, cache: Path, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PGM_RNN_DATA", "~")
    assert put_copy(tmp_path) == fetch(FILE, cache=cache, base_url=closed_url)


@pytest.mark.parametrize("place", ["user", "cache"])
def test_a_copy_with_other_contents_is_an_error_and_stays_as_it_is(
    tmp_path: Path, closed_url: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = put_copy(tmp_path, TAMPERED)
    if place == "user":
        monkeypatch.setenv("PGM_RNN_DATA", str(tmp_path))
    digest = hashlib.sha256(TAMPERED).hexdigest()
    expected = f"expected SHA-256 {FILE.sha256} of {copy}, got {digest}; delete it to download it again"
    with pytest.raises(DataError, match=re.escape(expected)):
        fetch(FILE, cache=tmp_path, base_url=closed_url)
    assert copy.read_bytes() == TAMPERED


def test_a_folder_in_the_place_of_the_file_is_an_error(cache: Path, closed_url: str) -> None:
    (cache / FILE.name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"expected a readable file at .*numbers\.txt, got: .+; move it away"):
        fetch(FILE, cache=cache, base_url=closed_url)


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_users_folder_that_is_none_is_an_error(
    tmp_path: Path, closed_url: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PGM_RNN_DATA", str(tmp_path / kind))
    with pytest.raises(DataError, match=r"expected PGM_RNN_DATA to name a folder, got .*; create it or unset"):
        fetch(FILE, cache=tmp_path, base_url=closed_url)


@pytest.mark.slow
def test_importing_the_package_imports_neither_pooch_nor_scipy() -> None:
    program = "import sys, pgm_rnn.data; print({'pooch', 'requests', 'scipy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
