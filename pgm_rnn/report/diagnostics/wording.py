"""The words of findings: names of variables and their kinds, places in the user's ids and times, p-values."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pgm_rnn.emissions import Categorical, Emission, Joint
from pgm_rnn.legend import Column, Kind, Legend
from pgm_rnn.report.places import ids_of, name_of_times
from pgm_rnn.report.quantity import Words
from pgm_rnn.report.tables import kind_of
from pgm_rnn.sequences import Sequences

LEVEL = 0.01
"""Probability of at least one false alarm of a kind of test on data of the model itself, over all variables."""
_MOST_NAMED = 3
_LEAST_P = 1e-16


class Variables(NamedTuple):
    """The entries of an observation.

    Attributes:
        names: one for each.
        kinds: "real", "count", "binary" or "symbol" for each.
        words: the words of its symbols for each, empty for those that are no symbols.
    """

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    words: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(family: Emission, legend: Legend | None) -> "Variables":
        """Those of a family, by the names of the data where they have some."""
        families = [family]
        if isinstance(family, Joint):
            families = [part.family for part in family.parts for _ in range(part.columns.stop - part.columns.start)]
        elif family.event_shape.numel() > 1:
            families = [family] * family.event_shape.numel()
        known = Words.of(family.event_shape, legend)
        kinds = tuple(kind_of(each) or "real" for each in families)
        return Variables(known.names, kinds, tuple(_words(each, known.column(m)) for m, each in enumerate(families)))

    @property
    def legend(self) -> Legend:
        """Columns with these names, kinds and words."""
        each = zip(self.names, self.kinds, self.words, strict=True)
        return Legend(tuple(Column(name, kind, words=words) for name, kind, words in each))


def _words(family: Emission, known: Words) -> tuple[str, ...]:
    """The words of the symbols of a family, their numbers where the data have none."""
    if not isinstance(family, Categorical):
        return ()
    words = known.symbols
    return words if len(words) == family.num_symbols else tuple(map(str, range(family.num_symbols)))


def listed(names: Sequence[str], what: str = "variable") -> str:
    """The first names, and how many more there are: "flow, level, rain and 9 more variables"."""
    shown = list(dict.fromkeys(names))
    more = len(shown) - _MOST_NAMED
    text = ", ".join(shown[:_MOST_NAMED])
    return f"{text} and {more} more {what}{'s' * (more > 1)}" if more > 0 else text


def place(data: Sequences, sequence: int, step: int) -> str:
    """A step, counted from 0, in the user's words: "step 412 of machine-03", or "year 1913"."""
    legend = data.legend
    at = f"step {step + 1}"
    if legend is not None and legend.times:
        time = str(np.asarray(legend.times[sequence])[step]).removesuffix(".000000000").removesuffix("T00:00:00")
        at = f"{name_of_times(legend)} {time}"
    return at + of_sequence(data, sequence)


def of_sequence(data: Sequences, sequence: int) -> str:
    """The words " of machine-03", " of sequence 7" (from 0), or nothing for a single sequence without an id."""
    if data.legend is not None and data.legend.ids:
        return f" of {data.legend.ids[sequence]}"
    return f" of sequence {sequence}" if len(data.lengths) > 1 else ""


def names_of_sequences(data: Sequences) -> tuple[str, ...]:
    """The id of each sequence as text, its number from 0 if it has none."""
    return tuple(str(name) for name in ids_of(data.legend, len(data.lengths)))


def p_text(p_value: float) -> str:
    """A p-value in words: "p = 0.002", or "p < 1e-16"."""
    return f"p < {_LEAST_P:g}" if p_value < _LEAST_P else f"p = {p_value:.1g}"


def verb(names: Sequence[str], one: str, many: str) -> str:
    """The verb in the number of the names."""
    return one if len(set(names)) == 1 else many
