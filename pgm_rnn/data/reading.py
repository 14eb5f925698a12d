"""Sequences from anyone's files, tables and arrays.

    read_frame    a table, a row per step           `pgm_rnn.data.frames`
    groups_of     which rows are one sequence       `pgm_rnn.data.roles`
    axis_of       in which order they stand         `pgm_rnn.data.times`
    variables     what their cells mean as numbers  `pgm_rnn.data.kinds`

The result is one padded batch; names, kinds, units, vocabularies, ids, times and row numbers are in its legend.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pgm_rnn.data.frame import Frame
from pgm_rnn.data.frames import column_names, read_frame
from pgm_rnn.data.kinds import Variable, Words, inputs_of, variables
from pgm_rnn.data.roles import (
    Groups,
    ReadingWarning,
    check_column,
    check_times,
    found_time,
    groups_of,
    hint,
    observed_columns,
    sorted_rows,
)
from pgm_rnn.data.source import DataError
from pgm_rnn.data.times import Axis, Gaps, axis_of, spacing_of
from pgm_rnn.data.written import UNITS_OF_TEXT, is_text, read_written
from pgm_rnn.legend import Kind, Legend
from pgm_rnn.sequences import Sequences

Array = np.ndarray[Any, np.dtype[Any]]


def read_sequences(
    source: Any,
    sequence: str | None = None,
    time: str | None = None,
    columns: str | Sequence[str] | None = None,
    kind: Kind | Mapping[str, Kind] | str | None = None,
    *,
    inputs: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    words: Words = None,
) -> Sequences:
    """The sequences in a file, a DataFrame, an array, a list of arrays or a text.

    Tables hold a row per step: .csv, .tsv, .txt (separator, decimal comma and encoding are found out; empty cells, NA,
    N/A, NaN, NULL, ? and - are missing), .parquet, or a DataFrame. Arrays are (T,), (T, M) or (batch, T, M), in memory,
    in an .npy, or as x in an .npz beside lengths, mask and inputs; a list holds arrays (T_i,) or (T_i, M), or texts.
    A .txt that is no table of numbers is a text, one sequence of characters.

    Args:
        source: a path, or data in memory. `Sequences` are returned as they are.
        sequence: the column of ids, for tables of several sequences, whose rows may be mixed; ids keep the order in
            which they first appear. "line" makes a sequence of each line of a text.
        time: the column of times, by which the rows of each sequence are sorted: dates, numbers or words, in which
            numbers count. None for a column of dates, or one named as time that only grows or falls, if there is one;
            else rows stay in their order.
        columns: the observed columns, in this order; None for all but ids, time, inputs and columns that only count.
        kind: "real", "count", "binary" or "symbol" for all columns, or a mapping from column to kind. None for what the
            cells show: words are symbols, yes and no are binary, numbers with decimals real. Whole numbers of at most
            20 values may be counts, symbols or measurements, and must be given a kind. Of a text, "word" or
            "character".
        inputs: columns of exogenous inputs, without empty cells.
        units: units by column, such as {"flow": "m3/s"}.
        words: the vocabulary of symbols by column, as an earlier reading left it in `legend.columns[i].words`; None for
            the sorted words of the data.

    Returns:
        x: (batch, T, M) in torch's default dtype, M columns, of symbols their numbers in the vocabulary; (batch, T)
        for a single column of symbols or counts (int64) or of binary values. Missing entries are NaN, or 0 in int64,
        and False in the mask. The legend has names, kinds, units, words, ids, times and row numbers.

    Raises:
        DataError: no such file, or a cell, row or column that does not fit; the sentence names it and a remedy.
        ValueError: an unknown column or kind.
        TypeError: a source of another type.
        ModuleNotFoundError: a Parquet file where pyarrow is not installed.

    Warns:
        ReadingWarning: steps that are missing on a regular time axis, columns that are constant or left out, an id with
            a single row, or a table that seems to hold several sequences although `sequence` is not given.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"id": [*"baba"], "t": [2, 1, 1, 2], "flow": [0.5, 1.5, 2.5, 3]})
        >>> data = read_sequences(table, sequence="id", time="t")
        >>> data.x[0, :, 0].tolist(), data.lengths.tolist(), data.legend.ids
        ([2.5, 0.5], [2, 2], ('b', 'a'))
    """
    options = {"sequence": sequence, "time": time, "columns": columns, "kind": kind, "inputs": inputs, "units": units}
    if isinstance(source, Sequences):
        _check_none("Sequences, which are returned as they are", {**options, "words": words})
        return source
    if is_text(source):
        _check_none("a text", {name: options[name] for name in ("time", "columns", "inputs", "units")})
        return read_written(source, sequence, kind, words)
    if isinstance(kind, str) and kind in UNITS_OF_TEXT:
        raise ValueError(f"expected kind {kind!r} only for a text, got a table; words in cells are kind 'symbol'")
    frame = read_frame(source)
    for note in frame.notes:
        warnings.warn(note, ReadingWarning, stacklevel=2)
    return _of_table(frame, sequence, time, _listed(columns), kind, _listed(inputs), units, words)


def read_names(path: Path) -> tuple[str, ...]:
    """The names of the columns of a file; an empty tuple if it has none, as for arrays and texts.

    Raises:
        DataError: no such file, or a damaged one.
    """
    return () if is_text(path) else column_names(path)


def _check_none(what: str, options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"expected no {name} for {what}, got {value!r}; leave it out")


def _listed(names: str | Sequence[str] | None) -> list[str] | None:
    return [names] if isinstance(names, str) else None if names is None else list(names)


def _of_table(
    frame: Frame,
    sequence: str | None,
    time: str | None,
    columns: list[str] | None,
    kind: Any,
    inputs: list[str] | None,
    units: Mapping[str, str] | None,
    words: Words,
) -> Sequences:
    """The sequences in a table."""
    for role, name in [("sequence", sequence), ("time", time), *(("columns", n) for n in columns or ())]:
        if name is not None:
            check_column(frame, role, name)
    for name in inputs or ():
        check_column(frame, "inputs", name)
    groups = groups_of(frame, sequence)
    taken = [name for name in (sequence, time, *(inputs or ())) if name is not None]
    axis = None if time is None else axis_of(frame, time)
    if time is None and (found := found_time(frame, groups, [*taken, *(columns or ())])) is not None:
        time, axis = found
        taken.append(time)
    like_ids = None if sequence is not None else hint(frame, taken)
    order, lengths = _order(frame, groups, axis, time, like_ids)
    if like_ids is not None:
        warnings.warn(
            f"the rows of {frame.name} are read as one sequence, but column {like_ids!r} looks like the ids of several "
            f"sequences; if so, read them by sequence={like_ids!r}",
            ReadingWarning,
            stacklevel=3,
        )
    names = columns or observed_columns(frame, groups, taken, time is not None)
    found_variables = variables(frame, names, kind, words, units)
    _warn_of_constants(found_variables)
    _warn_of_single_rows(frame, groups, lengths)
    driven = inputs_of(frame, inputs) if inputs else frame.inputs
    legend = Legend(
        tuple(variable.column for variable in found_variables),
        tuple(inputs or ()),
        sequence,
        groups.ids,
        time,
        () if axis is None else tuple(np.split(axis.times[order], np.cumsum(lengths)[:-1])),
        tuple(np.split(order, np.cumsum(lengths)[:-1])),
    )
    return _batch(found_variables, driven, order, lengths, legend)


def _order(
    frame: Frame, groups: Groups, axis: Axis | None, time: str | None, like_ids: str | None
) -> tuple[Array, Array]:
    """The rows, sequence by sequence in order of time, and the lengths; warns of missing steps."""
    order, lengths = sorted_rows(groups.codes, axis), np.bincount(groups.codes)
    if axis is None or time is None:
        return order, lengths
    remedy = "drop one of them" if groups.ids else "drop one of them, or name the column of ids as sequence=..."
    if like_ids is not None:
        remedy = f"column {like_ids!r} looks like the ids of several sequences, so read them by sequence={like_ids!r}"
    check_times(frame, axis, groups, order, time, remedy)
    _warn_of_spacing(frame, groups, axis, time, order, lengths)
    return order, lengths


def _warn_of_spacing(frame: Frame, groups: Groups, axis: Axis, time: str, order: Array, lengths: Array) -> None:
    """Warn of steps that are missing on a regular axis, or of an axis that is uneven."""
    found = spacing_of(axis, order, lengths)
    if found is None:
        return
    if isinstance(found, Gaps):
        steps = "1 step is" if found.num_steps == 1 else f"{found.num_steps} steps are"
        of = f" of sequence {groups.ids[groups.codes[found.row]]!r}" if groups.ids else ""
        text = (
            f"{steps} missing in column {time!r}, the first after {axis.at(found.row)}{of} ({frame.place(found.row)}); "
            "the rows before and after a gap are treated as consecutive steps, so add rows with empty cells to keep "
            "the gap"
        )
    else:
        text = (
            f"the rows are not evenly spaced in column {time!r} ({found.smallest} to {found.largest} apart), and each "
            "is treated as one step; average them over equal intervals if the spacing matters"
        )
    warnings.warn(text, ReadingWarning, stacklevel=5)


def _warn_of_constants(found: Sequence[Variable]) -> None:
    for column, values in found:
        seen = values[~np.isnan(values)]
        if len(seen) > 1 and bool((seen == seen[0]).all()):
            value = repr(column.words[int(seen[0])]) if column.words else f"{seen[0]:g}"
            warnings.warn(
                f"column {column.name!r} is {value} in every row; leave it out by columns=[...]",
                ReadingWarning,
                stacklevel=4,
            )


def _warn_of_single_rows(frame: Frame, groups: Groups, lengths: Array) -> None:
    """Warn of ids with one row among others with more: often an id that is mistyped."""
    single = np.flatnonzero(lengths == 1)
    if not groups.ids or not len(single) or len(single) == len(lengths):
        return
    row = int(np.argmax(groups.codes == single[0]))
    others = "" if len(single) == 1 else f", and so have {len(single) - 1} other ids"
    warnings.warn(
        f"the id {groups.ids[single[0]]!r} has a single row ({frame.place(row)}){others}; it is read as a sequence of "
        "one step; correct the id or drop the row if that is wrong",
        ReadingWarning,
        stacklevel=4,
    )


def _batch(found: Sequence[Variable], driven: Array | None, order: Array, lengths: Array, legend: Legend) -> Sequences:
    """The padded batch of the rows."""
    kind = found[0].column.kind if len(found) == 1 else "real"
    values = np.empty((len(order), len(found)))  # (rows, M)
    for place, variable in enumerate(found):
        values[:, place] = variable.values[order]
    seen = torch.from_numpy(~np.isnan(values))
    if kind in ("symbol", "count"):
        rows = torch.from_numpy(np.nan_to_num(values)).long()
    else:
        rows = _in_default_dtype(torch.from_numpy(values), found)
    if kind != "real":
        rows, seen = rows[:, 0], seen[:, 0]
    inside = torch.arange(int(lengths.max())) < torch.from_numpy(lengths)[:, None]  # (batch, T)
    inputs = None if driven is None else _padded(torch.from_numpy(driven[order]).to(torch.get_default_dtype()), inside)
    mask = None if bool(seen.all()) else _padded(seen, inside)
    return Sequences(_padded(rows, inside), torch.from_numpy(lengths).long(), None, inputs, mask, legend)


def _padded(rows: Tensor, inside: Tensor) -> Tensor:
    """Rows (sum T_i, ...) of sequences one after the other as (batch, T, ...), zeros in the padding."""
    if len(rows) == inside.numel():
        return rows.reshape(*inside.shape, *rows.shape[1:])
    padded = rows.new_zeros(inside.numel(), *rows.shape[1:])
    padded[inside.reshape(-1).nonzero()[:, 0]] = rows
    return padded.reshape(*inside.shape, *rows.shape[1:])


def _in_default_dtype(values: Tensor, found: Sequence[Variable]) -> Tensor:
    """Numbers (rows, M) in torch's default dtype.

    Raises:
        DataError: a number too large for it.
    """
    cast = values.to(torch.get_default_dtype())
    if cast.dtype != values.dtype and bool((large := cast.isinf()).any()):  # the numbers that were read are finite
        row, place = large.nonzero()[0].tolist()
        raise DataError(
            f"expected numbers up to {torch.finfo(cast.dtype).max:.2g} in column {found[place].column.name!r}, got "
            f"{float(values[row, place]):g}; rescale the column, or use torch.set_default_dtype(torch.float64)"
        )
    return cast
