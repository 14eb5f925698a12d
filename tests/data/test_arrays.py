"""Arrays with lengths and masks, arrays that nobody would read, and files that are damaged or hostile."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pgm_rnn.data import DataError
from pgm_rnn.data.kinds import LARGEST
from tests.data.as_series import read_series

X = np.random.default_rng(0).normal(size=(3, 5, 2))
LENGTHS = np.array([5, 2, 3])


def written(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


# Padding.


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16])
def test_lengths_say_what_is_padding(dtype: Any, tmp_path: Path) -> None:
    found = read_series(written(tmp_path, x=X, lengths=LENGTHS.astype(dtype)))
    assert found.lengths is not None
    assert found.lengths.tolist() == [5, 2, 3]
    for i, length in enumerate(LENGTHS):
        assert np.array_equal(found.x[i, :length], X[i, :length])
        assert not found.x[i, length:].any()


def test_what_stands_in_the_padding_is_never_read(tmp_path: Path) -> None:
    odd = X.copy()
    odd[1, 2:], odd[2, 3:] = np.inf, np.nan
    found, plain = (read_series(written(tmp_path, x=x, lengths=LENGTHS)) for x in (odd, X))
    assert torch.equal(found.x, plain.x)


def test_series_of_single_numbers_leave_out_the_last_axis(tmp_path: Path) -> None:
    found = read_series(written(tmp_path, x=X[..., 0], lengths=LENGTHS))
    assert found.x.shape == (3, 5, 1)
    assert read_series(written(tmp_path, flow=X[..., 0])).x.shape == (1, 3, 5)  # one series without lengths
    assert read_series(written(tmp_path, flow=X, lengths=[2, 1, 2])).x.shape == (3, 2, 2)  # cut to the longest


def test_a_mask_says_what_is_missing(tmp_path: Path) -> None:
    mask = np.ones((3, 5, 2), dtype=bool)
    mask[0, 1, 1] = mask[1, 0] = False
    for kind in (bool, np.int8):
        found = read_series(written(tmp_path, x=X, mask=mask.astype(kind)))
        assert np.array_equal(found.x.isnan().numpy(), ~mask)
        assert found.lengths is None
    steps = mask.all(-1)
    assert np.array_equal(read_series(written(tmp_path, x=X, mask=steps)).x.isnan().all(-1).numpy(), ~steps)
    both = read_series(written(tmp_path, x=X, mask=mask, lengths=LENGTHS))
    assert both.x.isnan().sum() == 3
    assert both.lengths is not None


def test_a_mask_of_the_padding_alone_gives_lengths(tmp_path: Path) -> None:
    inside = np.arange(5) < LENGTHS[:, None]
    for mask in (inside, np.repeat(inside[..., None], 2, -1)):
        found = read_series(written(tmp_path, x=X, mask=mask))
        assert found.lengths is not None
        assert found.lengths.tolist() == [5, 2, 3]
        assert not found.x.isnan().any()


def test_what_sample_writes_is_read_with_a_note_on_the_states(tmp_path: Path) -> None:
    found = read_series(written(tmp_path, x=X, z=X))
    assert np.array_equal(found.x, X)
    assert found.notes == ("the states z in the file are not observations and are left out",)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": X, "years": LENGTHS},
            "expected only x, lengths, mask, inputs and z in .*, got years as well, which would not be used",
        ),
        ({"x": X, "b": X, "a": X}, "got b, a as well"),
        ({"flow": X, "rain": X}, "expected one array in .*, or one called x, got flow, rain; save the one you mean"),
        ({"lengths": LENGTHS}, "expected one array in .*, or one called x, got lengths"),
        (
            {"x": X, "lengths": [5, 0, 3]},
            r"expected lengths in 1\.\.T = 1\.\.5, got 0 at index 1; drop .* \(in .*npz\)",
        ),
        ({"x": X, "lengths": [5, 6, 3]}, r"expected lengths in 1\.\.T = 1\.\.5, got 6 at index 1"),
        (
            {"x": X, "lengths": [5, 3]},
            r"expected lengths \(batch,\) for x .*, got lengths \(2,\) for x \(3, 5, 2\); pad",
        ),
        ({"x": X[:, 0], "lengths": [1, 2]}, r"got lengths \(2,\) for x \(3, 2\); pad the series to one length"),
        ({"x": X[0, :, 0], "lengths": [5]}, r"got lengths \(1,\) for x \(5,\)"),
        ({"x": X, "lengths": [5.0, 2.0, 3.0]}, "expected whole numbers as lengths in .*, got float64"),
        ({"x": X, "mask": X > 9}, "expected values in column '1' of .*, got only empty cells"),
        ({"x": X, "mask": X}, "expected truth values as mask in .*, got float64; use mask.astype"),
        ({"x": X, "mask": LENGTHS}, r"expected truth values as mask"),
        (
            {"x": X, "mask": X[0] > 0},
            r"expected a mask of shape \(3, 5, 2\), the shape of x, or that without its last axis, .* \(5, 2\)",
        ),
        ({"x": np.array([1, None]), "lengths": [1]}, "expected an array of numbers in .*, a damaged file or objects"),
        ({"x": X, "lengths": np.array([1, None, 2])}, "expected an array of numbers in .*, a damaged file or objects"),
    ],
)
def test_arrays_that_nobody_would_read_or_that_do_not_fit_are_one_sentence(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_series(written(tmp_path, **arrays))
    assert "\n" not in str(caught.value)


# Damage.


def npy(array: Any, **header: Any) -> bytes:
    """A .npy with other entries in its header."""
    packed = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": False, "shape": array.shape} | header
    np.lib.format.write_array_header_1_0(packed, described)
    return packed.getvalue() + array.tobytes()


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def encrypted(content: bytes) -> bytes:
    """A zip whose only member claims to be encrypted, in its own header and in the directory."""
    changed = bytearray(content)
    changed[6] |= 1
    changed[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(changed)


def packed_by(content: bytes, method: int) -> bytes:
    """A zip whose only member claims to be packed by another method."""
    changed = bytearray(content)
    changed[8:10] = struct.pack("<H", method)
    at = content.index(b"PK\x01\x02") + 10
    changed[at : at + 2] = struct.pack("<H", method)
    return bytes(changed)


PLAIN = npy(np.arange(6.0)[::-1])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", PLAIN[:4]),
        ("a.npy", PLAIN[:9]),
        ("a.npy", PLAIN[:40]),
        ("a.npy", PLAIN[:-1]),
        ("a.npy", PLAIN + b"more"),
        ("a.npy", npy(np.ones(3), shape=(10**18,))),
        ("a.npy", npy(np.ones(3), shape=(10**10, 10**10))),
        ("a.npy", npy(np.ones(3), shape=(-3,))),
        ("a.npy", npy(np.ones(3), shape=(3, 0, 10**30))),
        ("a.npy", npy(np.ones(3), descr="|O")),
        ("a.npy", npy(np.ones(3), descr="nonsense")),
        ("a.npy", PLAIN[:10] + b"{" * 118 + PLAIN[128:]),
        ("a.npy", b"\x93NUMPY\x09\x00" + PLAIN[8:]),
        ("a.npy", pickle.dumps([1.0, 2.0])),
        ("a.npy", b"PK"),
        ("a.npz", b"PK\x03\x04"),
        ("a.npz", zipped(("x.npy", PLAIN))[:-30]),
        ("a.npz", zipped(("x.npy", PLAIN[:-8]))),
        ("a.npz", zipped(("x.npy", b""))),
        ("a.npz", zipped(("x.npy", npy(np.ones(3), shape=(10**15,))))),
        ("a.npz", encrypted(zipped(("x.npy", PLAIN)))),
        ("a.npz", packed_by(zipped(("x.npy", PLAIN)), 14)),
        ("a.npz", packed_by(zipped(("x.npy", PLAIN)), 97)),
        ("a.npz", packed_by(zipped(("x.npy", PLAIN)), 12)),
        ("a.npz", zipped(("x.npy", PLAIN), compression=zipfile.ZIP_STORED).replace(b"NUMPY", b"NUMBY")),
    ],
)
def test_a_damaged_or_hostile_file_is_one_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"^expected an array of numbers in [^\n]*, a damaged file or objects: [^\n]+$"):
        read_series(tmp_path / name)


@pytest.mark.parametrize(
    ("members", "got"),
    [
        ((("x.npy", PLAIN), ("read me.txt", b"hello")), "read me.txt"),
        ((("x", PLAIN),), "x"),
        ((("x.npy", PLAIN), ("weights.pkl", pickle.dumps(1))), "weights.pkl"),
        ((("x.npy", PLAIN), ("folder/", b"")), "folder/"),
    ],
)
def test_members_that_are_no_arrays_are_named(members: tuple[tuple[str, bytes], ...], got: str, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(zipped(*members))
    with pytest.raises(DataError, match=f"expected arrays with different names in .*, got {got}; save it again"):
        read_series(tmp_path / "a.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(zipped(("x.npy", PLAIN), ("x.npy", PLAIN)))
    with pytest.raises(DataError, match="got x twice"):
        read_series(tmp_path / "a.npz")


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


@pytest.mark.filterwarnings("ignore:Reading `.npy`", "ignore:.*additional header parsing")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", npy(X)),
        ("a.npz", zipped(("x.npy", npy(X)), ("lengths.npy", npy(LENGTHS, descr="<i8")))),
        ("a.npz", zipped(("x.npy", npy(X)), compression=zipfile.ZIP_STORED)),
        ("a.csv", b"flow,rain\n" + b"1.5,2e3\n,-7\n" * 8),
    ],
)
@pytest.mark.parametrize("change", [flipped, lambda content, place: content[:place]], ids=["flipped", "cut"])
def test_a_file_that_is_damaged_anywhere_is_read_or_one_sentence(
    name: str, content: bytes, change: Callable[[bytes, int], bytes], tmp_path: Path
) -> None:
    sentences = []
    for place in range(0, len(content), 3):
        (tmp_path / name).write_bytes(change(content, place))
        try:
            assert read_series(tmp_path / name).x.isfinite().any()
        except DataError as error:
            sentences.append(str(error))
    assert sentences
    assert not any("\n" in sentence for sentence in sentences)


# Sizes.


@pytest.mark.parametrize("value", [1e308, -1e308, 1.01 * LARGEST])
@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.npz"])
def test_numbers_whose_squares_overflow_are_one_sentence(value: float, name: str, tmp_path: Path) -> None:
    x = np.ones((4, 2))
    x[2, 1] = value
    if name == "a.csv":
        np.savetxt(tmp_path / name, x, delimiter=",")
    else:
        np.savez(tmp_path / name, x=x) if name == "a.npz" else np.save(tmp_path / name, x)
    with pytest.raises(
        DataError,
        match=r"of size up to 1e\+150 in column '2', got .* in (line|step) 3.* rescale",
    ):
        read_series(tmp_path / name)
    x[2, 1] = np.sign(value) * LARGEST
    np.save(tmp_path / "b.npy", x)
    assert np.isfinite(np.square(read_series(tmp_path / "b.npy").x.numpy())).all()


def test_a_long_double_beyond_float64_is_one_sentence(tmp_path: Path) -> None:
    if np.finfo(np.longdouble).max > np.finfo(np.float64).max:
        np.save(tmp_path / "a.npy", np.array([np.longdouble("1e4000"), 1]))
        with pytest.raises(DataError, match="expected finite numbers in column '1', got infinity"):
            read_series(tmp_path / "a.npy")


def test_two_columns_of_one_name_cannot_be_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,a\n1,2\n5,4\n")
    with pytest.raises(DataError, match=r"expected columns with different names in .*a.csv, got 'a' twice"):
        read_series(tmp_path / "a.csv", ["a"])


def header(text: str, content: bytes = bytes(8)) -> bytes:
    """A .npy with this header."""
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n" + content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{'descr':'<f8','fortran_order':False,'shape':(True,),}", "integer"),
        (
            "{'descr':'<f8','fortran_order':False,'shape':(1,),'a':" + "[" * 3000 + "]" * 3000 + "}",
            "(Cannot parse header|nested parentheses)",
        ),
    ],
    ids=["truth", "nested"],
)
def test_a_strange_header_is_one_short_sentence(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(header(text))
    with pytest.raises(DataError, match=rf"expected an array of numbers in {path}, got .*{reason}") as caught:
        read_series(path)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_lengths_beyond_int64_are_shown_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)), lengths=np.array([3, 2**64 - 1], dtype=np.uint64))
    with pytest.raises(
        DataError, match=r"expected lengths in 1\.\.T = 1\.\.3, got 18446744073709551615 at index 1, in"
    ):
        read_series(tmp_path / "a.npz")
