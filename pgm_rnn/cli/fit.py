"""The command line's `pgm-rnn fit`: which model, to what, and where the result goes."""

from typing import Annotated

import typer

from pgm_rnn.cli.gradient import COMMANDS, command_of
from pgm_rnn.cli.labels import COMMANDS as LABEL_COMMANDS
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
    end,
    job_of,
)

app = typer.Typer(no_args_is_help=True)

Iterations = Annotated[int, typer.Option(help="Of EM, at most.")]
Tolerance = Annotated[float, typer.Option(help="Stop when an iteration gains less, nats per step.")]


@app.command()
def hmm(
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

    job = job_of(data, emission, column, valid_fraction, test_fraction, seed, output, json, overwrite=overwrite)
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


@app.command()
def lgssm(
    data: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="japanese-vowels, pen-digits, or a .csv (a column a variable), .npy or .npz.",
        ),
    ],
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

    job = job_of(data, None, column, valid_fraction, test_fraction, seed, output, json, overwrite=overwrite)
    end(fit_lgssm(job, latent_dim=latent_dim, num_iterations=iterations, tolerance=tolerance))


@app.command()
def markov_chain(
    data: Data,
    pseudo_count: Annotated[float, typer.Option(help="Added to every count.")] = 0.1,
    emission: Annotated[
        str | None,
        typer.Option(help="With a file: categorical (symbols) or bernoulli (bits).", show_default="categorical"),
    ] = None,
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

    job = job_of(data, emission, column, valid_fraction, test_fraction, seed, output, json, overwrite=overwrite)
    end(fit_markov_chain(job, pseudo_count=pseudo_count))


for _name, _law in LABEL_COMMANDS.items():
    app.command(_name, help=_law.help)(label_command(_name))

for _name, _fit in COMMANDS.items():
    app.command(_name, help=_fit.help)(command_of(_name))
