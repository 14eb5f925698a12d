"""Publish a fit as an entry of the trained zoo: `python -m pgm_rnn.zoo.make NAME` trains and publishes one.

The commands of the entries that the package has are here, so that each can be made again from its name.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from pgm_rnn.checks import check_choice
from pgm_rnn.files import write_whole
from pgm_rnn.storage import DESCRIPTION, describe, load_model
from pgm_rnn.storage import TENSORS as SAVED_TENSORS
from pgm_rnn.zoo.card import card
from pgm_rnn.zoo.entries import CARD, CONFIG, FILES, HOME, MANIFEST, REFERENCE, TENSORS, digest, read_manifest
from pgm_rnn.zoo.references import as_json, made

MAX_BYTES = 1_000_000
"""Of an entry's numbers, so that the package stays small."""


class Recipe(NamedTuple):
    """How an entry is made.

    Attributes:
        command: of `pgm-rnn`, without --output.
        failure_modes: what the model gets wrong, for its card.
    """

    command: str
    failure_modes: str


RECIPES = {
    "hmm-jsb-16": Recipe(
        "fit hmm --data jsb --num-states 16 --seed 0",
        "Given its state, the keys of a step are independent: chords that it draws mix notes of several chords, and "
        "voices do not lead. Sixteen states are few: with more of them the nats per step go on falling.",
    ),
    "rnn-gru-synthetic-hmm-8": Recipe(
        "fit rnn --data synthetic-hmm --cell gru --hidden-dim 8 --seed 0",
        "It was trained on sequences of 8 steps alone, and nobody has looked at what it says of longer ones. Its eight "
        "numbers of memory stand for a belief over hidden states that the data's own law tracks exactly.",
    ),
}


def publish(folder: Path, name: str, failure_modes: str, home: Path = HOME) -> Path:
    """Make an entry of the model that `pgm-rnn fit` saved in a folder; an entry of that name is replaced.

    Args:
        folder: of the saved model.
        name: of the entry, lower-case words and numbers with hyphens.
        failure_modes: a sentence or more for the card.
        home: the folder of the entries.

    Returns:
        The entry's folder.

    Raises:
        ValueError: another kind of name, no words on failure modes, a model without scores or too large.
        OSError: it cannot be written.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"expected a name of lower-case words and numbers with hyphens, got {name!r}")
    if not failure_modes.strip():
        raise ValueError("expected a sentence on what the model gets wrong, got none")
    description, model = describe(folder), load_model(folder)
    missing = {"data", "description", "seed", "scores", "command", "seconds"} - description.info.keys()
    if missing:
        raise ValueError(
            f"expected a model that pgm-rnn fit saved, {folder} has no {', '.join(sorted(missing))} with it"
        )
    size = (folder / SAVED_TENSORS).stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES:,} bytes of numbers, got {size:,}; fit fewer or use float32")
    reference = made(model)
    place = home / name
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / DESCRIPTION, place / CONFIG)
    shutil.copyfile(folder / SAVED_TENSORS, place / TENSORS)
    (place / REFERENCE).write_text(json.dumps(as_json(reference)) + "\n", encoding="utf-8")
    (place / CARD).write_text(card(name, description, model, reference, failure_modes), encoding="utf-8")
    manifest = read_manifest(home) | {name: {file: digest(place / file) for file in FILES}}
    write_whole(home / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
    return place


def make(name: str, home: Path = HOME) -> Path:
    """Train one of `RECIPES` and publish it.

    Raises:
        ValueError: an unknown name.
    """
    from pgm_rnn.cli import app

    check_choice("the entry", name, RECIPES)
    recipe = RECIPES[name]
    with tempfile.TemporaryDirectory() as scratch:
        sys.argv = ["pgm-rnn", *recipe.command.split()]  # what the card shows
        app([*sys.argv[1:], "--output", f"{scratch}/{name}"], standalone_mode=False)
        return publish(Path(scratch) / name, name, recipe.failure_modes, home)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or RECIPES:
        print(make(wanted))
