"""Options that are declared once: a field of a dataclass has an option's name, type, default and help text.

The signature and docstring of functions that take such options, the command line and the record of a fit are derived
from the fields. A new option is one field and the code that uses it.
"""

import dataclasses
import difflib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """One option of a function and of the command line.

    Attributes:
        name: its name as a keyword.
        kind: its type.
        default: its value if it is not given.
        help: its help text, one or two sentences.
        bounds: whether it only applies to objectives that are bounds.
        command: its name at the command line, with underscores; empty if the command line does not offer it.
        metavar: "FILE" or "FOLDER" for a path, else empty.
        shown: text that the command line shows in place of a default that is None.
        unit: the command line's unit in units of the keyword, such as 60 for minutes in place of seconds.
        command_help: help text at the command line, if it differs.
        choices: the values that the command line lists; empty if any value may do.
    """

    name: str
    kind: Any
    default: Any
    help: str
    bounds: bool = False
    command: str = ""
    metavar: str = ""
    shown: str = ""
    unit: float = 1
    command_help: str = ""
    choices: tuple[str, ...] = ()


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field that is an option. `more` are attributes of `Option`; `command` is by default its name."""
    return dataclasses.field(default=default, metadata={"help": help, **more})


def options_of(*classes: type[Any]) -> Iterator[Option]:
    """The options among the fields of dataclasses, in their order."""
    for each in classes:
        kinds = typing.get_type_hints(each)
        for field in dataclasses.fields(each):
            named = {"command": field.name, **field.metadata}
            yield Option(field.name, kinds[field.name], field.default, **named)


def take_options(*classes: type[Any], bounds: bool = True) -> Callable[[Function], Function]:
    """Decorator for a function whose `**options` are fields of dataclasses; those of bounds only if `bounds`.

    `inspect.signature` and `help` of the function list these options, except for those that are arguments already. They
    replace the docstring's line "options: ...".
    """

    def decorated(function: Function) -> Function:
        own = inspect.signature(function)
        *first, _ = own.parameters.values()
        found = [
            each for each in options_of(*classes) if each.name not in own.parameters and (bounds or not each.bounds)
        ]
        keywords = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.kind)
            for each in found
        ]
        function.__signature__ = own.replace(parameters=[*first, *keywords])  # type: ignore[attr-defined]
        lines = inspect.cleandoc(function.__doc__ or "").split("\n")
        listed = [f"    {each.name}: {each.help}" for each in found]
        texts = [listed if line.startswith("    options: ") else [line] for line in lines]
        function.__doc__ = "\n".join(line for text in texts for line in text)
        return function

    return decorated


def check_options(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Check that all keywords are in the function's signature.

    Raises:
        TypeError: an unknown keyword; the message suggests the closest name.
    """
    names = inspect.signature(function).parameters
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(names)}"
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}")


def among(given: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """The given options that are fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in given.items() if name in names}
