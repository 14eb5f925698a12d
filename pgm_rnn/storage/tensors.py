"""The tensors of a saved model, packed as safetensors."""

import torch
from safetensors.torch import load
from torch import Tensor

from pgm_rnn.storage.description import StorageError

HALF = torch.float16


def unpacked(packed: bytes, path: object) -> dict[str, Tensor]:
    """The tensors in the content of a safetensors file.

    Raises:
        StorageError: it is something else, or damaged.
    """
    try:
        return load(packed)
    except Exception as error:  # a damaged header makes safetensors and torch raise almost anything
        reason = str(error).split("\n")[0]
        raise StorageError(f"expected a safetensors file at {path}, got one that cannot be read: {reason}") from None


def in_half(name: str, value: Tensor) -> Tensor:
    """A tensor in half precision; whole numbers and truth values as they are.

    Raises:
        ValueError: it has larger numbers than half precision has.
    """
    if not value.is_floating_point():
        return value
    rounded = value.half()
    if bool((value.isfinite() & ~rounded.isfinite()).any()):
        raise ValueError(f"expected numbers up to 65504 for half precision, got larger ones in {name}")
    return rounded


def check_numbers(tensors: dict[str, Tensor], where: object) -> None:
    """Raise if a tensor contains NaN; infinity is allowed as the logarithm of a zero probability.

    Raises:
        StorageError: NaN in a tensor.
    """
    for name, value in tensors.items():
        if bool(value.isnan().any()):
            raise StorageError(
                f"expected numbers in {name} of {where}, got NaN in {int(value.isnan().sum())} of {value.numel()} "
                "places; fit the model again"
            )


def check_fit(expected: dict[str, Tensor], tensors: dict[str, Tensor], where: object) -> None:
    """Raise unless names, shapes and dtypes agree.

    Raises:
        StorageError: they differ.
    """
    if expected.keys() != tensors.keys():
        differing = ", ".join(sorted(expected.keys() ^ tensors.keys()))
        raise StorageError(
            f"expected the tensors {', '.join(expected) or '(none)'} in {where}, got tensors that differ in {differing}"
        )
    for name, value in tensors.items():
        wanted = expected[name]
        if (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
            raise StorageError(
                f"expected {name} in {where} as {wanted.dtype} {tuple(wanted.shape)}, "
                f"got {value.dtype} {tuple(value.shape)}"
            )
