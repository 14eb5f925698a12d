"""Options that stand in one place: a field of a dataclass has an option's name, type, default and help.

The signature and the docstring of a function that takes such options, the command line, and what a fit notes of itself
are derived from the fields. A new option is one field, and what the code does with it.
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
    """One option.

    Attributes:
        name: as a keyword.
        kind: its type.
        default: its value if nothing is given.
        help: one or two sentences.
        bounds: whether it is for objectives that are bounds only.
        command: its name at the command line, with underscores; empty if it is no option there.
        metavar: "FILE" or "FOLDER" for a path, else empty.
        shown: what the command line shows in place of a default that is None.
        unit: how many of the keyword's units one of the command line's unit is, such as 60 for minutes.
        command_help: the help at the command line, where it is another.
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


def option(default: Any, help: str, **more: Any) -> Any:
    """A field of a dataclass that is an option; `more` are attributes of `Option`. `command` is its name by default."""
    return dataclasses.field(default=default, metadata={"help": help, **more})


def options_of(*classes: type[Any]) -> Iterator[Option]:
    """The options that are fields of dataclasses, in their order."""
    for each in classes:
        kinds = typing.get_type_hints(each)
        for field in dataclasses.fields(each):
            named = {"command": field.name, **field.metadata}
            yield Option(field.name, kinds[field.name], field.default, **named)


def take_options(*classes: type[Any], bounds: bool = True) -> Callable[[Function], Function]:
    """A decorator for a function whose `**options` are those of dataclasses, those of bounds only if `bounds`.

    `inspect.signature` and `help` of the function list them, but for what it takes by itself: they stand in place of
    the docstring's line "options: ...".
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
    """Raise a TypeError that suggests a name unless all keywords are in the function's signature."""
    names = inspect.signature(function).parameters
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(names)}"
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}{hint}")


def among(given: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Those of the given options that are fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in given.items() if name in names}
