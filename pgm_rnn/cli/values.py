"""An option without its value is an error, where the parser would take the next option for the value."""

from collections.abc import Sequence
from typing import Any


def check_values(ctx: Any, parameters: Sequence[Any], arguments: Sequence[str]) -> None:
    """Check that no option takes another one as its value; a value that looks like one is joined to it by "=".

    Raises:
        UsageError: one does.
    """
    options = [parameter for parameter in parameters if parameter.param_type_name == "option"]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    taking = {name for option in options if _takes_value(option) for name in option.opts}
    rest = iter(arguments)
    for word in rest:
        if word == "--":  # only arguments follow
            break
        value = next(rest, None) if word in taking else None
        if value is not None and (value.startswith("--") or value in names):
            ctx.fail(
                f"Option {word!r} requires a value, got {value!r}; write {word}=VALUE for a value that begins with "
                "two dashes"
            )


def _takes_value(option: Any) -> bool:
    return not option.is_flag and not option.count
