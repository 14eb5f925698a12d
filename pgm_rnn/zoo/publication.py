"""An entry's files and the manifest change together: whenever a writer is killed, an entry is the old or the new one.

    .NAME.new/       the entry's new files, written first
    manifest.json    replaced in one atomic step, which makes them the entry
    NAME/            the place to which they are moved afterwards

A reader in between, or after the writer was killed, finds the files of an entry by their digests.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pgm_rnn.checks import check_choice
from pgm_rnn.files import in_turn, move, sha256, sync_folder, write_whole
from pgm_rnn.storage import StorageError

MANIFEST = "manifest.json"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""Pattern of an entry's name: lower-case words and numbers with hyphens."""
Manifest = dict[str, dict[str, str]]
"""The SHA-256 of each file of each entry, by the names of both."""


def read_manifest(home: Path) -> Manifest:
    """The SHA-256 of each file of each entry, by name; empty if nothing was published.

    Raises:
        StorageError: the file is damaged, or not a manifest.
    """
    path = home / MANIFEST
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError, OSError):
        found = None
    if not (isinstance(found, dict) and all(_is_entry(name, files) for name, files in found.items())):
        raise StorageError(
            f"expected the digests of the files of each trained model in {path}, got something else; install it again, "
            "or delete the file and publish the models again"
        )
    return found


def _is_entry(name: str, files: object) -> bool:
    return (
        NAME.fullmatch(name) is not None
        and isinstance(files, dict)
        and all(isinstance(digest, str) and Path(file).name == file for file, digest in files.items())
    )


def read_published(name: str, files: Iterable[str], home: Path) -> dict[str, bytes]:
    """The contents of an entry's files, all from the same publication, even while another process replaces them.

    Raises:
        ValueError: an unknown name; the closest one is suggested.
        StorageError: a file is missing or has changed since it was published.
    """
    files, manifest = list(files), read_manifest(home)
    while True:
        check_choice("the trained model", name, manifest)
        found = {file: _content(home, name, file, manifest[name].get(file)) for file in files}
        whole = {file: content for file, content in found.items() if content is not None}
        if len(whole) == len(found):
            return whole
        before, manifest = manifest, read_manifest(home)
        if manifest == before:
            break
    file = next(file for file in files if file not in whole)
    path = home / name / file
    if not path.is_file():
        raise StorageError(f"expected {file} of the trained model {name}, got no file {path}; install it again")
    raise StorageError(f"expected {path} as it was published, got a changed or shortened file; install it again")


def put(home: Path, name: str, contents: Mapping[str, bytes]) -> Path:
    """Replace the files of an entry, or leave the entry unchanged if that fails; return the entry's folder.

    Raises:
        ValueError: something other than an entry is in its place.
        OSError: the entry cannot be written.
    """
    with in_turn(home):
        _settle(home)
        manifest = read_manifest(home)
        check_place(home, name, manifest)
        try:
            draft = _draft(home, name)
            draft.mkdir()
            for file, content in contents.items():
                write_whole(draft / file, content)
            sync_folder(home)
            manifest[name] = {file: sha256(content) for file, content in contents.items()}
            write_whole(home / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
        except BaseException:
            with suppress(OSError):
                _settle(home)
            raise
        _settle(home)
    return home / name


def check_place(home: Path, name: str, manifest: Manifest) -> None:
    """Check that the place of an entry is empty or holds an entry.

    Raises:
        ValueError: something else is there.
    """
    place = home / name
    if place.is_symlink():
        raise ValueError(
            f"expected a folder or nothing at {place}, got a symbolic link; remove it, or choose another name"
        )
    if place.exists() and not (place.is_dir() and (name in manifest or not any(place.iterdir()))):
        raise ValueError(
            f"expected nothing at {place} or an entry that was published, got something else; move it away"
        )


def _content(home: Path, name: str, file: str, digest: str | None) -> bytes | None:
    """The file with a digest, at its place or about to be moved there."""
    place = home / name / file
    for path in (place, _draft(home, name) / file, place):  # once more: it may have been moved there meanwhile
        with suppress(OSError):
            content = path.read_bytes()
            if sha256(content) == digest:
                return content
    return None


def _settle(home: Path) -> None:
    """Move the files that the manifest names to their places, and remove what a killed writer left behind."""
    manifest = read_manifest(home)
    for draft in [path for path in home.glob(".*.new") if path.name != f".{MANIFEST}.new"]:
        name = draft.name[1:].removesuffix(".new")
        if draft.is_symlink() or not draft.is_dir() or not NAME.fullmatch(name):
            continue
        for file, digest in manifest.get(name, {}).items():
            if (draft / file).is_file() and sha256((draft / file).read_bytes()) == digest:
                (home / name).mkdir(exist_ok=True)
                move(draft / file, home / name / file)
        shutil.rmtree(draft)
    (home / f".{MANIFEST}.new").unlink(missing_ok=True)


def _draft(home: Path, name: str) -> Path:
    return home / f".{name}.new"
