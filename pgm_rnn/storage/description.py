"""The description of a saved model, whichever version of model.json holds it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pgm_rnn.files import sha256

TENSORS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = "pgm_rnn model"
DIGESTS = "sha256"
"""The key of the digests in model.json."""


class StorageError(ValueError):
    """A folder holds no model that this version of the package can read."""


class Description(NamedTuple):
    """The contents of model.json besides its format and its digests.

    Attributes:
        name: the registry's name of the model, None where no registry has its class.
        model_class: import path of the model's class, such as "pgm_rnn.models.hmm:HMM"; None in files of version 1.
        arguments: arguments that make the model, by name, each as `pgm_rnn.storage.arguments` writes it.
        dtype: dtype of the parameters, such as "float32".
        pgm_rnn: version of the package that wrote the file.
        info: the writer's notes.
    """

    name: str | None
    model_class: str | None
    arguments: dict[str, Any]
    dtype: str
    pgm_rnn: str
    info: dict[str, Any]

    @property
    def options(self) -> NoReturn:
        """The former name of `arguments`.

        Raises:
            AttributeError: always; it gives the new name.
        """
        raise AttributeError("expected Description.arguments, the name since pgm_rnn 0.2.0, got Description.options")


class Digests(NamedTuple):
    """SHA-256 digests in hexadecimal, None if the file has none.

    Attributes:
        tensors: digest of model.safetensors.
        law: digest of the entries of model.json on which the model's law depends, besides its tensors.
    """

    tensors: str | None = None
    law: str | None = None


class Parsed(NamedTuple):
    """The content of a model.json.

    Attributes:
        description: the description of the model.
        digests: the digests recorded in it.
        law: the digest of the law that it describes now; it differs from `digests.law` if the file was changed.
    """

    description: Description
    digests: Digests
    law: str


def digest_of(content: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The SHA-256 of some entries of a model.json, which does not depend on order and spaces in the file."""
    return sha256(json.dumps({key: content[key] for key in keys}, sort_keys=True).encode())


def check_keys(content: Mapping[str, Any], expected: Iterable[str], path: Path) -> None:
    """Raise unless a model.json has exactly these keys besides its format and version.

    Raises:
        StorageError: other keys.
    """
    expected = list(expected)
    if content.keys() != set(expected):
        differing = ", ".join(sorted(map(repr, content.keys() ^ set(expected)))).replace("'", "")
        raise StorageError(f"expected the keys {', '.join(expected)} in {path}, got keys that differ in {differing}")


def by_name(content: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """An entry of a model.json that must be a JSON object.

    Raises:
        StorageError: it is something else.
    """
    found = content[key]
    if not isinstance(found, dict):
        raise StorageError(f"expected {key} by name, as a JSON object, in {path}, got {type(found).__name__}")
    return found


def digests_in(found: object, path: Path) -> Digests:
    """The digests under the key `DIGESTS` of a model.json.

    Raises:
        StorageError: the key holds something else.
    """
    named = found if isinstance(found, dict) else {"": None}
    if not set(named) <= set(Digests._fields) or not all(isinstance(digest, str) for digest in named.values()):
        raise StorageError(f"expected {', '.join(Digests._fields)} under {DIGESTS!r} in {path}, got other entries")
    return Digests(**named)
