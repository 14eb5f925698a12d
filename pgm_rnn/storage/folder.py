"""The two files of a saved model change together: even if a writer is killed, both are old or both are new.

    model.safetensors               the tensors
    model.json                      the description, which names the tensors by their SHA-256
    .model-DIGEST.safetensors       new tensors before they are renamed, also those of a killed writer
    .lock                           locked by a writer

The new tensors are written first, under a name of their own. Then the new model.json replaces the old one in one step,
which makes the new tensors the model's; then they are renamed. A reader in between, or after a kill, finds them by
their digest.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pgm_rnn.files import TURN, in_turn, move, sha256, write_whole
from pgm_rnn.storage.description import DESCRIPTION, TENSORS, StorageError
from pgm_rnn.storage.model_json import content_of, read_bytes, tensors_digest

_LEAVINGS = re.compile(r"\.model-[0-9a-f]{16}\.safetensors|\.\.model-[0-9a-f]{16}\.safetensors\.new|\.model\.json\.new")
"""Files that a killed writer may leave in the folder, besides its lock."""


class Files(NamedTuple):
    """The contents of a folder.

    Attributes:
        described: content of model.json.
        packed: content of model.safetensors.
    """

    described: bytes
    packed: bytes


def check_replaceable(folder: Path) -> None:
    """Raise if there is anything at `folder` that `save_model` must not replace.

    Raises:
        ValueError: a file, or a folder that is not empty and holds no saved model.
    """
    if not folder.is_symlink() and not folder.exists():
        return
    if folder.is_dir():
        held = {path.name for path in folder.iterdir() if path.name != TURN and not _LEAVINGS.fullmatch(path.name)}
        if not held or (held <= {TENSORS, DESCRIPTION} and holds_model(folder)):
            return
    raise ValueError(f"expected a new folder or one that holds a saved model, got {folder}; choose another name")


def holds_model(folder: Path) -> bool:
    """Whether a folder holds a saved model, judged by its description."""
    described = folder / DESCRIPTION
    return described.is_file() and content_of(read_bytes(described)) is not None


def write(folder: Path, described: bytes, packed: bytes, *, overwrite: bool) -> None:
    """Make the two files those of a new model, or leave them as they are.

    Args:
        folder: the folder to write to; it is created if needed.
        described: the new model.json, which names the digest of the tensors.
        packed: the new model.safetensors.
        overwrite: whether a saved model may be replaced.

    Raises:
        FileExistsError: the folder holds a saved model, and `overwrite` is False.
        ValueError: the folder holds anything else.
        OSError: the folder cannot be written to, or the disk is full.
    """
    with in_turn(folder):
        check_replaceable(folder)
        if not overwrite and holds_model(folder):
            raise FileExistsError(
                f"expected a new folder, got {folder}, which holds a saved model; choose another name"
            )
        try:
            _settle(folder)
            write_whole(_aside(folder, sha256(packed)), packed)
            write_whole(folder / DESCRIPTION, described)
        except BaseException:
            with suppress(OSError):
                _settle(folder)
            raise
        _settle(folder)


def read(folder: Path) -> Files:
    """The two files of one model, consistent even while another process replaces it.

    Raises:
        StorageError: a file is missing or cannot be read.
    """
    described = read_bytes(folder / DESCRIPTION)
    while True:
        digest = tensors_digest(described)
        aside = [] if digest is None else [_aside(folder, digest), folder / TENSORS]
        found: bytes | None = None
        for path in (folder / TENSORS, *aside):  # again: a writer may have just moved it there
            content = _content(path)
            if content is not None and (digest is None or sha256(content) == digest):
                return Files(described, content)
            found = found if content is None else content
        before, described = described, read_bytes(folder / DESCRIPTION)
        if described == before:
            break
    if found is None:
        path = folder / TENSORS
        raise StorageError(f"expected a saved model in a folder, got no file {path}; copy both files of the model")
    return Files(described, found)  # changed tensors; the caller reports the error


def _settle(folder: Path) -> None:
    """Rename the tensors that model.json names into place, and remove leftovers of killed writers."""
    described = folder / DESCRIPTION
    digest = tensors_digest(described.read_bytes()) if described.is_file() else None
    if digest is not None and _aside(folder, digest).is_file():
        move(_aside(folder, digest), folder / TENSORS)
    for path in folder.iterdir():
        if _LEAVINGS.fullmatch(path.name):
            path.unlink()


def _aside(folder: Path, digest: str) -> Path:
    """Path of tensors that have not been renamed into place."""
    return folder / f".model-{digest[:16]}.safetensors"


def _content(path: Path) -> bytes | None:
    """The contents of a file, None if it does not exist."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"expected a file that can be read, got {path}: {error.strerror or error}") from None
