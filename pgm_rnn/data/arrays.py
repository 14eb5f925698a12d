"""Arrays of numbers in .npy and .npz files, which may be damaged or hostile: nothing is unpickled or trusted.

    x          (T,), (T, M) or (batch, T, M), or the only array in the file
    lengths    (batch,), whole numbers in 1..T for x (batch, T) or (batch, T, M); values beyond them are padding
    mask       of the shape of x or without its last axis: False where a number is missing
    z          the states that `pgm-rnn sample` writes beside its draws: left out, with a note
    inputs     (batch, T, input_dim), or (T, input_dim) for one series

Any other array in an .npz is an error, because the user may have meant it to be read.
"""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from pgm_rnn.data.source import DataError
from pgm_rnn.data.table import Table
from pgm_rnn.sequences import check_lengths

DAMAGE = (
    ValueError,
    TypeError,
    EOFError,
    OverflowError,
    RuntimeError,
    NotImplementedError,
    KeyError,
    IndexError,
    SyntaxError,
    RecursionError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""Exceptions of numpy and zipfile for contents that are damaged, encrypted or packed in an unknown way."""
LONGEST_REASON = 120
"""Number of characters shown from their messages, which may quote the file."""
COMPANIONS = ("lengths", "mask", "z")
Array = np.ndarray[Any, Any]


def read_array(path: Path) -> Table:
    """The table in a file.

    Raises:
        DataError: another kind of file or a damaged one, other arrays in it, or arrays that do not fit each other.
    """
    with path.open("rb") as stream:
        is_zip = stream.read(2) == b"PK"
        stream.seek(0)
        try:
            arrays = _unzipped(stream, path) if is_zip else {"x": _array(stream, path.stat().st_size)}
        except DataError:
            raise
        except (*DAMAGE, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # from the file system, not from a packed stream
                raise
            reason = str(error).split("\n")[0] or type(error).__name__
            reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}..."
            raise DataError(
                f"expected an array of numbers in {path}, got another kind of file, a damaged file or objects: {reason}"
            ) from None
    return _table(arrays, path)


def _array(stream: IO[bytes], size: int) -> Array:
    """The array in a stream of `size` bytes; a header that promises more bytes than that is an error."""
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("Python objects are stored as a pickle, which is never read; save numbers")
    wanted, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if wanted != there or any(n < 0 for n in shape):
        raise ValueError(f"its header promises {wanted:,} bytes of numbers, but {there:,} follow it")
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _unzipped(stream: IO[bytes], path: Path) -> dict[str, Array]:
    """The arrays of an .npz by name."""
    with zipfile.ZipFile(stream) as packed:
        members = packed.infolist()
        names = [member.filename.removesuffix(".npy") for member in members]
        _check_names([name for name in names if name != "inputs"], [m.filename for m in members], path)
        arrays = {}
        for name, member in zip(names, members, strict=True):
            with packed.open(member) as unpacked:
                arrays[name] = _array(unpacked, member.file_size)
    return arrays


def _check_names(names: list[str], files: list[str], path: Path) -> None:
    """Raise a DataError unless every member of an .npz has a known use."""
    alien = [file for file in files if not file.endswith(".npy")]
    double = sorted({name for name in names if names.count(name) > 1})
    if alien or double:
        got = ", ".join(alien) if alien else f"{', '.join(double)} twice"
        raise DataError(f"expected arrays with different names in {path}, got {got}; save it again with numpy.savez")
    others = [name for name in names if name not in COMPANIONS]
    if "x" not in names and len(others) != 1:
        held = ", ".join(names) or "none"
        raise DataError(f"expected one array in {path}, or one called x, got {held}; save the one you mean")
    unused = [name for name in others if name != "x"] if "x" in names else []
    if unused:
        raise DataError(
            f"expected only x, lengths, mask, inputs and z in {path}, got {', '.join(unused)} as well, which would not "
            "be used; save the file without it"
        )


def _table(arrays: dict[str, Array], path: Path) -> Table:
    others = sorted((name for name in arrays if name not in COMPANIONS), key="inputs".__eq__)
    name = "x" if "x" in arrays else others[0]
    x = _numbers(arrays[name], path)
    lengths = None if "lengths" not in arrays else _lengths(arrays["lengths"], x, path)
    table = x[None, :, None] if x.ndim == 1 else x[..., None] if lengths is not None and x.ndim == 2 else x
    table = table if table.ndim == 3 else table[None]  # (batch, T, M)
    if "mask" in arrays:
        mask = _mask(arrays["mask"], x, path).reshape(*table.shape[:2], -1)
        table = np.where(mask, table, math.nan)
        if lengths is None and len(table) > 1:
            lengths = _lengths_of_padding(mask)
    if lengths is not None:
        table = np.where(np.arange(table.shape[1])[:, None] < lengths[:, None, None], table, 0.0)
        table = table[:, : int(lengths.max())]
    inputs = None if "inputs" not in arrays or name == "inputs" else _inputs(arrays["inputs"], table, path)
    notes = ("the states z in the file are not observations and are left out",) if "z" in arrays else ()
    return Table(table, lengths, notes, inputs)


def _inputs(inputs: Array, table: Array, path: Path) -> Array:
    """Inputs (batch, T, input_dim) beside the numbers (batch, T, M)."""
    inputs = _numbers(inputs, path)
    inputs = inputs[None] if inputs.ndim == 2 and len(table) == 1 else inputs
    if inputs.ndim != 3 or len(inputs) != len(table) or inputs.shape[1] < table.shape[1]:
        raise DataError(
            f"expected inputs (batch, T, input_dim) = ({len(table)}, {table.shape[1]}, ...) in {path}, got "
            f"{inputs.shape}; give one row of inputs per step"
        )
    return inputs[:, : table.shape[1]]


def _numbers(array: Array, path: Path) -> Array:
    if array.dtype.kind not in "biuf":
        raise DataError(f"expected an array of numbers in {path}, got {array.dtype}")
    if array.ndim not in (1, 2, 3):
        raise DataError(f"expected an array (T,), (T, M) or (batch, T, M) in {path}, got shape {array.shape}")
    if 0 in array.shape:
        raise DataError(f"expected at least one number, got none in {path}")
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinity, which raises later
        return array.astype(np.float64)


def _lengths(lengths: Array, x: Array, path: Path) -> Array:
    if x.ndim == 1 or lengths.shape != x.shape[:1]:
        raise DataError(
            f"expected lengths (batch,) for x (batch, T) or (batch, T, M) in {path}, got lengths {lengths.shape} for "
            f"x {x.shape}; pad the series to one length, with one series per row of x"
        )
    if lengths.dtype.kind not in "iu":
        raise DataError(f"expected whole numbers as lengths in {path}, got {lengths.dtype}; use lengths.astype(int)")
    if lengths.dtype.kind == "u" and int(lengths.max()) > x.shape[1]:  # beyond int64 they would be negative
        index = int(lengths.argmax())
        raise DataError(f"expected lengths in 1..T = 1..{x.shape[1]}, got {lengths[index]} at index {index}, in {path}")
    try:
        return check_lengths(torch.from_numpy(lengths.astype(np.int64)), torch.from_numpy(x)).numpy()
    except ValueError as error:
        raise DataError(f"{error} (in {path})") from None


def _mask(mask: Array, x: Array, path: Path) -> Array:
    if mask.dtype.kind not in "biu" or not np.isin(mask, (0, 1)).all():
        raise DataError(f"expected truth values as mask in {path}, got {mask.dtype}; use mask.astype(bool)")
    if mask.shape not in (x.shape, x.shape[:-1] if x.ndim > 1 else x.shape):
        raise DataError(
            f"expected a mask of shape {x.shape}, the shape of x, or that without its last axis, in {path}, got "
            f"{mask.shape}"
        )
    return mask.astype(bool)


def _lengths_of_padding(mask: Array) -> Array | None:
    """The lengths of series whose mask (batch, T, M) is False in the padding and nowhere else, else None."""
    seen = mask.any(-1)  # (batch, T)
    lengths = seen.sum(1)
    is_padding = (mask.all(-1) == seen).all() and (lengths > 0).all() and (np.diff(seen.astype(int), axis=1) <= 0).all()
    return lengths.astype(np.int64) if is_padding else None
