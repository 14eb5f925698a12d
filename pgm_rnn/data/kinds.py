"""Kinds of columns: found from the cells, or asked for, and the numbers that the cells become.

words                                           symbol, numbered by the sorted vocabulary
truth values, yes and no                        binary
numbers with decimals                           real
whole numbers of more than 20 different values  real
whole numbers of fewer                          an error: they may be counts, labels or measurements
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np

from pgm_rnn.checks import check_choice
from pgm_rnn.data.cells import Cells, first
from pgm_rnn.data.dialect import is_number
from pgm_rnn.data.frame import Frame
from pgm_rnn.data.source import DataError
from pgm_rnn.emissions.symbols import MAX_SYMBOLS
from pgm_rnn.legend import KINDS, Column, Kind

FEW = 20
"""Up to this many different whole numbers may be counts or labels."""
LARGEST = 1e150
"""Largest size of a number: squares of larger ones, and their sums, would overflow float64."""
TRUTH = ({"yes": 1.0, "no": 0.0}, {"y": 1.0, "n": 0.0}, {"true": 1.0, "false": 0.0})
"""Words that are truth values, in lower case."""
_NUMBER_WRITTEN_OTHERWISE = re.compile(r"[-+]?[$€£]?\s?\d[\d.,'’\s]*[%€$£]?")
Array = np.ndarray[Any, np.dtype[Any]]
Words = Mapping[str, Sequence[str]] | Sequence[str] | None


class Variable(NamedTuple):
    """A column that is observed.

    Attributes:
        column: its words.
        values: its numbers, (rows,), float64, NaN where one is missing.
    """

    column: Column
    values: Array


def variables(
    frame: Frame,
    names: Sequence[str],
    kind: Kind | Mapping[str, Kind] | None,
    words: Words,
    units: Mapping[str, str] | None,
) -> list[Variable]:
    """The observed columns, with their kinds.

    Raises:
        DataError: cells that do not fit the kind, a column without a value, whole numbers of no clear kind, or a word
            that is not in the vocabulary.
        ValueError: an unknown kind, or a kind, vocabulary or unit of a column that is not observed.
    """
    contents = {name: _whole_cells(frame, name) for name in names}
    wanted = _wanted(names, kind)
    vocabularies = _vocabularies(names, words, wanted)
    _check_names("units", units or {}, names)
    kinds: dict[str, Kind | None] = {}
    for name in names:
        known: Kind | None = "symbol" if name in vocabularies else wanted.get(name)
        kinds[name] = known or _kind_of(frame, name, contents[name])
    _check_clear(kinds, contents)
    found = []
    for name, clear in kinds.items():
        assert clear is not None  # `_check_clear` saw to it
        values, vocabulary = _numbers(frame, name, clear, contents[name], vocabularies.get(name))
        found.append(Variable(Column(name, clear, (units or {}).get(name), vocabulary), values))
    return found


def inputs_of(frame: Frame, names: Sequence[str]) -> Array:
    """The columns of exogenous inputs as numbers, (rows, input_dim).

    Raises:
        DataError: cells that are no numbers, or empty ones.
    """
    columns = []
    for name in names:
        values, _ = _numbers(frame, name, "real", _whole_cells(frame, name), None)
        empty = np.isnan(values)
        if empty.any():
            raise DataError(
                f"expected inputs at every step, got none in column {name!r} in {frame.place(first(empty))}; fill it in"
            )
        columns.append(values)
    return np.stack(columns, axis=1)


def _whole_cells(frame: Frame, name: str) -> Cells:
    """The cells of a column that has some."""
    cells = frame.cells(name)
    if cells.is_date:
        raise DataError(
            f"expected numbers or words in column {name!r} of {frame.name}, got dates; give it as time={name!r}, or "
            "leave it out"
        )
    if not len(cells.seen):
        raise DataError(
            f"expected values in column {name!r} of {frame.name}, got only empty cells; leave it out by columns=[...]"
        )
    infinite = np.isinf(cells.values)
    if infinite.any():
        raise DataError(
            f"expected finite numbers in column {name!r}, got infinity in {frame.place(first(infinite))}; "
            "leave the cell empty if the number is missing"
        )
    return cells


def _wanted(names: Sequence[str], kind: Any) -> Mapping[str, Any]:
    """The kinds that were asked for, by column."""
    if kind is None:
        return {}
    by_name: dict[str, Any] = dict.fromkeys(names, kind) if isinstance(kind, str) else dict(kind)
    _check_names("kind", by_name, names)
    for name, one in by_name.items():
        check_choice(f"kind of column {name!r}" if not isinstance(kind, str) else "kind", one, get_args(Kind))
    return by_name


def _vocabularies(names: Sequence[str], words: Words, wanted: Mapping[str, Kind]) -> Mapping[str, Sequence[str]]:
    if words is None:
        return {}
    if not isinstance(words, Mapping):
        if len(names) != 1:
            raise ValueError(
                f"expected words as a mapping from column to vocabulary, got one list for {len(names)} columns"
            )
        words = {names[0]: words}
    words = {name: found for name, found in words.items() if found}
    _check_names("words", words, names)
    other = [name for name in words if wanted.get(name, "symbol") != "symbol"]
    if other:
        raise ValueError(
            f"expected words only for columns of symbols, got some for {other[0]!r}, whose kind is {wanted[other[0]]}"
        )
    return words


def _check_names(what: str, given: Collection[str], names: Sequence[str]) -> None:
    for name in given:
        check_choice(f"a column of {what}", name, names)


def _kind_of(frame: Frame, name: str, cells: Cells) -> Kind | None:
    """The kind that the cells show; None if it is not clear."""
    if cells.is_bool:
        return "binary"
    if cells.words is not None:
        if 0.5 < cells.share_of_numbers < 1:
            raise _mixed(frame, name, cells)
        if any({word.lower() for word in cells.words} <= set(truth) for truth in TRUTH):
            return "binary"
        _check_written(frame, name, cells)
        _check_repeated(frame, name, cells)
        return "symbol"
    seen = cells.seen
    if bool((seen != np.floor(seen)).any()):
        return "real"
    return "real" if len(np.unique(seen)) > FEW else None


def _mixed(frame: Frame, name: str, cells: Cells) -> DataError:
    words = cells.words or ()
    row = first(cells.of_words([not is_number(word) for word in words]))
    word = words[int(cells.values[row])]
    return DataError(
        f"expected numbers in column {name!r} as in most of its cells, got {word!r} in {frame.place(row)}; correct it, "
        f"leave the cell empty if the number is missing, or read all cells as words by kind={{{name!r}: 'symbol'}}"
    )


def _check_written(frame: Frame, name: str, cells: Cells) -> None:
    """Raise if most words are numbers in another way of writing, such as 1,234.5 or 5 %."""
    odd = [_NUMBER_WRITTEN_OTHERWISE.fullmatch(word) is not None for word in cells.words or ()]
    rows = cells.of_words(odd)
    if rows.sum() > len(cells.seen) / 2:
        row = first(rows)
        word = (cells.words or ())[int(cells.values[row])]
        raise DataError(
            f"expected numbers written like 1234.5 in column {name!r}, got {word!r} in {frame.place(row)}; write them "
            f"in that way, or read them as words by kind={{{name!r}: 'symbol'}}"
        )


def _check_repeated(frame: Frame, name: str, cells: Cells) -> None:
    """Raise if nearly every cell has a word of its own: a text or an id is no symbol."""
    count, rows = len(cells.words or ()), len(cells.seen)
    if count > FEW and count > rows / 2:
        raise DataError(
            f"expected words that repeat in column {name!r} of {frame.name}, got {count} different ones in {rows} "
            f"rows; leave the column out by columns=[...], or read them as symbols by kind={{{name!r}: 'symbol'}}"
        )


def _check_clear(kinds: Mapping[str, Kind | None], contents: Mapping[str, Cells]) -> None:
    """Raise if whole numbers of few values are of no clear kind.

    Raises:
        DataError: with the choices.
    """
    unclear = [name for name, kind in kinds.items() if kind is None]
    if not unclear:
        return
    name, seen = unclear[0], np.unique(contents[unclear[0]].seen)
    among = [kind for kind in KINDS if _suits(kind, seen)]
    choices = " or ".join(
        [f"kind={{{name!r}: {choice!r}}}" for choice in ["count", "symbol", "real", "binary"] if choice in among]
    )
    others = f" (and likewise for {', '.join(map(repr, unclear[1:]))})" if len(unclear) > 1 else ""
    raise DataError(
        f"expected a kind for column {name!r}{others}, whose cells are whole numbers with {len(seen)} different values "
        f"such as {', '.join(f'{value:g}' for value in seen[:3])}; choose {choices}"
    )


def _suits(kind: Kind, seen: Array) -> bool:
    """Whether whole numbers may be of a kind."""
    return {"count": bool((seen >= 0).all()), "binary": bool(np.isin(seen, (0, 1)).all())}.get(kind, True)


def _numbers(
    frame: Frame, name: str, kind: Kind, cells: Cells, vocabulary: Sequence[str] | None
) -> tuple[Array, tuple[str, ...]]:
    """The numbers of a column of a known kind, and the vocabulary of symbols."""
    if kind == "symbol":
        return _symbols(frame, name, cells, vocabulary)
    values = cells.values
    if cells.words is not None:
        values = _of_words(frame, name, kind, cells)
    _check_values(frame, name, kind, values)
    return values, ()


def _of_words(frame: Frame, name: str, kind: Kind, cells: Cells) -> Array:
    """Numbers of words that stand for truth values, or for nothing else but numbers."""
    words = cells.words or ()
    for truth in TRUTH if kind == "binary" else ():
        if {word.lower() for word in words} <= set(truth):
            return np.append([truth[word.lower()] for word in words], np.nan)[_places(cells)]
    if cells.share_of_numbers > 0.5:
        raise _mixed(frame, name, cells)
    row = first(cells.of_words([not is_number(word) for word in words]))
    raise DataError(
        f"expected numbers in column {name!r} of kind {kind}, got {words[int(cells.values[row])]!r} in "
        f"{frame.place(row)}; read words by kind={{{name!r}: 'symbol'}}, or leave the column out by columns=[...]"
    )


def _places(cells: Cells) -> Array:
    """Places in the words, -1 where a cell is empty."""
    return np.nan_to_num(cells.values, nan=-1).astype(np.int64)


def _check_values(frame: Frame, name: str, kind: Kind, values: Array) -> None:
    """Raise unless the numbers are of the kind."""
    with np.errstate(invalid="ignore"):
        wrong, expected = np.abs(values) > LARGEST, f"numbers of size up to {LARGEST:g}"
        remedy = "leave the cell empty if the number is missing, or rescale the column"
        if kind == "count" and not wrong.any():
            wrong, expected = (values < 0) | (values != np.floor(values)), "counts 0, 1, 2, ..."
            remedy = f"correct it, or read the column by kind={{{name!r}: 'real'}}"
        elif kind == "binary" and not wrong.any():
            wrong, expected = (values != 0) & (values != 1), "0 or 1"
            remedy = f"correct it, or read the column by kind={{{name!r}: 'count'}}, 'symbol' or 'real'"
    wrong &= ~np.isnan(values)
    if wrong.any():
        row = first(wrong)
        raise DataError(f"expected {expected} in column {name!r}, got {values[row]:g} in {frame.place(row)}; {remedy}")


def _symbols(frame: Frame, name: str, cells: Cells, vocabulary: Sequence[str] | None) -> tuple[Array, tuple[str, ...]]:
    """Symbols numbered by a vocabulary, and that vocabulary: the one that is given, or the sorted words."""
    if cells.words is None:
        cells = _as_words(frame, name, cells)
    words = cells.words or ()
    known = tuple(map(str, vocabulary)) if vocabulary is not None else _sorted(words, frame.table[name])
    place = {word: float(number) for number, word in enumerate(known)}
    new = [word not in place for word in words]
    unseen = cells.of_words(new)
    if unseen.any():
        row = first(unseen)
        shown = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
        raise DataError(
            f"expected words of the vocabulary ({shown}) in column {name!r}, got {words[int(cells.values[row])]!r} in "
            f"{frame.place(row)}; correct it, or fit a model to data that contain this word"
        )
    return np.append([place.get(word, np.nan) for word in words], np.nan)[_places(cells)], known


def _as_words(frame: Frame, name: str, cells: Cells) -> Cells:
    """Whole numbers, or truth values, as words."""
    wrong = ~np.isnan(cells.values) & (cells.values != np.floor(cells.values))
    if wrong.any():
        row = first(wrong)
        raise DataError(
            f"expected words or whole numbers in column {name!r} of kind symbol, got {cells.values[row]:g} in "
            f"{frame.place(row)}; read the column by kind={{{name!r}: 'real'}}"
        )
    large = cells.values >= MAX_SYMBOLS
    if large.any():
        row = first(large)
        raise DataError(
            f"expected symbols below {MAX_SYMBOLS:,} in column {name!r}, got {cells.values[row]:g} in "
            f"{frame.place(row)}; read the column by kind={{{name!r}: 'real'}}"
        )
    numbers, places = np.unique(cells.seen, return_inverse=True)
    if not frame.is_named and not cells.is_bool and len(numbers) and numbers[0] >= 0:  # numbers of symbols already
        return Cells(cells.values, tuple(str(number) for number in range(int(numbers[-1]) + 1)))
    values = np.full(len(cells.values), np.nan)
    values[~np.isnan(cells.values)] = places
    words = [("False", "True")[int(n)] if cells.is_bool else str(int(n)) for n in numbers]
    return Cells(values, tuple(words))


def _sorted(words: Sequence[str], column: Any) -> tuple[str, ...]:
    """A vocabulary in the order of a category, of the numbers, or of the alphabet."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.ordered:
        return tuple(words)
    return tuple(sorted(words, key=float) if all(map(is_number, words)) else sorted(words))
