"""The words that the record of a fit has for its data."""

from collections.abc import Mapping
from typing import Any

from pgm_rnn.legend import Column, Legend
from pgm_rnn.report.tables import reading_of


def legend_of_fit(info: Mapping[str, Any]) -> Legend | None:
    """Names of the columns and words of the symbols from the record of a fit, None where it has neither."""
    kept, vocabulary = reading_of(info), info.get("vocabulary")
    if isinstance(vocabulary, str) and vocabulary:
        return Legend((Column("character", "symbol", words=tuple(map(_visible, vocabulary))),))
    if kept is None or all(name.isdecimal() for name in kept.columns):
        return None
    return kept.legend


def _visible(character: str) -> str:
    return character if character.isprintable() and not character.isspace() else repr(character)
