"""The file model.json: version 2 is written, versions 1 and 2 are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pgm_rnn.storage.description import DESCRIPTION, DIGESTS, FORMAT, Description, Parsed, StorageError
from pgm_rnn.storage.version_1 import parsed_1
from pgm_rnn.storage.version_2 import content_2, parsed_2
from pgm_rnn.version import __version__

WRITTEN = 2
VERSIONS: dict[int, Callable[[dict[str, Any], Path], Parsed]] = {1: parsed_1, 2: parsed_2}
"""The reader of each version that this package can read."""


def as_json(description: Description, tensors: bytes) -> bytes:
    """The content of model.json for a model whose packed tensors are `tensors`.

    Raises:
        TypeError: notes that JSON cannot hold.
    """
    try:
        plain = Description(**json.loads(json.dumps(description._asdict(), allow_nan=False)))
        content = {"format": FORMAT, "version": WRITTEN, **content_2(plain, tensors)}
        return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"expected info that JSON can hold, got: {error}") from None


def read_description(path: Path) -> Description:
    """The description in a file like model.json.

    Raises:
        StorageError: no such file, or one that this version cannot read.
    """
    return parsed(read_bytes(path), path).description


def read_bytes(path: Path) -> bytes:
    """The content of a file like model.json.

    Raises:
        StorageError: no such file, or one that cannot be read.
    """
    if not path.is_file():
        raise StorageError(f"expected a saved model in a folder, got no file {path}; save_model writes them")
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"expected a file that can be read, got {path}: {error.strerror or error}") from None


def parsed(content: bytes, path: Path) -> Parsed:
    """The parsed content of a file like model.json; `path` is for the errors.

    Raises:
        StorageError: it is something else, or this version cannot read it.
    """
    found = content_of(content)
    if found is None:
        raise StorageError(
            f"expected a {DESCRIPTION} of a saved model, got something else at {path}; save_model writes them"
        )
    version = found.pop("version", None)
    if type(version) is not int or version not in VERSIONS:
        readable, writer = " or ".join(map(str, VERSIONS)), found.get("pgm_rnn", "of another version")
        raise StorageError(
            f"expected version {readable} of the format of saved models, which pgm_rnn {__version__} reads, got "
            f"version {version!r} in {path}, written by pgm_rnn {writer}; update pgm_rnn"
        )
    return VERSIONS[version](found, path)


def content_of(content: bytes) -> dict[str, Any] | None:
    """The JSON object in the content of a model.json without its "format"; None if it is something else."""
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.pop("format", None) == FORMAT else None


def tensors_digest(content: bytes) -> str | None:
    """The digest of the tensors that a model.json of any version names, None if it names none."""
    digests = (content_of(content) or {}).get(DIGESTS)
    named = digests.get("tensors") if isinstance(digests, dict) else None
    return named if isinstance(named, str) else None
