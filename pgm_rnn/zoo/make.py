"""Train entries of the zoo again and publish them: `python -m pgm_rnn.zoo.make NAME`.

`recipes` has the commands that made each of the package's entries.
"""

import os
import sys
import tempfile
from pathlib import Path

from pgm_rnn.checks import check_choice
from pgm_rnn.cli import app
from pgm_rnn.zoo.entries import HOME
from pgm_rnn.zoo.publish import publish
from pgm_rnn.zoo.recipes import RECIPES


def train(name: str, folder: Path) -> Path:
    """Run the commands of one of `RECIPES` in a folder, and return the folder of the saved model.

    Raises:
        ValueError: an unknown name.
    """
    check_choice("the entry", name, RECIPES)
    recipe, here, arguments = RECIPES[name], Path.cwd(), sys.argv
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        for command in (*recipe.before, recipe.command):
            output = [] if command in recipe.before else ["--output", name]
            sys.argv = ["pgm-rnn", *command.split()]  # the card shows this command
            app([*sys.argv[1:], *output], standalone_mode=False)
    finally:
        os.chdir(here)
        sys.argv = arguments
    return folder / name


def make(name: str, home: Path = HOME) -> Path:
    """Train one of `RECIPES` and publish it.

    Raises:
        ValueError: an unknown name.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return publish(train(name, Path(scratch)), name, RECIPES[name].failure_modes, home)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or RECIPES:
        print(make(wanted))
