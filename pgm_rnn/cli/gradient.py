"""`pgm-rnn fit` for models that learn by gradient steps: one command for each model that has a `GradientFit`.

A command takes the sizes that the model's entry names and the training options of `Plan` and `Surroundings`. Options
have their names in `svi.fit`, except for `--epochs` (num_epochs) and `--checkpoint-minutes` (checkpoint_seconds).
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pgm_rnn.checks import check_choice
from pgm_rnn.cli.options import (
    Column,
    ColumnKind,
    Input,
    Json,
    Output,
    Overwrite,
    Seed,
    SequenceColumn,
    TestFraction,
    TimeColumn,
    ValidFraction,
    choice,
    data_of,
    emission_of,
    end,
    job_of,
    registries_of,
    valid_fraction_of,
)
from pgm_rnn.inference.svi.options import Option, options_of
from pgm_rnn.inference.svi.plan import Plan, Surroundings
from pgm_rnn.models.info import GradientFit, ModelInfo, Size
from pgm_rnn.registries import Registries

VALID_PARTICLES = 16
"""Smallest default of `--valid-particles`: the noise of fewer particles could stop a fit too early."""


def annotated(option: Option) -> Any:
    """A training option in the form that the command line takes."""
    flag = [f"--{option.command.replace('_', '-')}"] if option.kind is bool else []
    kind = Path | None if option.metavar else option.kind
    text, shown = option.command_help or option.help, option.shown or True
    if option.choices:
        return Annotated[kind, choice(option.choices, text, shown)]
    return Annotated[kind, typer.Option(*flag, help=text, metavar=option.metavar or None, show_default=shown)]


PLANNED = [option for option in options_of(Plan) if option.command]
PLACED = [option for option in options_of(Surroundings) if option.command]
LEARNING: dict[str, Any] = {option.command: annotated(option) for option in PLANNED if not option.bounds}
"""Training options of every fit, by their names at the command line. `BOUND` has those of fits that maximise a bound,
`RUN` those that say where a fit runs and what it writes.
"""
BOUND: dict[str, Any] = {option.command: annotated(option) for option in PLANNED if option.bounds} | {
    "valid_particles": Annotated[
        int | None,
        typer.Option(help="Particles of the validation bound.", show_default=f"{VALID_PARTICLES} or more"),
    ]
}
RUN: dict[str, Any] = {option.command: annotated(option) for option in PLACED}
MATERIAL: dict[str, Any] = {
    "transpose": Annotated[
        int, typer.Option(help="Piano rolls: also train on copies transposed by up to this many keys, up and down.")
    ],
    "nade_dim": Annotated[
        int | None,
        typer.Option(
            help="Bits: model each bit given those before it, by a NADE with this hidden width.",
            show_default="independent bits",
        ),
    ],
    "start": Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Start from the parameters of this saved model.")
    ],
    "half": Annotated[
        bool, typer.Option("--half", help="Round the fitted parameters to half precision, which halves the file.")
    ],
}
FILE: dict[str, Any] = {
    "column": Column,
    "input": Input,
    "valid_fraction": ValidFraction,
    "test_fraction": TestFraction,
    "sequence": SequenceColumn,
    "time": TimeColumn,
    "kind": ColumnKind,
}
RESULT: dict[str, Any] = {"seed": Seed, "output": Output, "json": Json, "overwrite": Overwrite}
DEFAULTS: dict[str, Any] = {
    **{option.command: option.default for option in PLANNED},
    **{option.command: option.default / option.unit if option.unit != 1 else option.default for option in PLACED},
    "transpose": 0,
    "half": False,
    "overwrite": False,
    "seed": 0,
}
"""Defaults of the options; an option that is not here is None unless given."""


def named_at_command_line(defaults: Mapping[str, object]) -> dict[str, object]:
    """Renames defaults: from the options' names in `svi.fit` to their names at the command line."""
    names = {option.name: option.command for option in PLANNED}
    return {names[name]: value for name, value in defaults.items()}


def training_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `svi.fit`, from the options that a command was given."""
    return {
        option.name: given[option.command] * option.unit if option.unit != 1 else given[option.command]
        for option in (*PLANNED, *PLACED)
        if option.command in given
    }


def size_option(size: Size) -> Any:
    """A model's size in the form that the command line takes."""
    shown = True if size.default is not None else size.shown
    if size.repeats:
        return Annotated[list[int], typer.Option(help=size.help, metavar="<int>")]
    if size.choices:
        return Annotated[size.kind | None, choice(size.choices, size.help, shown)]
    return Annotated[size.kind | None, typer.Option(help=size.help, show_default=shown)]


def command_of(info: ModelInfo, registries: Registries) -> Callable[..., None]:
    """The function behind `pgm-rnn fit MODEL`, with a signature that the command line reads.

    Args:
        info: entry of the model, or of one of the models that share a `GradientFit`.
        registries: the data sets and emission families.
    """
    fit = info.fit
    assert fit is not None  # such models have commands here
    sizes = {size: size_option(entry) for size, entry in fit.sizes.items()}
    options = {
        "data": data_of(registries, info),
        **sizes,
        **(BOUND if fit.by_bound else {}),
        **LEARNING,
        **MATERIAL,
        "emission": emission_of(registries, info, "gaussian"),
        **FILE,
        "valid_fraction": valid_fraction_of(fit.valid_fraction),
        **RUN,
        **RESULT,
    }
    own: dict[str, object] = {
        size: [entry.default] if entry.repeats else entry.default for size, entry in fit.sizes.items()
    }
    own |= named_at_command_line(fit.defaults)

    def command(context: typer.Context, **given: Any) -> None:
        _fit(info.command, fit, registries_of(context), given)

    return with_options(command, options, DEFAULTS | own)


def with_options(
    command: Callable[..., None], options: Mapping[str, Any], defaults: Mapping[str, object]
) -> Callable[..., None]:
    """Give a command the signature that the command line reads: one annotation per option, None as default default."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(option, keyword, annotation=annotation)
        if option in ("context", "data")
        else inspect.Parameter(option, keyword, annotation=annotation, default=defaults.get(option))
        for option, annotation in {"context": typer.Context, **options}.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {"context": typer.Context, **options}
    return command


def _fit(name: str, fit: GradientFit, registries: Registries, given: dict[str, Any]) -> None:
    """Fit the command's model with the given options."""
    from pgm_rnn.report.gradient_fitting import fit_by_gradient

    for size, entry in fit.sizes.items():
        given[size] = entry.chosen(given[size])
        if entry.choices and given[size] is not None:
            check_choice(f"--{size.replace('_', '-')}", given[size], entry.choices)
    if fit.by_bound:
        check_choice("--objective", given["objective"], ("elbo", "iwae", "fivo"))
        given["valid_particles"] = given["valid_particles"] or max(given["num_particles"], VALID_PARTICLES)
    sizes = {size: given[size] for size in fit.sizes}
    model = name if fit.named_by is None else f"{name}-{sizes.pop(fit.named_by)}"
    told = {option: value for option, value in given.items() if option not in fit.sizes and option != "seed"}
    job = job_of(registries, **{option: given[option] for option in ("data", "emission", *FILE, *RESULT)})
    end(fit_by_gradient(job, model, sizes, training_options(told), **{option: given[option] for option in MATERIAL}))
