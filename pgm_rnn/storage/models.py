"""Saving a model in a folder and loading it again, with the same law to the bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from pgm_rnn.files import sha256
from pgm_rnn.storage import folder as files
from pgm_rnn.storage.arguments import check_sizes
from pgm_rnn.storage.description import DESCRIPTION, TENSORS, Description, StorageError
from pgm_rnn.storage.making import DTYPES, OWN, Known, Model, described_as, made
from pgm_rnn.storage.model_json import as_json, parsed, read_description
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
    """Save a model of the zoo in a folder, from which `load_model` restores one with the same law to the bit.

    If the process is killed at any time, the folder holds the former model or the new one. Other processes that save
    into the same folder wait for their turn.

    Args:
        model: any registered model, of sequences or of labels, on any device.
        folder: the folder to write to; it and its parents are created if needed.
        info: notes that JSON can hold, such as data set, nats per step and seed.
        half: whether to store tensors in half precision (11 significant bits). They are loaded in the model's own
            dtype, with the same law if `rounded_to_half` was called before.
        overwrite: whether a saved model in the folder may be replaced, which is the default.
        registries: registries of models and families, such as a `pgm_rnn.registries.Registries` with entries of your
            own.

    Raises:
        TypeError: a model that is not in the zoo, or notes that JSON cannot hold.
        ValueError: the folder exists and holds anything but a saved model; parameters of several dtypes or with NaN; or
            numbers that half precision cannot hold.
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
    description = described_as(model, tensors, info or {}, registries)
    check_numbers(tensors, "the model")
    if half:
        tensors = {name: in_half(name, value) for name, value in tensors.items()}
    content = save(tensors)
    files.write(place, as_json(description, content), content, overwrite=overwrite)


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


def load_model(folder: str | os.PathLike[str], *, registries: Known = OWN) -> Model:
    """The model that `save_model` wrote into a folder, on the CPU, in the dtype it had.

    Args:
        folder: the folder of the model.
        registries: as for `save_model`.

    Raises:
        StorageError: the folder or a file is missing, is another kind of file, was changed after saving, or was
            written by a newer version; or tensors that do not fit the description or contain NaN.
    """
    return load_with_description(folder, registries=registries)[0]


def load_with_description(folder: str | os.PathLike[str], *, registries: Known = OWN) -> tuple[Model, Description]:
    """The model in a folder and its description; both come from one save, even while another process saves.

    Raises:
        StorageError: as `load_model`.
    """
    place = Path(folder)
    return made_from(*files.read(place), place / DESCRIPTION, place / TENSORS, registries)


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
    described: bytes, packed: bytes, description_path: Path, tensors_path: Path, known: Known = OWN
) -> tuple[Model, Description]:
    """The model made from the contents of two files, and its description; the paths are for the errors.

    Raises:
        StorageError: contents of another kind, that do not fit each other, or that were changed after saving.
    """
    description, digests, law = parsed(described, description_path)
    numbers = unpacked(packed, tensors_path)
    with _blamed_on(description_path):
        check_sizes(description.arguments, sum(value.numel() for value in numbers.values()))
        model = made(description, known)
    dtype = DTYPES[description.dtype]
    wide = {name: value.to(dtype) if value.dtype == HALF else value for name, value in numbers.items()}
    check_fit(model.state_dict(), wide, tensors_path)
    if digests.tensors not in (None, sha256(packed)):
        raise StorageError(
            f"expected {tensors_path} as it was saved together with {description_path.name}, got one that "
            "was changed or cut short, or another model's; copy both files again"
        )
    if digests.law not in (None, law):
        raise StorageError(
            f"expected the model's name, arguments and dtype in {description_path} as they were saved, got changed "
            "ones; copy the file again"
        )
    check_numbers(wide, tensors_path)
    model.load_state_dict(wide)
    return model, description


@contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Turns a constructor's error about the arguments in a file into one sentence that names the file."""
    try:
        yield
    except Exception as error:  # the file may hold arguments of any kind
        reason = str(error).split("\n")[0]
        raise StorageError(f"expected a description that this version can follow, got {path}: {reason}") from error
