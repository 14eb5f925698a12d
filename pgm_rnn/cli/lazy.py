"""`pgm-rnn fit` as a group whose commands are made when one is asked for: what they derive from imports torch."""

from typing import Any

import typer
from typer.core import TyperGroup

from pgm_rnn.cli.options import registries_of

KEY = "pgm_rnn.cli.fit"
"""Where the context keeps the commands once they are made."""


class FitGroup(TyperGroup):
    """One command for each model of the registries that the context has."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the help."""
        return self._commands(ctx).list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, None where there is none."""
        return self._commands(ctx).get_command(ctx, cmd_name)

    def _commands(self, ctx: Any) -> TyperGroup:
        if KEY not in ctx.meta:
            from pgm_rnn.cli.fit import fit_app

            ctx.meta[KEY] = typer.main.get_group(fit_app(registries_of(ctx)))
        return ctx.meta[KEY]
