"""A constructor's arguments as JSON, and back.

A number, a string, a list, true, false and null stand for themselves. A JSON object has one key, which says what kind
of value it is; there is one kind:

    {"family": {"name": "Gaussian", "arguments": {"size": 2}}}      the family Gaussian(size=2)
"""

from collections.abc import Iterator
from typing import Any

from pgm_rnn.checks import check_choice
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, FullGaussian, Gaussian, NadeBits, Pen, Poisson

_FAMILIES: tuple[type[Emission], ...] = (Categorical, Bernoulli, Gaussian, FullGaussian, Poisson, Pen, NadeBits)
FAMILIES = {family.__name__: family for family in _FAMILIES}
_NO_SIZES = ("seed", "uniforms_seed", "num_particles")
"""Whole numbers among the arguments of the zoo's models that no tensor's size depends on."""


def as_json(value: Any) -> Any:
    """An argument as it stands in model.json.

    Raises:
        TypeError: a family that is none of `FAMILIES`.
    """
    if not isinstance(value, Emission):
        return value
    if type(value) not in _FAMILIES:
        raise TypeError(f"expected an emission of {', '.join(FAMILIES)}, got {type(value).__name__}")
    return {"family": {"name": type(value).__name__, "arguments": dict(vars(value))}}


def from_json(written: Any) -> Any:
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
    check_choice("family", family["name"], FAMILIES)
    return FAMILIES[family["name"]](**family["arguments"])


def check_sizes(arguments: dict[str, Any], num_numbers: int) -> None:
    """Raise a ValueError if an argument is a larger size than the tensors have numbers, before memory is asked for."""
    for name, size in _whole_numbers(arguments):
        if name not in _NO_SIZES and size > num_numbers:
            raise ValueError(f"expected {name} to fit the {num_numbers} numbers of the model, got {size}")


def _whole_numbers(written: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Integers by their nearest name, also those inside other arguments."""
    for name, value in written.items():
        if isinstance(value, dict):
            yield from _whole_numbers(value)
        elif isinstance(value, int):
            yield name, value
