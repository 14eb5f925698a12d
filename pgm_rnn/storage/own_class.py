"""A model whose class no registry has: what its class is, and how the class makes it again.

The class is one that the caller gives, or one that is already imported where the file says. No module is imported
because a file names it, neither by an import nor by a lookup in a module that imports names when they are asked for.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypeIs

from pgm_rnn.emissions.info import FamilyInfo
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.constructor import Unkept, called_again
from pgm_rnn.storage.arguments import as_json, from_json
from pgm_rnn.storage.description import StorageError

PROGRAM = "__main__"
"""The module of a notebook or script, which is another one in each program."""


def path_of(model_class: type) -> str:
    """The import path of a class, such as "my_models:SwitchingAR"."""
    return f"{model_class.__module__}:{model_class.__qualname__}"


def arguments_of(
    model: SequenceModel, families: Mapping[str, FamilyInfo], tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """The arguments that a model was made with, as model.json holds them; their tensors are put among `tensors`.

    Raises:
        TypeError: an argument that cannot be stored; the message names it.
    """
    name = type(model).__name__
    if model.constructor_arguments is None:
        raise TypeError(
            f"expected a {name} made by calling the class, got one made in another way, such as by a __new__ that does "
            "not pass its arguments on; call the class"
        )
    found = {}
    for argument, value in model.constructor_arguments.items():
        for unkept in _unkept(value):
            raise TypeError(
                f"expected numbers, strings, lists, families and tensors as arguments of {name}, got {argument} with "
                f"a value of type {unkept.kind}; make it inside the constructor, from such values"
            )
        try:
            found[argument] = as_json(value, families, tensors, argument)
        except TypeError as error:
            raise TypeError(f"{error} as {argument} of {name}; make it inside the constructor") from None
    return found


def _unkept(value: Any) -> Iterator[Unkept]:
    """The parts of an argument that are no plain data."""
    if isinstance(value, Unkept):
        yield value
    elif isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _unkept(each)


def check_same(model: SequenceModel, again: SequenceModel) -> None:
    """Raise if a model that its arguments make again differs in a plain attribute that engines read.

    Raises:
        ValueError: such an attribute was changed after the model was made.
    """
    for name in ("states", "first", "input_dim", "memory_reads_state"):
        mine, its = getattr(model, name), getattr(again, name)
        if mine != its:
            raise ValueError(
                f"expected {name} of {type(model).__name__} to be {its!r}, as the constructor sets it, got {mine!r}, "
                "which was set later; make it an argument of the constructor"
            )


def class_for(path: str, given: object = None) -> type[SequenceModel]:
    """The class of a saved model.

    Args:
        path: its import path in the file, such as "my_models:SwitchingAR".
        given: the class that the caller gives, or None for the one that is imported already.

    Raises:
        TypeError: the given class is no `SequenceModel`.
        ValueError: the given class has another name.
        StorageError: no class is given, and none of this path is imported, or something else is in its place.
    """
    module, _, qualified = path.partition(":")
    name = qualified.rpartition(".")[2]
    if given is None:
        return _imported(module, qualified, name)
    if not is_model_class(given):
        raise TypeError(f"expected model_class={name}, a class that derives from SequenceModel, got {given!r}")
    if given.__name__ != name:
        raise ValueError(f"expected model_class={name}, because the saved model is one of {path}, got {given.__name__}")
    return given


def is_model_class(found: object) -> TypeIs[type[SequenceModel]]:
    """Whether something is a class of models of sequences."""
    return isinstance(found, type) and issubclass(found, SequenceModel)


def _imported(module: str, qualified: str, name: str) -> type[SequenceModel]:
    way_out = f"give the class, load_model(..., model_class={name}), or --class FILE.py:{name} at the command line"
    found: object = sys.modules.get(module)
    if module == PROGRAM or "<locals>" in qualified:
        where = "in a notebook or script" if module == PROGRAM else "inside a function"
        raise StorageError(f"expected the class {name}, which was defined {where}, got none; {way_out}")
    for part in qualified.split(".") if found is not None else ():
        try:  # the namespace itself, for a lookup could run code
            found = object.__getattribute__(found, "__dict__").get(part)
        except AttributeError:
            found = None
    if found is None:
        raise StorageError(
            f"expected the class {module}:{qualified} to be imported already, because loading a file imports no "
            f"module, got none; import {module}, or {way_out}"
        )
    if not is_model_class(found):
        raise StorageError(f"expected a class that derives from SequenceModel at {module}:{qualified}, got {found!r}")
    return found


def made_by_class(
    model_class: type[SequenceModel],
    written: Mapping[str, Any],
    dtype: torch.dtype,
    families: Mapping[str, FamilyInfo],
    tensors: Mapping[str, Tensor],
) -> SequenceModel:
    """The model that the class makes of arguments, as model.json holds them, with random parameters in a dtype.

    The constructor runs with this dtype as torch's default if it is float32 or float64, because constants that are
    neither parameters nor buffers keep the dtype they are made in.

    Raises:
        ValueError, TypeError: arguments of an unknown kind, or those that the class does not take.
    """
    arguments = {key: from_json(value, families, tensors) for key, value in written.items()}
    with seeded(0), _default_dtype(dtype):
        return called_again(model_class, arguments).to(dtype)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    try:
        if dtype in (torch.float32, torch.float64):
            torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)
