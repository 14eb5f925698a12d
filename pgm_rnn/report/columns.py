"""Matches the columns of a file to the variables that a model was fitted to.

the file has all names of the fit, in any order  columns are taken by name
the file has other names                         an error; the user names the columns with --column
the file or the fit has no names                 columns are taken in their order, with a note if one of them has names
"""

from collections.abc import Sequence
from pathlib import Path

from pgm_rnn.data.reading import read_names

SHOWN = 6


def columns_to_take(
    path: Path, kept: Sequence[str], asked: Sequence[str] = (), *, is_same: bool = False
) -> tuple[tuple[str, ...], str]:
    """The columns to read and, where the choice is not obvious, a note; no columns mean all except those of time.

    Args:
        path: path of the file.
        kept: the columns that the model was fitted to, or numbers if they had no names; empty if they are not known.
        asked: the columns that the user asks for.
        is_same: whether the model was fitted to this very file.

    Raises:
        ValueError: the columns are not those of the fit, or not in the order of the fit.
        DataError: the file cannot be read.
    """
    wanted, are_numbered = _listed(kept), all(name.isdecimal() for name in kept)
    if asked:
        if sorted(asked) == sorted(kept) and list(asked) != list(kept):
            return tuple(kept), f"the columns are taken in the order of the fit: {wanted}"
        moved = [name for place, name in enumerate(asked) if name in kept and list(kept).index(name) != place]
        if moved and not are_numbered and len(asked) == len(kept):
            raise ValueError(
                f"expected --column in the order of the fit, {wanted}, got {_listed(asked)}, where {moved[0]!r} is "
                "at another place; change their order"
            )
        return tuple(asked), ""
    names = read_names(path) if kept else ()
    if not names:
        if are_numbered:
            return (tuple(kept), "") if is_same else ((), "")
        return (), f"{path} names no columns; they are taken in the order of the fit: {wanted}"
    if set(kept) <= set(names):
        return tuple(kept), ""
    if are_numbered:
        return (), f"the columns of the fit have no names; those of {path} are taken in their order"
    raise ValueError(
        f"expected the columns of the fit, {wanted}, in {path}, got {_listed(names)}; rename them, or name those to "
        "take with --column, in that order"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
