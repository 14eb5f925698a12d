"""Version 1 of model.json, written by pgm_rnn 0.1.0; it is only read now.

name        the registry's name of the model
options     what `get_model` or `BidirectionalRNN` makes it from; a family as {"family": "Bernoulli", "size": 88}
dtype       of the parameters
pgm_rnn     "0.1.0"
info        notes
sha256      {"tensors": ..., "law": ...}; the earliest files have none, and nothing is checked

The trained models in the package are of this version, because published files never change.
"""

from pathlib import Path
from typing import Any

from pgm_rnn.storage.description import DIGESTS, Description, Parsed, by_name, check_keys, digest_of, digests_in

KEYS = ("name", "options", "dtype", "pgm_rnn", "info")
LAW = ("name", "options", "dtype")
"""Entries on which the model's law depends, besides its tensors."""


def parsed_1(content: dict[str, Any], path: Path) -> Parsed:
    """The parsed content of a model.json of version 1; `path` is for the errors.

    Raises:
        StorageError: other keys, or entries of other kinds.
    """
    digests = digests_in(content.pop(DIGESTS, {}), path)
    check_keys(content, KEYS, path)
    arguments = {key: _argument(value) for key, value in by_name(content, "options", path).items()}
    info = by_name(content, "info", path)
    description = Description(content["name"], None, arguments, content["dtype"], content["pgm_rnn"], info)
    return Parsed(description, digests, digest_of(content, LAW))


def _argument(option: Any) -> Any:
    """An option in the form of version 2, which differs only for families."""
    if not (isinstance(option, dict) and "family" in option):
        return option
    sizes = {key: value for key, value in option.items() if key != "family"}
    return {"family": {"name": option["family"], "arguments": sizes}}
