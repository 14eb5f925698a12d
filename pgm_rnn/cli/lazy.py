"""`pgm-rnn fit` as a group whose commands are built when one is asked for, because building them imports torch."""

from typing import Any

import typer
from typer.core import TyperGroup

from pgm_rnn.cli.options import registries_of

KEY = "pgm_rnn.cli.fit"
"""Key under which the context keeps the commands once they are built."""


class FitGroup(TyperGroup):
    """A group with one command for each model of the context's registries."""

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
