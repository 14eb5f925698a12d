"""Publish a fit as an entry of the trained zoo."""

import json
from pathlib import Path
from typing import Any

from pgm_rnn.sequence_model.label_model import LabelModel
from pgm_rnn.storage import DESCRIPTION, Model, read_description
from pgm_rnn.storage import TENSORS as SAVED_TENSORS
from pgm_rnn.storage.folder import read
from pgm_rnn.storage.models import made_from
from pgm_rnn.zoo import label_references, references
from pgm_rnn.zoo.card import card
from pgm_rnn.zoo.entries import CARD, CONFIG, HOME, REFERENCE, TENSORS
from pgm_rnn.zoo.label_references import LabelReference
from pgm_rnn.zoo.publication import NAME, check_place, put, read_manifest
from pgm_rnn.zoo.references import Reference

MAX_BYTES = 1_000_000
"""Largest size of an entry's parameters, which keeps the package small."""


def publish(folder: Path, name: str, failure_modes: str, home: Path = HOME) -> Path:
    """Publish a model that `pgm-rnn fit` saved as an entry of the zoo; an entry of that name is replaced.

    Args:
        folder: folder of the saved model.
        name: name of the entry, lower-case words and numbers with hyphens.
        failure_modes: the model's weaknesses for its card, in one or more sentences.
        home: folder of the entries.

    Returns:
        The entry's folder.

    Raises:
        ValueError: a malformed name, no failure modes, a model without scores or too large, or something else in the
            place of the entry.
        StorageError: there is no saved model, or the manifest is damaged.
        OSError: the entry cannot be written; what was published before stays.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"expected a name of lower-case words and numbers with hyphens, got {name!r}")
    if not failure_modes.strip():
        raise ValueError("expected a sentence on what the model gets wrong, got none")
    check_place(home, name, read_manifest(home))  # checked before the work, not after it
    described, packed = read(folder)
    if read_description(folder / DESCRIPTION).name is None:
        raise ValueError(f"expected a model of the zoo to publish, got one of a class of your own in {folder}")
    model, description = made_from(described, packed, folder / DESCRIPTION, folder / SAVED_TENSORS)
    missing = {"data", "description", "seed", "scores", "command", "seconds"} - description.info.keys()
    missing |= set() if description.info.get("scores") else {"scores"}
    if missing:
        raise ValueError(f"expected a model that pgm-rnn fit saved, got {folder} without {', '.join(sorted(missing))}")
    if len(packed) > MAX_BYTES:
        raise ValueError(
            f"expected at most {MAX_BYTES:,} bytes of numbers, got {len(packed):,}; fit fewer or use float32"
        )
    reference, content = _reference(model)
    contents = {
        CONFIG: described,
        TENSORS: packed,
        CARD: _card(folder, name, description, model, reference, failure_modes).encode(),
        REFERENCE: (json.dumps(content) + "\n").encode(),
    }
    return put(home, name, contents)


def _card(folder: Path, *parts: Any) -> str:
    try:
        return card(*parts)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"expected the record of pgm-rnn fit in {folder}, got a changed one: {error!r}") from error


def _reference(model: Model) -> tuple[Reference | LabelReference, dict[str, Any]]:
    """The reference of a model, and as JSON."""
    if isinstance(model, LabelModel):
        of_labels = label_references.made(model)
        return of_labels, label_references.as_json(of_labels)
    of_sequences = references.made(model)
    return of_sequences, references.as_json(of_sequences)
