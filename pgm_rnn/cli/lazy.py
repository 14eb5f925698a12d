"""`pgm-rnn fit` as a group whose commands are built when one is asked for, because building them imports torch.

Unknown commands, and unknown data, are answered before that; a shell completes names without it.
"""

import difflib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pgm_rnn.cli.early import check_data
from pgm_rnn.cli.names import FITS
from pgm_rnn.cli.options import Data, registries_of
from pgm_rnn.cli.shown import Group

KEY = "pgm_rnn.cli.fit"
"""Key under which the context keeps the commands once they are built."""
LISTED = "pgm_rnn.cli.listed"
"""Key that says that a shell asks for the names of the commands alone."""


class FitGroup(Group):
    """A group with one command for each model of the context's registries."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the help."""
        return list(FITS) if ctx.obj is None else self._commands(ctx).list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, None where there is none."""
        if ctx.meta.get(LISTED):
            return TyperCommand(cmd_name)
        return self._commands(ctx).get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments name.

        Raises:
            UsageError: there is no such command.
            ValueError: its `--data` is neither a data set nor a file.
        """
        if ctx.resilient_parsing:  # a shell completes what stands here
            of_data = args[-1] == "--data" and args[0] != args[-1]
            return (args[0], _with_data_alone(), args[-1:]) if of_data else super().resolve_command(ctx, args)
        known = self.list_commands(ctx)
        if args[0] not in known:
            close = difflib.get_close_matches(args[0].lower(), known, n=1)
            ctx.fail(f"No such command {args[0]!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        for data in _values("--data", args):
            if not data.startswith("--"):  # the command says that the value is missing
                check_data(ctx, data)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Names of commands, without building them."""
        ctx.meta[LISTED] = True
        return super().shell_complete(ctx, incomplete)

    def _commands(self, ctx: Any) -> TyperGroup:
        if KEY not in ctx.meta:
            from pgm_rnn.cli.fit import fit_app

            ctx.meta[KEY] = typer.main.get_group(fit_app(registries_of(ctx)))
        return ctx.meta[KEY]


def _with_data_alone() -> Any:
    """A command with `--data` alone, whose values a shell completes without building the commands."""

    def fit(data: Data) -> None:
        """Stand for any command of `pgm-rnn fit`."""

    app = typer.Typer(add_completion=False)
    app.command()(fit)
    return typer.main.get_command(app)


def _values(option: str, arguments: Sequence[str]) -> list[str]:
    """The values of an option among the arguments of a command."""
    apart = [value for name, value in pairwise(arguments) if name == option]
    joined = [word.partition("=")[2] for word in arguments if word.startswith(f"{option}=")]
    return apart + joined
