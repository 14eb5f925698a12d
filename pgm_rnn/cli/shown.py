"""How commands show in the help: `fit` first, and flags without a type."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from pgm_rnn.cli.values import check_values

FIRST = "fit"
"""The command that one uses first, and which the help lists first."""


class Command(TyperCommand):
    """A command whose flags show no type in the help, and whose options do not take one another as values."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the arguments.

        Raises:
            UsageError: they are wrong.
        """
        if not ctx.resilient_parsing:  # a shell completes what is not yet whole
            check_values(ctx, self.get_params(ctx), args)
        return super().parse_args(ctx, args)

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
