"""The options that say how a command reads its `--data`, given once for all commands.

A command has one parameter `reading` in their place:

    @reads_data
    def evaluate(context, folder, data, reading: Reading): ...      # --split --column --input ...
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgm_rnn.cli.options import Column, ColumnKind, Input, SequenceColumn, TimeColumn, choice, registries_of

if TYPE_CHECKING:
    from pgm_rnn.report.saved import Source

SPLITS = ("train", "valid", "test")


def split_option(shown: str) -> Any:
    """`--split`, with the split that is taken where it is not given."""
    return Annotated[
        str | None, choice(SPLITS, "With a data set: train, valid or test. A file is used whole.", show_default=shown)
    ]


OPTIONS: dict[str, Any] = {
    "split": split_option("test"),
    "column": Column,
    "input": Input,
    "sequence": SequenceColumn,
    "time": TimeColumn,
    "kind": ColumnKind,
}
"""The options, by their names; None unless given."""


@dataclass(frozen=True)
class Reading:
    """What a command was told about its data.

    Attributes:
        context: context of the command.
        split: the split of a data set.
        column: the columns of a file.
        input: its columns of inputs.
        sequence: its column of ids.
        time: its column of times.
        kind: kinds of its columns.
    """

    context: typer.Context
    split: str | None
    column: list[str] | None
    input: list[str] | None
    sequence: str | None
    time: str | None
    kind: list[str] | None

    @property
    def is_given(self) -> bool:
        """Whether one of the options was given."""
        return any((self.split, self.column, self.input, self.sequence, self.time, self.kind))

    def source(self, data: str) -> "Source":
        """The choice of data that the options describe."""
        from pgm_rnn.report.saved import Source

        columns, kinds, inputs = (tuple(given or ()) for given in (self.column, self.kind, self.input))
        return Source(data, self.split, columns, registries_of(self.context), self.sequence, self.time, kinds, inputs)


def reads_data(command: Callable[..., None], *, split: Any = OPTIONS["split"]) -> Callable[..., None]:
    """A command with `OPTIONS` at the place of its parameter `reading`.

    Args:
        command: a function of a `context` and a `reading`, besides its own options.
        split: annotation of `--split`.
    """
    parameters = list[inspect.Parameter]()
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != "reading":
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        for name, annotation in (OPTIONS | {"split": split}).items():
            how: dict[str, Any] = {"default": None, "annotation": annotation}
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, **how))

    @functools.wraps(command)
    def read(context: typer.Context, **given: Any) -> None:
        reading = Reading(context, **{name: given.pop(name) for name in OPTIONS})
        command(context=context, reading=reading, **given)

    read.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    read.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return read
