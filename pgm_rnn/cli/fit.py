"""The command line's `pgm-rnn fit`: which model, to what, and where the result goes.

A model that is fitted by gradient steps has a command by its `GradientFit`; those fitted by EM or counts have theirs
here.
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
    Data,
    FileEmission,
    Json,
    Output,
    Overwrite,
    Seed,
    TestFraction,
    ValidFraction,
    data_of,
    emission_of,
    end,
    job_of,
    registries_of,
)
from pgm_rnn.models.info import ModelInfo
from pgm_rnn.registries import Registries

Iterations = Annotated[int, typer.Option(help="Largest number of iterations of EM.")]
Tolerance = Annotated[float, typer.Option(help="Stop when an iteration gains less, nats per step.")]


def hmm(
    context: typer.Context,
    data: Data,
    num_states: Annotated[int, typer.Option(help="How many hidden states.")],
    iterations: Iterations = 100,
    restarts: Annotated[
        int | None,
        typer.Option(
            help="Random starts, beside one that k-means reads off the data; the best on validation data is kept.",
            show_default="16, or what fits",
        ),
    ] = None,
    pseudo_count: Annotated[float, typer.Option(help="Added to every expected count.")] = 0.1,
    pseudo_observations: Annotated[
        float, typer.Option(help="Added to those of every state, spread like all the data.")
    ] = 2.0,
    tolerance: Tolerance = 1e-6,
    half: Annotated[
        bool, typer.Option("--half", help="Round to half precision and store so, in half the space.")
    ] = False,
    emission: FileEmission = None,
    column: Column = None,
    valid_fraction: Annotated[
        float | None,
        typer.Option(help="With a file: the part before the test that chooses the start.", show_default="0.1"),
    ] = None,
    test_fraction: TestFraction = None,
    seed: Seed = 0,
    output: Output = None,
    json: Json = None,
    overwrite: Overwrite = False,
) -> None:
    """A hidden Markov model, by Baum-Welch from many starts, one of them read off the data."""
    from pgm_rnn.report.fitting import fit_hmm

    registries = registries_of(context)
    job = job_of(
        registries, data, emission, column, valid_fraction, test_fraction, seed, output, json, overwrite=overwrite
    )
    end(
        fit_hmm(
            job,
            num_states=num_states,
            num_iterations=iterations,
            num_restarts=restarts,
            pseudo_count=pseudo_count,
            pseudo_observations=pseudo_observations,
            tolerance=tolerance,
            half=half,
        )
    )


def lgssm(
    context: typer.Context,
    data: Data,
    latent_dim: Annotated[int, typer.Option(help="How many hidden numbers.")],
    iterations: Iterations = 500,
    tolerance: Tolerance = 1e-6,
    column: Column = None,
    valid_fraction: Annotated[
        float | None, typer.Option(help="With a file: a part before the test, scored too.", show_default="0")
    ] = None,
    test_fraction: TestFraction = None,
    seed: Annotated[int, typer.Option(help="Kept with the results; this fit draws nothing.")] = 0,
    output: Output = None,
    json: Json = None,
    overwrite: Overwrite = False,
) -> None:
    """A linear-Gaussian state-space model, by EM from a start read off the data; missing numbers are summed out."""
    from pgm_rnn.report.fitting import fit_lgssm

    registries = registries_of(context)
    job = job_of(registries, data, None, column, valid_fraction, test_fraction, seed, output, json, overwrite=overwrite)
    end(fit_lgssm(job, latent_dim=latent_dim, num_iterations=iterations, tolerance=tolerance))


def markov_chain(
    context: typer.Context,
    data: Data,
    pseudo_count: Annotated[float, typer.Option(help="Added to every count.")] = 0.1,
    emission: FileEmission = None,
    column: Column = None,
    valid_fraction: ValidFraction = None,
    test_fraction: TestFraction = None,
    seed: Annotated[int, typer.Option(help="Of synthetic data; counting draws nothing.")] = 0,
    output: Output = None,
    json: Json = None,
    overwrite: Overwrite = False,
) -> None:
    """A first-order Markov chain over symbols, or one for each bit, by counts."""
    from pgm_rnn.report.counting import fit_markov_chain

    registries = registries_of(context)
    job = job_of(
        registries, data, emission, column, valid_fraction, test_fraction, seed, output, json, overwrite=overwrite
    )
    end(fit_markov_chain(job, pseudo_count=pseudo_count))


COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "hmm": (hmm, "gaussian"),
    "lgssm": (lgssm, ""),
    "markov-chain": (markov_chain, "categorical"),
}
"""Commands of models that are fitted by EM or by counts, and what they take a file's numbers for."""


def fit_app(registries: Registries) -> typer.Typer:
    """`pgm-rnn fit`, with a command for each model of the registries that has a `GradientFit` or is in `COMMANDS`."""
    app = typer.Typer(no_args_is_help=True)
    for command in dict.fromkeys(info.command for info in registries.models.values()):
        info = next(info for info in registries.models.values() if info.command == command)
        if info.fit is not None:
            app.command(command, help=info.fit.help)(command_of(info, registries))
        elif command in COMMANDS:
            app.command(command)(_of_registries(registries, info, *COMMANDS[command]))
    for law in registries.label_models.values():
        app.command(law.name, help=law.help)(label_command(law, registries))
    return app


def _of_registries(
    registries: Registries, info: ModelInfo, command: Callable[..., None], default: str
) -> Callable[..., None]:
    """A command whose help names what is in the registries."""

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
