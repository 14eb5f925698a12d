"""How the entries of the trained zoo are made: the commands of each, and what the model gets wrong."""

from typing import NamedTuple


class Recipe(NamedTuple):
    """How an entry is made.

    Attributes:
        command: of `pgm-rnn`, without --output.
        failure_modes: what the model gets wrong, for its card.
        before: commands that come first, whose --output is the --start of `command`.
    """

    command: str
    failure_modes: str
    before: tuple[str, ...] = ()


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
