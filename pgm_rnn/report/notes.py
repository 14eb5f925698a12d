"""Warnings that a report shows in a place of its own."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pgm_rnn.inference import em


@contextmanager
def noted(kind: type[Warning]) -> Iterator[list[str]]:
    """A block whose warnings of one kind are in the list when it has ended; the others are given as ever."""
    sentences = list[str]()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", kind)
        yield sentences
    for warning in said:
        if issubclass(warning.category, kind):
            sentences.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def as_notes(sentences: Iterable[str]) -> list[str]:
    """Lines that say the sentences to the user of a command."""
    return [f"note: {sentence}" for sentence in sentences]


def noted_em(model: Any, data: Any, **options: Any) -> tuple[em.EmFit, list[str]]:
    """The result of `em.fit`, and the warnings that it gave."""
    with noted(em.EmWarning) as said:
        found = em.fit(model, data, **options)
    return found, said
