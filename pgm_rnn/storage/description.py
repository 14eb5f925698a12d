"""The content of model.json: how to make a model, what is known of it, and digests that show whether it was changed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pgm_rnn.files import sha256

TENSORS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT, VERSION = "pgm_rnn model", 1
DIGESTS = "sha256"
"""The key of the digests; a file of an earlier version of the package has none, and nothing is checked."""
LAW = ("name", "options", "dtype")
"""What a model's law depends on, beside its numbers."""


class StorageError(ValueError):
    """A folder that holds no model which this version of the package can read."""


class Description(NamedTuple):
    """What model.json says beside its format and its digests.

    Attributes:
        name: of the model in the zoo.
        options: what `get_model` or the law of labels makes it from; a family of observations, inputs or labels as
            {"family": "Bernoulli", "size": 88}.
        dtype: of its parameters, such as "float32".
        pgm_rnn: version of the package that wrote it.
        info: the writer's notes.
    """

    name: str
    options: dict[str, Any]
    dtype: str
    pgm_rnn: str
    info: dict[str, Any]


class Digests(NamedTuple):
    """SHA-256 in hexadecimal digits, None where the file has none.

    Attributes:
        tensors: of model.safetensors.
        law: of the entries in `LAW`.
    """

    tensors: str | None = None
    law: str | None = None


def as_json(description: Description, tensors: bytes) -> bytes:
    """The content of model.json for a model whose numbers are packed in `tensors`.

    Raises:
        TypeError: notes that JSON cannot hold.
    """
    try:
        content = json.loads(json.dumps(description._asdict(), allow_nan=False))
        digests = Digests(sha256(tensors), law_digest(content))._asdict()
        content = {"format": FORMAT, "version": VERSION, **content, DIGESTS: digests}
        return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"expected info that JSON can hold, got: {error}") from None


def read_description(path: Path) -> Description:
    """What a file like model.json says.

    Raises:
        StorageError: no such file, or one that this version cannot read.
    """
    return parsed(read_bytes(path), path)[0]


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


def parsed(content: bytes, path: Path) -> tuple[Description, Digests]:
    """What the content of a file like model.json says; `path` is for the errors.

    Raises:
        StorageError: it is something else, or this version cannot read it.
    """
    found = content_of(content)
    if found is None:
        raise StorageError(
            f"expected a {DESCRIPTION} of a saved model, got something else at {path}; save_model writes them"
        )
    if found.pop("version", None) != VERSION:
        writer = found.get("pgm_rnn", "another version")
        raise StorageError(f"expected version {VERSION} of the format, got {path} of pgm_rnn {writer}; update pgm_rnn")
    digests = _digests(found.pop(DIGESTS, {}), path)
    if found.keys() != set(Description._fields):
        differing = ", ".join(sorted(map(repr, found.keys() ^ set(Description._fields)))).replace("'", "")
        raise StorageError(f"expected the keys {', '.join(Description._fields)} in {path}, they differ in {differing}")
    if not isinstance(found["info"], dict):
        raise StorageError(f"expected notes by name as info in {path}, got {type(found['info']).__name__}")
    return Description(**found), digests


def content_of(content: bytes) -> dict[str, Any] | None:
    """The object in the content of a model.json without its "format", None if it is something else."""
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.pop("format", None) == FORMAT else None


def tensors_digest(content: bytes) -> str | None:
    """The digest of the numbers that the content of a model.json names, None if it names none."""
    digests = (content_of(content) or {}).get(DIGESTS)
    named = digests.get("tensors") if isinstance(digests, dict) else None
    return named if isinstance(named, str) else None


def law_digest(content: Mapping[str, Any]) -> str:
    """The digest of what a model's law depends on, whatever the order and the spaces in the file."""
    return sha256(json.dumps({key: content[key] for key in LAW}, sort_keys=True).encode())


def _digests(found: object, path: Path) -> Digests:
    named = found if isinstance(found, dict) else {"": None}
    if not set(named) <= set(Digests._fields) or not all(isinstance(digest, str) for digest in named.values()):
        raise StorageError(f"expected {', '.join(Digests._fields)} under {DIGESTS!r} in {path}, got other entries")
    return Digests(**named)
