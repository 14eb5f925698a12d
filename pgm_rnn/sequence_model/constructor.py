"""The arguments that a model was made with, by name and as plain data, kept from the call of its constructor on.

    class Walk(SequenceModel):
        def __init__(self, scale=1.0, *sizes, **options): ...

    Walk(2.0, 3, slow=True).constructor_arguments == {"scale": 2.0, "*sizes": [3], "**options": {"slow": True}}

Defaults are among them. Plain data are null, truth values, numbers, strings, families of observations, tensors (copied)
and lists, tuples and dictionaries of these. An `Unkept` stands for anything else, so that a model can be copied and
pickled whatever it was made from.
"""

import inspect
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from pgm_rnn.emissions import Emission

Made = TypeVar("Made")


class Unkept(NamedTuple):
    """Stands for an argument that is no plain data.

    Attributes:
        kind: name of its type.
    """

    kind: str


def bound_arguments(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call of a class as plain data, or None if its constructor does not take them.

    Args:
        cls: the class that is called.
        args: the arguments by position.
        kwargs: the arguments by keyword.
    """
    signature = inspect.signature(cls)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:  # the constructor raises its own error; or a copy is made, whose arguments come with its state
        return None
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"*{name}": [_kept(each) for each in value]} if value else {}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            found |= {f"**{name}": _kept(value)} if value else {}
        else:
            found[name] = _kept(value)
    return found


def called_again(cls: type[Made], arguments: Mapping[str, Any]) -> Made:
    """`cls(...)` with arguments by name, as `bound_arguments` returns them.

    Raises:
        TypeError: arguments that the constructor does not take, or too few of them.
    """
    parameters, named = inspect.signature(cls).parameters.values(), dict(arguments)
    by_position = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    positional: list[Any] = []
    more: dict[str, Any] = {}
    for each in parameters:
        if each.kind is inspect.Parameter.VAR_POSITIONAL:
            positional += named.pop(f"*{each.name}", [])
        elif each.kind is inspect.Parameter.VAR_KEYWORD:
            more = named.pop(f"**{each.name}", {})
        elif each.kind is inspect.Parameter.POSITIONAL_ONLY or (
            by_position and each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ):
            if each.name not in named and each.default is inspect.Parameter.empty:
                raise TypeError(f"expected the argument {each.name} of {cls.__name__}, got none")
            positional.append(named.pop(each.name, each.default))
    return cls(*positional, **named, **more)


def _kept(value: Any) -> Any:
    """A value as plain data, which a later change of the argument does not reach."""
    if value is None or type(value) in (bool, str) or isinstance(value, Emission):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, list):
        return [_kept(each) for each in value]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_kept(each) for each in value)
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {key: _kept(each) for key, each in value.items()}
    return Unkept(type(value).__name__)
