"""The cells of one column: numbers, or words of a vocabulary, with NaN where a cell holds nothing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pgm_rnn.data.dialect import is_missing, is_number

Array = np.ndarray[Any, np.dtype[Any]]


class Cells(NamedTuple):
    """The contents of a column.

    Attributes:
        values: numbers, or places in `words`, (rows,), float64, NaN where a cell is empty.
        words: the different words, in the order of a category or of their first appearance; None for numbers.
        is_bool: whether the cells are truth values.
        is_date: whether the cells are dates or times of a type of their own.
    """

    values: Array
    words: tuple[str, ...] | None = None
    is_bool: bool = False
    is_date: bool = False

    @property
    def seen(self) -> Array:
        """The numbers that are there."""
        there = ~np.isnan(self.values)
        return self.values if bool(there.all()) else self.values[there]

    @property
    def share_of_numbers(self) -> float:
        """Which part of the cells with words are numbers in truth."""
        if self.words is None:
            return 1.0
        counts = np.bincount(self.seen.astype(np.int64), minlength=len(self.words))
        numeric = np.array([is_number(word) for word in self.words], dtype=bool)
        return float(counts[numeric].sum()) / max(1, int(counts.sum()))

    def of_words(self, wrong: Sequence[bool] | Array) -> Array:
        """True in the rows (rows,) of the words for which `wrong` (words,) is True."""
        places = np.nan_to_num(self.values, nan=len(wrong)).astype(np.int64)
        return np.append(np.asarray(wrong, dtype=bool), False)[places]


def first(wrong: Array) -> int:
    """The first row where `wrong` (rows,) is True."""
    return int(np.argmax(wrong))


def cells_of(column: Any) -> Cells:
    """The contents of a pandas column."""
    import pandas as pd

    kind = pd.api.types
    if kind.is_bool_dtype(column.dtype) and not isinstance(column.dtype, pd.CategoricalDtype):
        return Cells(column.to_numpy(dtype=np.float64, na_value=np.nan), is_bool=True)
    if kind.is_numeric_dtype(column.dtype):
        return Cells(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind.is_datetime64_any_dtype(column.dtype) or isinstance(column.dtype, pd.PeriodDtype):
        return Cells(column.isna().to_numpy().astype(np.float64), is_date=True)
    if kind.is_timedelta64_dtype(column.dtype):
        return Cells(column.dt.total_seconds().to_numpy())
    return _words(column)


def _words(column: Any) -> Cells:
    """The words of a column, stripped of blanks around them; numbers where all of them are numbers."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, found = column.cat.codes.to_numpy(), list(column.cat.categories)
    else:
        codes, found = pd.factorize(column)
    texts = ["" if is_missing(str(word)) else str(word).strip() for word in found]
    words = tuple(dict.fromkeys(text for text in texts if text))
    place = {word: float(number) for number, word in enumerate(words)} | {"": np.nan}
    values = np.array([*(place[text] for text in texts), np.nan])[codes]  # the last is for code -1, nothing
    if {word.lower() for word in words} <= {"true", "false"} and words:
        truth = np.array([word.lower() == "true" for word in words] + [False], dtype=np.float64)
        return Cells(np.where(np.isnan(values), np.nan, truth[np.nan_to_num(values).astype(int)]), is_bool=True)
    if words and all(is_number(word) for word in words):
        numbers = np.array([float(word) for word in words])
        return Cells(np.where(np.isnan(values), np.nan, numbers[np.nan_to_num(values).astype(int)]))
    return Cells(values, words if words else None)
