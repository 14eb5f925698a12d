"""The entries of the trained zoo: which there are, and each as it was published or not at all."""

import hashlib
import json
from pathlib import Path

from pgm_rnn.checks import check_choice
from pgm_rnn.storage import Model, StorageError, read_model
from pgm_rnn.zoo import label_references, references
from pgm_rnn.zoo.label_references import LabelReference
from pgm_rnn.zoo.references import Reference

HOME = Path(__file__).parent
CONFIG, TENSORS, CARD, REFERENCE = "config.json", "model.safetensors", "README.md", "reference.json"
FILES = (CONFIG, TENSORS, CARD, REFERENCE)
MANIFEST = "manifest.json"


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
    check_published(name, (CONFIG, TENSORS), home)
    return read_model(home / name / CONFIG, home / name / TENSORS).eval()


def reference(name: str, *, home: Path = HOME) -> Reference | LabelReference:
    """The sequences of a trained model with known log marginal likelihoods; of a law of labels, with those of labels.

    Raises:
        ValueError: an unknown name.
        StorageError: the file is missing or is not what was published.
    """
    check_published(name, (REFERENCE,), home)
    content = json.loads((home / name / REFERENCE).read_text(encoding="utf-8"))
    return label_references.from_json(content) if "labels" in content else references.from_json(content)


def check_published(name: str, files: tuple[str, ...], home: Path) -> None:
    """Raise a StorageError unless these files of an entry are there as they were published."""
    manifest = read_manifest(home)
    check_choice("the trained model", name, manifest)
    for file in files:
        path = home / name / file
        if not path.is_file():
            raise StorageError(f"expected {file} of the trained model {name}, got no file {path}; install it again")
        if digest(path) != manifest[name].get(file):
            raise StorageError(f"expected {path} as it was published, it was changed or cut short; install it again")


def read_manifest(home: Path) -> dict[str, dict[str, str]]:
    """The SHA-256 of each file of each entry, by name; empty where nothing was published."""
    path = home / MANIFEST
    found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
