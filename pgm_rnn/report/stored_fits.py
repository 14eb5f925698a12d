"""Fits of an earlier run of the same command: used again if they are of the same configuration, else refused.

A fit is the same if the data that were read, how they were split, the seed and the options are. The record of the best
model of a comparison has the numbers of the other candidates, which need no new fit either.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pgm_rnn.report.material import Material
from pgm_rnn.report.records import finite
from pgm_rnn.storage import describe, holds_model

_WORDS = {
    "data_digest": "the data",
    "file": "how the file is read and split",
    "seed": "the seed",
    "fit": "the options of the fit",
    "half": "--half",
}


def digest_of(material: Material) -> str:
    """A digest of the observations that a model is fitted to and chosen by."""
    found = hashlib.sha256()
    for split in (material.train, material.valid):
        for part in () if split is None else (split.x, split.lengths, split.inputs, split.observed):
            if part is not None:
                values = part.detach().cpu().numpy()
                found.update(f"{values.shape} {values.dtype.kind}".encode())
                found.update(np.ascontiguousarray(values.astype("f8")).tobytes())
    return found.hexdigest()


def digest_of_file(path: Path) -> str | None:
    """SHA-256 of the contents of a file, in hexadecimal digits; None if the source is none."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stored_fit(folder: Path, configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the fit in a folder; None where there is none, or one that was interrupted.

    Args:
        folder: where a fit is kept.
        configuration: what the record of a fit that can be used has: the digest of its data, its seed, options, ...

    Raises:
        ValueError: the folder holds a fit of another configuration; the sentence says in what it differs.
    """
    if not holds_model(folder):
        return None
    record = describe(folder).info
    wanted: Any = finite(dict(configuration))
    other = [name for name, value in wanted.items() if record.get(name, _absent(name)) != value]
    if other:
        what = " and ".join(_WORDS.get(name, name) for name in other)
        what = "the data, of which it keeps no digest" if record.get("data_digest") is None else what
        raise ValueError(
            f"expected {folder} to be free or to hold a fit of the same configuration, got one that differs in {what}; "
            "choose another folder with --output, or replace it with --overwrite"
        )
    return None if record.get("stopped_by") == "interrupt" else record


def _absent(name: str) -> Any:
    """What a record without a field stands for."""
    return False if name == "half" else None
