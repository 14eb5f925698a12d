"""The entries of the trained zoo: which there are, and each as it was published or not at all."""

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
    """Names of the trained models whose name contains a string, sorted; `home` is where they are."""
    return sorted(name for name in read_manifest(home) if contains in name)


def load_pretrained(name: str, *, home: Path = HOME) -> Model:
    """A trained model of the zoo, in evaluation mode; its card is README.md beside its numbers.

    Args:
        name: one of `list_pretrained()`.
        home: where the entries are.

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
    """A trained model, in evaluation mode, and what is known of it.

    Raises:
        ValueError, StorageError: as `load_pretrained`.
    """
    found = read_published(name, (CONFIG, TENSORS), home)
    model, description = made_from(found[CONFIG], found[TENSORS], home / name / CONFIG, home / name / TENSORS)
    return model.eval(), description


def describe_pretrained(name: str, *, home: Path = HOME) -> Description:
    """What is known of a trained model, without its numbers.

    Raises:
        ValueError, StorageError: as `load_pretrained`.
    """
    return parsed(read_published(name, (CONFIG,), home)[CONFIG], home / name / CONFIG).description


def reference(name: str, *, home: Path = HOME) -> Reference | LabelReference:
    """The sequences of a trained model with known log marginal likelihoods; of a law of labels, with those of labels.

    Raises:
        ValueError: an unknown name.
        StorageError: the file is missing or is not what was published.
    """
    content = json.loads(read_published(name, (REFERENCE,), home)[REFERENCE].decode())
    return label_references.from_json(content) if "labels" in content else references.from_json(content)


def check_published(name: str, files: tuple[str, ...], home: Path) -> None:
    """Raise a StorageError unless these files of an entry are there as they were published."""
    read_published(name, files, home)
