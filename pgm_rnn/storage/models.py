"""Saving a model in a folder and loading it again, with the same law to the bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from pgm_rnn.files import sha256
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.storage import folder as files
from pgm_rnn.storage.arguments import TENSOR, check_sizes
from pgm_rnn.storage.description import DESCRIPTION, TENSORS, Description, Parsed, StorageError
from pgm_rnn.storage.making import DTYPES, OWN, Known, Model, described_as, made
from pgm_rnn.storage.model_json import as_json, parsed, read_description
from pgm_rnn.storage.own_class import class_for
from pgm_rnn.storage.tensors import HALF, check_fit, check_numbers, in_half, unpacked


def save_model(
    model: Model,
    folder: str | os.PathLike[str],
    info: dict[str, Any] | None = None,
    *,
    half: bool = False,
    overwrite: bool = True,
    registries: Known = OWN,
) -> None:
    """Save a model in a folder, from which `load_model` restores one with the same law to the bit.

    A model of the zoo is made again by its name, a model of your own class by the class and the arguments that its
    constructor was called with: numbers, strings, lists, families and tensors.

    If the process is killed at any time, the folder holds the former model or the new one. Other processes that save
    into the same folder wait for their turn.

    Args:
        model: any model of sequences, or a registered one of labels, on any device.
        folder: the folder to write to; it and its parents are created if needed.
        info: notes that JSON can hold, such as data set, nats per step and seed.
        half: whether to store tensors in half precision (11 significant bits). They are loaded in the model's own
            dtype, with the same law if `rounded_to_half` was called before.
        overwrite: whether a saved model in the folder may be replaced, which is the default.
        registries: registries of models and families, such as a `pgm_rnn.registries.Registries` with entries of your
            own.

    Raises:
        TypeError: an argument of the constructor that cannot be stored, which is named; or notes that JSON cannot hold.
        ValueError: the folder exists and holds anything but a saved model; parameters of several dtypes or with NaN;
            attributes that were set after the model was made; or numbers that half precision cannot hold.
        FileExistsError: the folder holds a saved model, and `overwrite` is False.
        OSError: the folder cannot be written to, or the disk is full; the former contents stay.

    Example:
        >>> import tempfile, pgm_rnn
        >>> from pgm_rnn.models import HMM
        >>> folder = tempfile.mkdtemp() + "/two-states"
        >>> pgm_rnn.save_model(HMM.random(num_states=2, num_symbols=3), folder, info={"seed": 0})
        >>> pgm_rnn.load_model(folder).num_states
        2
    """
    place = Path(folder).resolve()
    files.check_replaceable(place)
    packed = torch.contiguous_format
    tensors = {name: value.cpu().clone(memory_format=packed) for name, value in model.state_dict().items()}
    described = described_as(model, tensors, info or {}, registries)
    check_numbers(tensors, "the model")
    if half:
        tensors = {name: in_half(name, value) for name, value in tensors.items()}
    content = save(tensors | described.arguments)
    files.write(place, as_json(described.description, content), content, overwrite=overwrite)


@torch.no_grad()
def rounded_to_half(model: Model) -> Model:
    """Round a model's tensors, in place, to half precision, so that `save_model(half=True)` keeps them to the bit.

    Raises:
        ValueError: a number beyond 65504, the largest one of half precision.
    """
    rounded = {name: in_half(name, value) for name, value in model.state_dict().items()}
    for name, value in model.state_dict().items():
        value.copy_(rounded[name])
    return model


def load_model(
    folder: str | os.PathLike[str], *, model_class: type[SequenceModel] | None = None, registries: Known = OWN
) -> Model:
    """The model that `save_model` wrote into a folder, on the CPU, in the dtype it had.

    Args:
        folder: the folder of the model.
        model_class: the class of a model of your own. None takes the class that is imported already under the path in
            the file; no module is imported because a file names it. A class that was defined in a notebook or script
            must be given.
        registries: as for `save_model`.

    Raises:
        StorageError: the folder or a file is missing, is another kind of file, was changed after saving, or was
            written by a newer version; tensors that do not fit the description or contain NaN; or a class that is
            neither given nor imported.
        TypeError, ValueError: a given class that is no `SequenceModel` or not the saved model's.
    """
    return load_with_description(folder, model_class=model_class, registries=registries)[0]


def load_with_description(
    folder: str | os.PathLike[str], *, model_class: type[SequenceModel] | None = None, registries: Known = OWN
) -> tuple[Model, Description]:
    """The model in a folder and its description; both come from one save, even while another process saves.

    Raises:
        StorageError, TypeError, ValueError: as `load_model`.
    """
    place = Path(folder)
    return made_from(*files.read(place), place / DESCRIPTION, place / TENSORS, registries, model_class)


def read_model(description: Path, tensors: Path) -> Model:
    """The model from its two files, description and tensors, wherever they are.

    Raises:
        StorageError: a file is missing or of another kind, or the tensors do not fit the description.
    """
    for path in (description, tensors):
        if not path.is_file():
            raise StorageError(f"expected a saved model in two files, got no file {path}; copy both of them")
    return made_from(description.read_bytes(), tensors.read_bytes(), description, tensors)[0]


def describe(folder: str | os.PathLike[str]) -> Description:
    """The description of a saved model, read from its model.json alone.

    Raises:
        StorageError: no such folder or file, or one that this version cannot read.
    """
    return read_description(Path(folder) / DESCRIPTION)


def made_from(
    described: bytes,
    packed: bytes,
    description_path: Path,
    tensors_path: Path,
    known: Known = OWN,
    model_class: type[SequenceModel] | None = None,
) -> tuple[Model, Description]:
    """The model made from the contents of two files, and its description; the paths are for the errors.

    Raises:
        StorageError: contents of another kind, that do not fit each other, or that were changed after saving.
        TypeError, ValueError: a given class that is not the saved model's.
    """
    content = parsed(described, description_path)
    description, numbers = content.description, unpacked(packed, tensors_path)
    if description.name is None and description.model_class is not None:  # it is called with nothing that was changed
        _check_unchanged(content, packed, description_path, tensors_path)
        model, numbers = _made_by_its_class(description, numbers, description_path, known, model_class)
    else:
        with _blamed_on(description_path):
            check_sizes(description.arguments, sum(value.numel() for value in numbers.values()))
            model = made(description, known)
    _check_class(model, model_class, description_path)
    dtype = DTYPES[description.dtype]
    wide = {name: value.to(dtype) if value.dtype == HALF else value for name, value in numbers.items()}
    check_fit(model.state_dict(), wide, tensors_path)
    _check_unchanged(content, packed, description_path, tensors_path)
    check_numbers(wide, tensors_path)
    model.load_state_dict(wide)
    return model, description


def _made_by_its_class(
    description: Description,
    numbers: dict[str, Tensor],
    path: Path,
    known: Known,
    model_class: type[SequenceModel] | None,
) -> tuple[Model, dict[str, Tensor]]:
    """A model of the user's own class, and the tensors that are not among its arguments."""
    arguments = {name: value for name, value in numbers.items() if name.startswith(TENSOR)}
    assert description.model_class is not None  # the caller has checked it
    found = class_for(description.model_class, model_class)
    with _blamed_on(path):
        model = made(description, known, found, arguments)
    return model, {name: value for name, value in numbers.items() if name not in arguments}


def _check_class(model: Model, model_class: type[SequenceModel] | None, path: Path) -> None:
    if model_class is not None and type(model) is not model_class:
        raise ValueError(f"expected model_class={type(model).__name__} for {path}, got {model_class.__name__}")


def _check_unchanged(content: Parsed, packed: bytes, description_path: Path, tensors_path: Path) -> None:
    """Raise a StorageError if one of the files has changed since the model was saved."""
    _, digests, law = content
    if digests.tensors not in (None, sha256(packed)):
        raise StorageError(
            f"expected {tensors_path} as it was saved together with {description_path.name}, got one that was changed "
            "or cut short, or that of another model; copy both files again"
        )
    if digests.law not in (None, law):
        raise StorageError(
            f"expected the model's name, arguments and dtype in {description_path} as they were saved, got changed "
            "ones; copy the file again"
        )


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Turns a constructor's error about the arguments in a file into one sentence that names the file."""
    try:
        yield
    except Exception as error:  # the file may hold arguments of any kind
        reason = str(error).split("\n")[0]
        raise StorageError(f"expected a description that this version can follow, got {path}: {reason}") from error
