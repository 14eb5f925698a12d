"""A constructor's arguments as JSON, and back.

A number, a string, a list, true, false and null stand for themselves. A JSON object has one key, which names the kind
of value; there is one kind:

    {"family": {"name": "Gaussian", "arguments": {"size": 2}}}      the family Gaussian(size=2)
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Emission
from pgm_rnn.emissions.info import FamilyInfo

_NO_SIZES = ("seed", "uniforms_seed", "num_particles")
"""Integer arguments of the zoo's models on which no tensor's size depends."""


def as_json(value: Any, families: Mapping[str, FamilyInfo]) -> Any:
    """An argument as model.json holds it.

    Raises:
        TypeError: a family that is not among `families`.
    """
    if not isinstance(value, Emission):
        return value
    classes = _by_class(families)
    if type(value) not in classes.values():
        raise TypeError(f"expected an emission of {', '.join(classes)}, got {type(value).__name__}")
    return {"family": {"name": type(value).__name__, "arguments": dict(vars(value))}}


def from_json(written: Any, families: Mapping[str, FamilyInfo]) -> Any:
    """The argument that `as_json` wrote.

    Raises:
        ValueError: a kind of value, or a family, that this version does not know.
        TypeError: arguments that the family does not take.
    """
    if not isinstance(written, dict):
        return written
    check_choice("the kind of an argument", " and ".join(sorted(written)), ("family",))
    family = written["family"]
    if not (isinstance(family, dict) and family.keys() == {"name", "arguments"}):
        raise ValueError(f"expected a family as its name and its arguments, got {family!r}")
    classes = _by_class(families)
    check_choice("family", family["name"], classes)
    return classes[family["name"]](**family["arguments"])


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
    """Integers with the name of the argument that holds them, also inside other arguments."""
    for name, value in written.items():
        if isinstance(value, dict):
            yield from _whole_numbers(value)
        elif isinstance(value, int):
            yield name, value
