"""The command line's `pgm-rnn evaluate`, `sample` and `forecast`, on a model that `pgm-rnn fit` saved."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pgm_rnn.report.saved import Source

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Of a saved model, such as fits/hmm-jsb-64.")]
Data = Annotated[str, typer.Option(metavar="NAME|FILE", help="A data set's name, or a .csv, .npy or .npz.")]
Split = Annotated[
    str | None, typer.Option(help="With a data set: train, valid or test; a file is taken whole.", show_default="test")
]
Column = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="With a file: take this column only; may be given again.", show_default="all"),
]
Seed = Annotated[int, typer.Option(help="Of what is drawn.")]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE.npz", help="Write the draws here.", show_default="the terminal")
]


def evaluate(
    folder: Folder,
    data: Data,
    bound: Annotated[
        str | None,
        typer.Option(
            help="exact, elbo, iwae, fivo (upper bounds on the nats) or importance (an estimate).",
            show_default="exact where it can be, else elbo",
        ),
    ] = None,
    num_particles: Annotated[int, typer.Option(help="Of every bound but exact.")] = 500,
    normalisation: Annotated[
        str, typer.Option(help="sum (over all steps), sequence (mean over sequences), skip-first (without frame 1).")
    ] = "sum",
    split: Split = None,
    column: Column = None,
    batch_size: Annotated[int, typer.Option(help="Sequences at a time.")] = 256,
    seed: Seed = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result to this file too.")] = None,
) -> None:
    """Score a saved model: nats per step, exact or bounded."""
    from pgm_rnn.report.predicting import evaluate_saved

    evaluate_saved(
        folder,
        _source(data, split, column),
        bound=bound,
        num_particles=num_particles,
        normalisation=normalisation,
        batch_size=batch_size,
        seed=seed,
        json=json,
    )


def sample(
    folder: Folder,
    num_sequences: Annotated[int, typer.Option(help="How many.")] = 5,
    num_steps: Annotated[int, typer.Option(help="How long each is.")] = 20,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Draw sequences from a saved model; symbols and single numbers are printed, vectors need --out."""
    from pgm_rnn.report.predicting import sample_saved

    sample_saved(folder, num_sequences=num_sequences, num_steps=num_steps, seed=seed, output=out)


def forecast(
    folder: Folder,
    data: Data,
    num_steps: Annotated[int, typer.Option(help="How far to go.")] = 10,
    num_samples: Annotated[int, typer.Option(help="Draws a sequence.")] = 1000,
    sequence: Annotated[int, typer.Option(help="Without --out: which one is shown, from 0.")] = 0,
    num_particles: Annotated[int, typer.Option(help="Of the filter, for a model without an exact one.")] = 1000,
    split: Split = None,
    column: Column = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Continue sequences with a saved model: means and 90 % intervals of one, or all draws with --out."""
    from pgm_rnn.report.predicting import forecast_saved

    forecast_saved(
        folder,
        _source(data, split, column),
        num_steps=num_steps,
        num_samples=num_samples,
        num_particles=num_particles,
        sequence=sequence,
        seed=seed,
        output=out,
    )


def publish(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the entry, such as hmm-jsb-16.")],
    failure_modes: Annotated[str, typer.Option(metavar="TEXT", help="What the model gets wrong, for its card.")],
    into: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of the entries.", show_default="the package's own")
    ] = None,
) -> None:
    """Make an entry of the trained zoo, for pgm_rnn.load_pretrained, of a model that pgm-rnn fit saved."""
    from pgm_rnn.zoo.entries import HOME
    from pgm_rnn.zoo.make import publish as published

    typer.echo(f"published in {published(folder, name, failure_modes, into or HOME)}")


def leaderboard(
    data: Annotated[str, typer.Option(metavar="NAME", help="The data set: jsb, nottingham or another.")],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="Write the section of this page too.", show_default="the terminal alone"),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Of the entries.", show_default="the package's own")
    ] = None,
) -> None:
    """Evaluate every trained model of a data set on its test split, beside published figures."""
    from pgm_rnn.report.leaderboard import leaderboard as shown
    from pgm_rnn.zoo.entries import HOME

    shown(data, output, into or HOME)


def _source(data: str, split: str | None, columns: list[str] | None) -> "Source":
    from pgm_rnn.report.saved import Source

    return Source(data, split, tuple(columns or ()))
