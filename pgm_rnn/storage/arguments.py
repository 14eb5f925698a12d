"""A constructor's arguments as JSON, and back.

A number, a string, a list, true, false and null stand for themselves. A JSON object has one key, which names the kind
of value:

    {"family": {"name": "Gaussian", "arguments": {"size": 2}}}      the family Gaussian(size=2); arguments of a family
                                                                    are written like those of a model
    {"tuple": [32, 32]}                                             the tuple (32, 32)
    {"dict": {"rate": 0.1}}                                         the dictionary {"rate": 0.1}
    {"tensor": "argument:start"}                                    the tensor of that name in model.safetensors

Models of the registries are made from families and plain values only; the other kinds are for classes of one's own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Emission
from pgm_rnn.emissions.info import FamilyInfo

TENSOR = "argument:"
"""Names of tensors that are arguments begin with this, which no name of a parameter does."""
KINDS = ("family", "tuple", "dict", "tensor")
_NO_SIZES = ("seed", "uniforms_seed", "num_particles")
"""Integer arguments of the zoo's models on which no tensor's size depends."""


def as_json(
    value: Any, families: Mapping[str, FamilyInfo], tensors: dict[str, Tensor] | None = None, name: str = ""
) -> Any:
    """An argument as model.json holds it.

    Args:
        value: the argument.
        families: families by their names in the registry.
        tensors: takes the tensors in the argument, which model.safetensors holds, by their names there.
        name: name of the argument, with which the names of its tensors begin.

    Raises:
        TypeError: a family that is not among `families`.
    """
    if isinstance(value, Tensor) and tensors is not None:
        tensors[f"{TENSOR}{name}"] = value
        return {"tensor": f"{TENSOR}{name}"}
    if isinstance(value, list | tuple):
        entries = [as_json(each, families, tensors, f"{name}.{i}") for i, each in enumerate(value)]
        return entries if isinstance(value, list) else {"tuple": entries}
    if isinstance(value, dict):
        return {"dict": {key: as_json(each, families, tensors, f"{name}.{key}") for key, each in value.items()}}
    if not isinstance(value, Emission):
        return value
    classes = _by_class(families)
    if type(value) not in classes.values():
        raise TypeError(f"expected an emission of {', '.join(classes)}, got {type(value).__name__}")
    arguments = {key: as_json(each, families, tensors, f"{name}.{key}") for key, each in vars(value).items()}
    return {"family": {"name": type(value).__name__, "arguments": arguments}}


def from_json(written: Any, families: Mapping[str, FamilyInfo], tensors: Mapping[str, Tensor] | None = None) -> Any:
    """The argument that `as_json` wrote; `tensors` are those of model.safetensors that are arguments.

    Raises:
        ValueError: a kind of value, a family or a tensor that is not known.
        TypeError: arguments that the family does not take.
    """
    if isinstance(written, list):
        return [from_json(each, families, tensors) for each in written]
    if not isinstance(written, dict):
        return written
    kind = " and ".join(sorted(written))
    check_choice("the kind of an argument", kind, KINDS)
    content = written[kind]
    if kind == "tuple":
        return tuple(from_json(each, families, tensors) for each in content)
    if kind == "dict":
        return {key: from_json(each, families, tensors) for key, each in content.items()}
    if kind == "tensor":
        if tensors is None or content not in tensors:
            raise ValueError(
                f"expected the tensor {content}, an argument of the model, among the saved tensors, got none"
            )
        return tensors[content]
    return _family(content, families, tensors)


def _family(written: Any, families: Mapping[str, FamilyInfo], tensors: Mapping[str, Tensor] | None) -> Emission:
    if not (isinstance(written, dict) and written.keys() == {"name", "arguments"}):
        raise ValueError(f"expected a family as its name and its arguments, got {written!r}")
    classes = _by_class(families)
    check_choice("family", written["name"], classes)
    arguments = {key: from_json(each, families, tensors) for key, each in written["arguments"].items()}
    return classes[written["name"]](**arguments)


def _by_class(families: Mapping[str, FamilyInfo]) -> dict[str, type[Emission]]:
    """Families by the names of their classes, which files use."""
    return {info.family.__name__: info.family for info in families.values()}


def check_sizes(arguments: dict[str, Any], num_numbers: int) -> None:
    """Raise if an argument is a size larger than the number of entries in all tensors, before memory is allocated.

    Raises:
        ValueError: such a size.
    """
    for name, size in _whole_numbers(arguments):
        if name not in _NO_SIZES and size > num_numbers:
            raise ValueError(f"expected {name} to fit the {num_numbers} entries of the model's tensors, got {size}")


def _whole_numbers(written: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Integers with the name of the argument that holds them, also inside other arguments and families in a list."""
    for name, value in written.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _whole_numbers(each)
        if isinstance(value, list | dict):
            continue
        if isinstance(value, int):
            yield name, value
