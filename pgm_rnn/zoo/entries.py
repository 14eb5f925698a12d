"""The entries of the trained zoo; an entry is read exactly as it was published, or not at all."""

import json
from pathlib import Path

from pgm_rnn.storage import Description, Model
from pgm_rnn.storage.model_json import parsed
from pgm_rnn.storage.models import made_from
from pgm_rnn.zoo import label_references, references
from pgm_rnn.zoo.label_references import LabelReference
from pgm_rnn.zoo.publication import MANIFEST, read_manifest, read_published
from pgm_rnn.zoo.references import Reference

__all__ = [
    "MANIFEST",
    "check_published",
    "describe_pretrained",
    "list_pretrained",
    "load_pretrained",
    "load_with_description",
    "read_manifest",
    "reference",
]

HOME = Path(__file__).parent
CONFIG, TENSORS, CARD, REFERENCE = "config.json", "model.safetensors", "README.md", "reference.json"
FILES = (CONFIG, TENSORS, CARD, REFERENCE)


def list_pretrained(contains: str = "", *, home: Path = HOME) -> list[str]:
    """Sorted names of the trained models whose name contains a string; `home` is the folder of the entries."""
    return sorted(name for name in read_manifest(home) if contains in name)


def load_pretrained(name: str, *, home: Path = HOME) -> Model:
    """A trained model of the zoo, in evaluation mode. Its model card is README.md in the entry's folder.

    Args:
        name: one of `list_pretrained()`.
        home: folder of the entries.

    Raises:
        ValueError: an unknown name; the closest one is suggested.
        StorageError: a file of the entry is missing or is not what was published.

    Example:
        >>> import pgm_rnn as pr
        >>> pr.load_pretrained("hmm-jsb-16").num_states
        16
    """
    return load_with_description(name, home=home)[0]


def load_with_description(name: str, *, home: Path = HOME) -> tuple[Model, Description]:
    """A trained model, in evaluation mode, with its description.

    Raises:
        ValueError, StorageError: as `load_pretrained`.
    """
    found = read_published(name, (CONFIG, TENSORS), home)
    model, description = made_from(found[CONFIG], found[TENSORS], home / name / CONFIG, home / name / TENSORS)
    return model.eval(), description


def describe_pretrained(name: str, *, home: Path = HOME) -> Description:
    """The description of a trained model, without its parameters.

    Raises:
        ValueError, StorageError: as `load_pretrained`.
    """
    return parsed(read_published(name, (CONFIG,), home)[CONFIG], home / name / CONFIG).description


def reference(name: str, *, home: Path = HOME) -> Reference | LabelReference:
    """Reference sequences of a trained model with known log marginal likelihoods, or with labels for a label model.

    Raises:
        ValueError: an unknown name.
        StorageError: the file is missing or is not what was published.
    """
    content = json.loads(read_published(name, (REFERENCE,), home)[REFERENCE].decode())
    return label_references.from_json(content) if "labels" in content else references.from_json(content)


def check_published(name: str, files: tuple[str, ...], home: Path) -> None:
    """Check that these files of an entry are as they were published.

    Raises:
        StorageError: a file is missing or has changed.
    """
    read_published(name, files, home)
