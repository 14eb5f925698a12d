"""A model in a folder: its numbers in model.safetensors, how to make it again in model.json; never a pickle.

    model.safetensors    the state dict, bit for bit, or rounded to half precision where that was asked for
    model.json           format, version, the zoo's name, options, dtype, the package that wrote it, and notes ("info")

The folder appears whole or not at all: it is written beside its place and moved there at the end.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

import pgm_rnn
from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, NadeBits, Pen, Poisson
from pgm_rnn.models.bidirectional_rnn import NAME as LABEL_LAW
from pgm_rnn.models.bidirectional_rnn import BidirectionalRNN
from pgm_rnn.models.registry import get_model, list_models
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel

TENSORS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT, VERSION = "pgm_rnn model", 1
_FAMILIES: tuple[type[Emission], ...] = (Categorical, Bernoulli, Gaussian, FullGaussian, Poisson, Pen, NadeBits)
FAMILIES = {family.__name__: family for family in _FAMILIES}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float32, torch.bfloat16)}
HALF = torch.float16
Model = SequenceModel | BidirectionalRNN
"""What can be kept: a law of sequences, or one of their labels."""


class StorageError(ValueError):
    """A folder that holds no model which this version of the package can read."""


class Description(NamedTuple):
    """What model.json says beside its format.

    Attributes:
        name: of the model in the zoo.
        options: what `get_model` or `BidirectionalRNN` makes it from; a family of observations, inputs or labels as
            {"family": "Bernoulli", "size": 88}.
        dtype: of its parameters, such as "float32".
        pgm_rnn: version of the package that wrote it.
        info: the writer's notes.
    """

    name: str
    options: dict[str, Any]
    dtype: str
    pgm_rnn: str
    info: dict[str, Any]


def save_model(
    model: Model, folder: str | os.PathLike[str], info: dict[str, Any] | None = None, *, half: bool = False
) -> None:
    """Write a model of the zoo into a folder, from which `load_model` makes one with the same law to the bit.

    Args:
        model: any registered model or a `BidirectionalRNN`, on any device.
        folder: where; it and the folders above it are made. A folder that holds a saved model is replaced.
        info: notes that JSON can hold, such as data set, nats per step and seed.
        half: store the numbers in half precision, of 11 bits; they come back in the model's own dtype, and with the
            same law if `rounded_to_half` was called before.

    Raises:
        TypeError: a model that is not in the zoo, or notes that JSON cannot hold.
        ValueError: the folder is there and holds anything but a saved model, or parameters of several dtypes.
        OSError: it cannot be written.

    Example:
        >>> import tempfile, pgm_rnn
        >>> from pgm_rnn.models import HMM
        >>> folder = tempfile.mkdtemp() + "/two-states"
        >>> pgm_rnn.save_model(HMM.random(num_states=2, num_symbols=3), folder, info={"seed": 0})
        >>> pgm_rnn.load_model(folder).num_states
        2
    """
    place = Path(folder).resolve()
    check_replaceable(place)
    packed = torch.contiguous_format
    tensors = {name: value.cpu().clone(memory_format=packed) for name, value in model.state_dict().items()}
    text = _as_json(_described(model, tensors, info or {}))
    if half:
        tensors = {name: value.half() for name, value in tensors.items()}
    place.parent.mkdir(parents=True, exist_ok=True)
    with _moved_at_the_end(place) as draft:
        save_file(tensors, draft / TENSORS)
        (draft / DESCRIPTION).write_text(text, encoding="utf-8")


@torch.no_grad()
def rounded_to_half(model: Model) -> Model:
    """Round a model's numbers, in place, to those that half precision has, so that `half` keeps them to the bit.

    Raises:
        ValueError: a number beyond 65504, the largest one of half precision.
    """
    for name, value in model.state_dict().items():
        if bool((value.isfinite() & ~value.half().isfinite()).any()):
            raise ValueError(f"expected numbers up to 65504 for half precision, got larger ones in {name}")
        value.copy_(value.half())
    return model


def load_model(folder: str | os.PathLike[str]) -> Model:
    """The model that `save_model` wrote into a folder, on the CPU, in the dtype it had.

    Raises:
        StorageError: the folder or a file is missing, is no such file, or was written by a newer version; tensors that
            do not fit the description.
    """
    return read_model(Path(folder) / DESCRIPTION, Path(folder) / TENSORS)


def read_model(description: Path, tensors: Path) -> Model:
    """The model of a description and its numbers, wherever the two files are.

    Raises:
        StorageError: a file is missing or is no such file; tensors that do not fit the description.
    """
    described, numbers = read_description(description), _read_tensors(tensors)
    with _blamed_on(description):
        model = _made(described)
    wide = {
        name: value.to(DTYPES[described.dtype]) if value.dtype == HALF else value for name, value in numbers.items()
    }
    _check_fit(model.state_dict(), wide, tensors)
    model.load_state_dict(wide)
    return model


def describe(folder: str | os.PathLike[str]) -> Description:
    """What a saved model is, from its model.json alone.

    Raises:
        StorageError: no such folder or file, or one that this version cannot read.
    """
    return read_description(Path(folder) / DESCRIPTION)


def read_description(path: Path) -> Description:
    """What a file like model.json says.

    Raises:
        StorageError: no such file, or one that this version cannot read.
    """
    found = _read_description(path)
    if found is None:
        raise StorageError(
            f"expected a {DESCRIPTION} of a saved model, got something else at {path}; save_model writes them"
        )
    if found.pop("version", None) != VERSION:
        writer = found.get("pgm_rnn", "another version")
        raise StorageError(f"expected version {VERSION} of the format, got {path} of pgm_rnn {writer}; update pgm_rnn")
    if found.keys() != set(Description._fields):
        differing = ", ".join(sorted(map(str, found.keys() ^ set(Description._fields))))
        raise StorageError(f"expected the keys {', '.join(Description._fields)} in {path}, they differ in {differing}")
    return Description(**found)


def check_replaceable(folder: Path) -> None:
    """Raise a ValueError if there is anything at `folder` that `save_model` must not replace."""
    if not os.path.lexists(folder):
        return
    if folder.is_dir():
        held = {path.name for path in folder.iterdir()}
        if not held or (held == {TENSORS, DESCRIPTION} and _read_description(folder / DESCRIPTION) is not None):
            return
    raise ValueError(f"expected a new folder or one that holds a saved model, got {folder}; choose another name")


def _described(model: Model, tensors: dict[str, Tensor], info: dict[str, Any]) -> Description:
    """What goes into model.json, after a trial that the model can be made from it."""
    name, options = model.recipe
    if isinstance(model, BidirectionalRNN):
        options = {"inputs": _family_as_json(model.inputs), "labels": _family_as_json(model.labels), **options}
    else:
        options = {"emission": _family_as_json(model.family), "first": model.first, **options}
    dtypes = {str(value.dtype).removeprefix("torch.") for value in tensors.values()}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        expected = ", ".join(DTYPES)
        raise ValueError(f"expected parameters of one dtype of {expected}, got {', '.join(sorted(dtypes))}; use .to")
    description = Description(name, options, dtypes.pop(), pgm_rnn.__version__, info)
    again = _made(description)
    if type(again) is not type(model):
        raise TypeError(f"expected a model of the zoo, got {type(model).__name__}, which is not what {name} makes")
    _check_fit(again.state_dict(), tensors, "the model")
    return description


def _family_as_json(family: Emission) -> dict[str, Any]:
    if type(family) not in _FAMILIES:
        raise TypeError(f"expected an emission of {', '.join(FAMILIES)}, got {type(family).__name__}")
    return {"family": type(family).__name__, **vars(family)}


def _made(description: Description) -> Model:
    """A model of the described shape, with random parameters."""
    check_choice("dtype", description.dtype, DTYPES)
    check_choice("model", description.name, [*list_models(), LABEL_LAW])
    options = dict(description.options)
    keys = ("inputs", "labels") if description.name == LABEL_LAW else ("emission",)
    families: dict[str, Any] = {key: _family_from_json(options.pop(key)) for key in keys}
    if description.name != LABEL_LAW:
        return get_model(description.name, seed=0, **families, **options).to(DTYPES[description.dtype])
    with seeded(0):
        return BidirectionalRNN(**families, **options).to(DTYPES[description.dtype])


def _family_from_json(described: Any) -> Emission:
    arguments = dict(described)
    name = arguments.pop("family")
    check_choice("family", name, FAMILIES)
    return FAMILIES[name](**arguments)


def _as_json(description: Description) -> str:
    try:
        content = {"format": FORMAT, "version": VERSION, **description._asdict()}
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected info that JSON can hold, got: {error}") from None


def _read_description(path: Path) -> dict[str, Any] | None:
    """The object in a model.json without its "format", None for a file that is none."""
    if not path.is_file():
        raise StorageError(f"expected a saved model in a folder, got no file {path}; save_model writes them")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.pop("format", None) == FORMAT else None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise StorageError(f"expected a saved model in a folder, got no file {path}; copy both files of it")
    try:
        return load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise StorageError(f"expected a safetensors file at {path}, it cannot be read: {error}") from None


def _check_fit(expected: dict[str, Tensor], tensors: dict[str, Tensor], where: object) -> None:
    """Raise a StorageError unless names, shapes and dtypes agree."""
    if expected.keys() != tensors.keys():
        differing = ", ".join(sorted(expected.keys() ^ tensors.keys()))
        raise StorageError(f"expected the tensors {', '.join(expected)} in {where}, they differ in {differing}")
    for name, value in tensors.items():
        wanted = expected[name]
        if (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
            raise StorageError(
                f"expected {name} in {where} as {wanted.dtype} {tuple(wanted.shape)}, "
                f"got {value.dtype} {tuple(value.shape)}"
            )


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """What a constructor says against the options in a file, as an error about the file."""
    try:
        yield
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise StorageError(f"expected a description that this version can follow, got {path}: {error}") from error


@contextmanager
def _moved_at_the_end(place: Path) -> Iterator[Path]:
    """An empty folder beside `place` that takes its place when the block ends, and is deleted if it fails."""
    token = secrets.token_hex(4)
    draft, former = (place.with_name(f".{place.name}.{token}.{use}") for use in ("new", "old"))
    draft.mkdir()
    try:
        yield draft
        if place.exists():
            place.rename(former)
        draft.rename(place)
    finally:
        if former.exists() and not place.exists():
            former.rename(place)
        for folder in (draft, former):
            shutil.rmtree(folder, ignore_errors=True)
