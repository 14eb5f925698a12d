"""How commands show in the help: `fit` first, and flags without a type."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

FIRST = "fit"
"""The command that one uses first, and which the help lists first."""


class Command(TyperCommand):
    """A command whose flags show no type in the help."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, that of `--help` among them."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group that lists `fit` first, and whose flags show no type in the help."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, that of `--help` among them."""
        return _without_types(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of use."""
        return sorted(super().list_commands(ctx), key=lambda name: name != FIRST)


def _without_types(parameters: Sequence[Any]) -> Sequence[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters
