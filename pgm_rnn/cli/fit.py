"""`pgm-rnn fit`: one command per model, with options for the data, the fit and the output.

The commands of models that are fitted by EM or by counts stand here. The other commands derive from the models'
`GradientFit` (`cli.gradient`) and from the label models (`cli.labels`); a class of one's own has `cli.own_fit`.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from pgm_rnn.cli.gradient import command_of
from pgm_rnn.cli.labels import label_command
from pgm_rnn.cli.options import (
    Column,
    ColumnKind,
    Data,
    FileEmission,
    Input,
    Json,
    Output,
    Overwrite,
    Seed,
    SequenceColumn,
    TestFraction,
    TimeColumn,
    ValidFraction,
    data_of,
    emission_of,
    end,
    job_of,
    numbers_of,
    registries_of,
)
from pgm_rnn.cli.own_fit import HELP, own_command
from pgm_rnn.cli.shown import Command
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.registries import Registries

Iterations = Annotated[int, typer.Option(help="Largest number of iterations of EM.")]
Tolerance = Annotated[float, typer.Option(help="Stop when an iteration gains less than this, in nats per step.")]


def hmm(
    context: typer.Context,
    data: Data,
    num_states: Annotated[
        str,
        typer.Option(
            metavar="K|K,K,...",
            help="Number of hidden states. Several, such as 1,2,3,4, are all fitted, and the lowest BIC is kept.",
        ),
    ],
    iterations: Iterations = 100,
    restarts: Annotated[
        int | None,
        typer.Option(
            help="Number of random starts, in addition to one from k-means; the best on validation data is kept.",
            show_default="16, or as many as fit in memory",
        ),
    ] = None,
    pseudo_count: Annotated[float, typer.Option(help="Number added to every expected count.")] = 0.1,
    pseudo_observations: Annotated[
        float | None,
        typer.Option(
            help="Number of observations, distributed like the whole data, that are added to each state.",
            show_default="2; for real numbers in a file none once the best start is found, or 0.02 or 2 where a state "
            "would shrink onto equal values or the validation data become less likely",
        ),
    ] = None,
    tolerance: Tolerance = 1e-6,
    half: Annotated[
        bool, typer.Option("--half", help="Round the fitted parameters to half precision, which halves the file.")
    ] = False,
    emission: FileEmission = None,
    column: Column = None,
    input: Input = None,
    sequence: SequenceColumn = None,
    time: TimeColumn = None,
    kind: ColumnKind = None,
    valid_fraction: Annotated[
        float | None,
        typer.Option(help="With a file: fraction before the test set that selects the start.", show_default="0.1"),
    ] = None,
    test_fraction: TestFraction = None,
    seed: Seed = 0,
    output: Output = None,
    json: Json = None,
    overwrite: Overwrite = False,
) -> None:
    """A hidden Markov model, by Baum-Welch from several random starts and one from k-means."""
    from pgm_rnn.report.fitting import HmmOptions, fit_hmm
    from pgm_rnn.report.state_numbers import fit_hmms

    numbers, registries = numbers_of(num_states), registries_of(context)
    more = column, valid_fraction, test_fraction, seed, output, json, sequence, time, kind, input
    job = job_of(registries, data, emission, *more, overwrite=overwrite)
    options = HmmOptions(iterations, restarts, pseudo_count, pseudo_observations, tolerance)
    if len(numbers) == 1:
        end(fit_hmm(job, numbers[0], options, half=half))
    else:
        end(fit_hmms(job, numbers, options, half=half))


def lgssm(
    context: typer.Context,
    data: Data,
    latent_dim: Annotated[int, typer.Option(help="Dimension of the hidden state.")],
    iterations: Iterations = 500,
    tolerance: Tolerance = 1e-6,
    column: Column = None,
    input: Input = None,
    sequence: SequenceColumn = None,
    time: TimeColumn = None,
    kind: ColumnKind = None,
    valid_fraction: Annotated[
        float | None,
        typer.Option(help="With a file: fraction before the test set that is scored separately.", show_default="0"),
    ] = None,
    test_fraction: TestFraction = None,
    seed: Annotated[int, typer.Option(help="Random seed, stored with the results; this fit is deterministic.")] = 0,
    output: Output = None,
    json: Json = None,
    overwrite: Overwrite = False,
) -> None:
    """A linear-Gaussian state-space model, by EM from a start computed from the data; values may be missing."""
    from pgm_rnn.report.fitting import fit_lgssm

    registries = registries_of(context)
    more = column, valid_fraction, test_fraction, seed, output, json, sequence, time, kind, input
    job = job_of(registries, data, None, *more, overwrite=overwrite)
    end(fit_lgssm(job, latent_dim=latent_dim, num_iterations=iterations, tolerance=tolerance))


def markov_chain(
    context: typer.Context,
    data: Data,
    pseudo_count: Annotated[float, typer.Option(help="Number added to every count.")] = 0.1,
    emission: FileEmission = None,
    column: Column = None,
    input: Input = None,
    sequence: SequenceColumn = None,
    time: TimeColumn = None,
    kind: ColumnKind = None,
    valid_fraction: ValidFraction = None,
    test_fraction: TestFraction = None,
    seed: Annotated[int, typer.Option(help="Random seed for synthetic data; counting is deterministic.")] = 0,
    output: Output = None,
    json: Json = None,
    overwrite: Overwrite = False,
) -> None:
    """A first-order Markov chain over symbols, or one chain per bit, by counting transitions."""
    from pgm_rnn.report.counting import fit_markov_chain

    registries = registries_of(context)
    more = column, valid_fraction, test_fraction, seed, output, json, sequence, time, kind, input
    job = job_of(registries, data, emission, *more, overwrite=overwrite)
    end(fit_markov_chain(job, pseudo_count=pseudo_count))


COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "hmm": (hmm, "by the kinds of its columns"),
    "lgssm": (lgssm, ""),
    "markov-chain": (markov_chain, "categorical"),
}
"""Commands of models that are fitted by EM or by counts, each with its default emission for a file."""


def fit_app(registries: Registries) -> typer.Typer:
    """`pgm-rnn fit`, with one command for each model that has a `GradientFit` or an entry in `COMMANDS`."""
    app = typer.Typer(no_args_is_help=True)
    for command in dict.fromkeys(info.command for info in registries.models.values()):
        info = next(info for info in registries.models.values() if info.command == command)
        if info.fit is not None:
            app.command(command, cls=Command, help=info.fit.help)(command_of(info, registries))
        elif command in COMMANDS:
            app.command(command, cls=Command)(_of_registries(registries, info, *COMMANDS[command]))
    for law in registries.label_models.values():
        app.command(law.name, cls=Command, help=law.help)(label_command(law, registries))
    app.command("own", cls=Command, help=HELP)(own_command(registries))
    return app


def _of_registries(
    registries: Registries, info: ModelInfo, command: Callable[..., None], default: str
) -> Callable[..., None]:
    """The command, with a help text that lists the data sets and emission families of the registries."""

    @wraps(command)
    def named(**given: Any) -> None:
        command(**given)

    options = {"data": data_of(registries, info), "emission": emission_of(registries, info, default)}
    signature = inspect.signature(command)
    parameters = [
        parameter.replace(annotation=options.get(name, parameter.annotation))
        for name, parameter in signature.parameters.items()
    ]
    named.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    named.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return named
