"""Version 2 of model.json, which the package writes; docs/saved-models.md describes it for users.

    name        the registry's name of the model, by which it is made again; null where no registry has its class
    class       import path of the model's class, "package.module:Name"; nothing is imported because a file names it
    arguments   what the registry's maker (or, where there is no name, the class) is called with, by name; an argument
                that is a JSON object has one key, which says what kind of value it is: `pgm_rnn.storage.arguments`
    dtype       of the parameters
    pgm_rnn     version of the package that wrote the file
    info        notes
    sha256      {"tensors": ..., "law": ...}, of model.safetensors and of name, class, arguments and dtype

Differences from version 1: the class, one `arguments` for options and families alike, and digests are never missing.
"""

import re
from pathlib import Path
from typing import Any

from pgm_rnn.files import sha256
from pgm_rnn.storage.description import (
    DIGESTS,
    Description,
    Digests,
    Parsed,
    StorageError,
    by_name,
    check_keys,
    digest_of,
    digests_in,
)

KEYS = ("name", "class", "arguments", "dtype", "pgm_rnn", "info", DIGESTS)
LAW = ("name", "class", "arguments", "dtype")
"""Entries on which the model's law depends, besides its tensors."""
_CLASS = re.compile(r"[^\s:]+:[^\s:]+")


def content_2(description: Description, tensors: bytes) -> dict[str, Any]:
    """The entries of model.json for a model whose packed tensors are `tensors`."""
    entries: dict[str, Any] = {
        "class" if key == "model_class" else key: value for key, value in description._asdict().items()
    }
    return {**entries, DIGESTS: Digests(sha256(tensors), digest_of(entries, LAW))._asdict()}


def parsed_2(content: dict[str, Any], path: Path) -> Parsed:
    """The parsed content of a model.json of version 2; `path` is for the errors.

    Raises:
        StorageError: other keys, or entries of other kinds.
    """
    check_keys(content, KEYS, path)
    digests = digests_in(content[DIGESTS], path)
    if None in digests:
        raise StorageError(
            f"expected {' and '.join(Digests._fields)} under {DIGESTS!r} in {path}, got at most one of them"
        )
    if not (isinstance(content["class"], str) and _CLASS.fullmatch(content["class"])):
        raise StorageError(f"expected class as 'package.module:Name' in {path}, got {content['class']!r}")
    arguments, info = by_name(content, "arguments", path), by_name(content, "info", path)
    made_from = (content["name"], content["class"], arguments, content["dtype"])
    return Parsed(Description(*made_from, content["pgm_rnn"], info), digests, digest_of(content, LAW))
