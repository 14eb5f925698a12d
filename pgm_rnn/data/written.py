"""Texts as sequences of symbols: characters or words, by a vocabulary that is sorted or given."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pgm_rnn.checks import check_choice
from pgm_rnn.data.dialect import dialect_of, first_rows, is_missing, is_number
from pgm_rnn.data.kinds import Words
from pgm_rnn.data.source import DataError
from pgm_rnn.legend import Column, Legend
from pgm_rnn.sequences import Sequences, pad

UNITS_OF_TEXT = ("character", "word")
WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
"""A word, with apostrophes and hyphens inside, or a mark of punctuation."""


def is_text(source: Any) -> bool:
    """Whether a source is a text: a list of strings, or a .txt that is no table of numbers."""
    if isinstance(source, list | tuple):
        return bool(source) and all(isinstance(part, str) for part in source)
    if not isinstance(source, str | Path) or Path(source).suffix.lower() != ".txt" or not Path(source).is_file():
        return False
    try:
        rows = first_rows(Path(source), dialect_of(Path(source)))
    except (DataError, OSError):
        return True
    widths = {len(row) for row in rows}
    columns = zip(*rows[1:], strict=True) if len(widths) == 1 and len(rows) > 1 else ()
    return not any(all(is_number(cell) or is_missing(cell) for cell in column) for column in columns)


def read_written(source: Any, sequence: str | None, unit: object, words: Words) -> Sequences:
    """Symbols x (batch, T), int64, of a text.

    Args:
        source: a path, or a list of texts, each of which is a sequence.
        sequence: None for one sequence of a file, "line" for one of each line that is not empty.
        unit: "character" (None) or "word".
        words: a vocabulary; None for the sorted characters or words of the text.

    Raises:
        DataError: an empty text, a file that is not in UTF-8, or a symbol that is not in the vocabulary.
        ValueError: another unit or sequence.
    """
    unit = "character" if unit in (None, "symbol") else str(unit)
    check_choice("kind of a text", unit, UNITS_OF_TEXT)
    if sequence is not None:
        check_choice("sequence of a text", sequence, ("line",))
    texts, name = _texts(source, sequence)
    parts = [list(text) if unit == "character" else WORD.findall(text) for text in texts]
    rows = [row for row, part in enumerate(parts) if part]
    if not rows:
        raise DataError(f"expected a text, got an empty one in {name}")
    given = next(iter(words.values())) if isinstance(words, Mapping) else words
    vocabulary = tuple(sorted({word for part in parts for word in part})) if given is None else tuple(given)
    place = {word: number for number, word in enumerate(vocabulary)}
    for row in rows:
        new = [word for word in parts[row] if word not in place]
        if new:
            raise DataError(
                f"expected {unit}s from the vocabulary of {len(vocabulary)} {unit}s, got {new[0]!r} in text {row + 1} "
                f"of {name}; remove it, or fit a model to texts that contain it"
            )
    batch = pad([torch.from_numpy(np.array([place[word] for word in parts[row]], dtype=np.int64)) for row in rows])
    return batch._replace(legend=Legend((Column(unit, "symbol", words=vocabulary),)))


def _texts(source: Any, sequence: str | None) -> tuple[Sequence[str], str]:
    if isinstance(source, list | tuple):
        return source, "the list"
    path = Path(source)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"expected a text in UTF-8, got another encoding in {path}; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"expected a file that can be read, got {path}: {error.strerror or error}") from None
    return (text.splitlines() if sequence == "line" else [text]), path.name
