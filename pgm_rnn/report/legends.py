"""The words that the record of a fit has for its data."""

from collections.abc import Mapping
from typing import Any

from pgm_rnn.legend import Column, Legend
from pgm_rnn.report.tables import from_record


def legend_of_fit(info: Mapping[str, Any]) -> Legend | None:
    """Names of the columns and words of the symbols from the record of a fit, None where it has neither."""
    kept = from_record(info.get("legend"))
    if kept is not None and not all(name.isdecimal() for name in kept.columns):
        return kept.legend
    vocabulary, file = info.get("vocabulary"), info.get("file")
    if isinstance(vocabulary, str) and vocabulary:
        return Legend((Column("character", "symbol", words=tuple(map(_visible, vocabulary))),))
    names = file.get("columns") if isinstance(file, dict) else None
    if isinstance(names, list) and names and all(isinstance(name, str) and not name.isdecimal() for name in names):
        return Legend(tuple(Column(name) for name in names))
    return None


def _visible(character: str) -> str:
    return character if character.isprintable() and not character.isspace() else repr(character)
