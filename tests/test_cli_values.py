"""Options without their value, at every command."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from pgm_rnn.cli.main import app
from tests.test_cli import call

USAGE_ERROR: Any = typer.BadParameter.__base__


def commands(group: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    """All commands below a group, each with a context."""
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        inner = type(context)(found, info_name=name, parent=context)
        yield from commands(found, inner) if hasattr(found, "list_commands") else [(found, inner)]


def test_no_option_takes_another_one_as_its_value() -> None:
    group: Any = typer.main.get_command(app)
    num_options = 0
    for command, context in commands(group, group.make_context("pgm-rnn", [], resilient_parsing=True)):
        context.resilient_parsing = False
        for option in command.get_params(context):
            if option.param_type_name != "option" or option.is_flag:
                continue
            num_options += 1
            for name in option.opts:
                for other in ("--seed", "--help", "--no-such-option", "--", "-h"):
                    with pytest.raises(USAGE_ERROR, match=f"'{name}' requires a value, got '{other}'"):
                        command.parse_args(context, [name, other])
    assert num_options > 300


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ("fit structural --trend --data jsb", "--trend"),
        ("fit structural --data --trend fixed", "--data"),
        ("fit hmm --data jsb --num-states --seed 1", "--num-states"),
        ("evaluate nowhere --data --json r.json", "--data"),
        ("verify --claim --quick", "--claim"),
    ],
)
def test_a_missing_value_is_one_sentence(
    arguments: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = arguments.split()
    assert call(monkeypatch, *words) == 2
    value = words[words.index(option) + 1]
    said = capsys.readouterr().err
    assert f"Option '{option}' requires a value, got '{value}'; write {option}=VALUE" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("evaluate nowhere --data jsb --seed -1 --batch-size 2", "no file nowhere/model.json"),  # a negative number
        ("evaluate --data=--odd hmm-jsb-16", "got '--odd'"),  # a value joined to its option
        ("evaluate --data jsb -- --seed", "no file --seed/model.json"),  # an argument
    ],
)
def test_values_and_arguments_that_look_like_options_are_taken(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments.split()) == 2
    assert message in capsys.readouterr().err
