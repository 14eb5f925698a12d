"""`pgm-rnn fit own`: a model of a class of the user's own, by gradient steps."""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from pgm_rnn.checks import check_choice
from pgm_rnn.cli.gradient import (
    BOUND,
    DEFAULTS,
    FILE,
    LEARNING,
    MATERIAL,
    RESULT,
    RUN,
    named_at_command_line,
    training_options,
    with_options,
)
from pgm_rnn.cli.options import choice, data_option, end, job_of, registries_of
from pgm_rnn.cli.own_class import OwnClass, class_of
from pgm_rnn.models.info import STEPS
from pgm_rnn.registries import Registries

HELP = "A model of a class of your own, by gradient steps: on its exact likelihood, or on a bound."
SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Argument of the class, such as K=3; repeat for more. The value is read as JSON, or else as a string.",
        show_default="its defaults",
    ),
]
OBJECTIVES = ("mle", "elbo", "iwae", "fivo")
OBJECTIVE = Annotated[
    str | None,
    choice(
        OBJECTIVES,
        "Objective: mle (the log likelihood), or a lower bound on it: elbo, iwae or fivo.",
        show_default="mle if the likelihood is exact, else elbo",
    ),
]


def own_command(registries: Registries) -> Callable[..., None]:
    """The function behind `pgm-rnn fit own`, with a signature that the command line reads."""
    options = {
        "own_class": OwnClass,
        "data": data_option(sorted(registries.datasets)),
        "set": SET,
        **BOUND,
        "objective": OBJECTIVE,
        **LEARNING,
        "start": MATERIAL["start"],
        "half": MATERIAL["half"],
        **FILE,
        **RUN,
        **RESULT,
    }

    def command(context: typer.Context, **given: Any) -> None:
        _fit(registries_of(context), given)

    return with_options(command, options, DEFAULTS | named_at_command_line(STEPS) | {"objective": None})


def _fit(registries: Registries, given: dict[str, Any]) -> None:
    from pgm_rnn.report.own_fitting import fit_own

    model_class = class_of(given["own_class"])
    if model_class is None:
        raise ValueError("expected --class FILE.py:NAME for the model to fit, got none; name your class")
    if given["objective"] is not None:
        check_choice("--objective", given["objective"], OBJECTIVES)
    job = job_of(registries, given["data"], None, **{option: given[option] for option in (*FILE, *RESULT)})
    training = training_options({option: value for option, value in given.items() if option != "seed"})
    more = {option: given[option] for option in ("start", "half")}
    end(fit_own(job, model_class, arguments_in(given["set"] or ()), training, **more))


def arguments_in(given: Sequence[str]) -> dict[str, Any]:
    """Arguments by name from `NAME=VALUE`, values as JSON or else as strings.

    Raises:
        ValueError: another form, or a name that is given twice.
    """
    found: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"expected --set NAME=VALUE, such as K=3, got {each}")
        if name in found:
            raise ValueError(f"expected each argument once, got {name} twice; leave one --set out")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
