"""The command line's `pgm-rnn evaluate`, `sample`, `forecast` on a model that was saved, and `show` on data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgm_rnn.cli.options import registries_of

if TYPE_CHECKING:
    from pgm_rnn.report.saved import Source

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER|NAME",
        help="Of a saved model, such as fits/hmm-jsb-64, or of the trained zoo, such as hmm-jsb-16.",
    ),
]
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
OutOfAnyKind = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="By its suffix .mid or .png (music), .svg or .png (handwriting), .png (vectors), .txt (text, symbols, "
        "numbers) or .npz (arrays).",
        show_default="the terminal",
    ),
]
Tempo = Annotated[float | None, typer.Option(help="Of music in a .mid: quarter notes a minute.", show_default="100")]


def evaluate(
    context: typer.Context,
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
        _source(context, data, split, column),
        bound=bound,
        num_particles=num_particles,
        normalisation=normalisation,
        batch_size=batch_size,
        seed=seed,
        json=json,
    )


def sample(
    context: typer.Context,
    folder: Folder,
    num_sequences: Annotated[int, typer.Option(help="How many.")] = 5,
    num_steps: Annotated[int, typer.Option(help="How long each is.")] = 20,
    seed: Seed = 0,
    tempo: Tempo = None,
    out: OutOfAnyKind = None,
) -> None:
    """Draw sequences from a saved model: music, handwriting, text or numbers. Vectors need --out."""
    from pgm_rnn.report.predicting import sample_saved

    sample_saved(
        folder,
        num_sequences=num_sequences,
        num_steps=num_steps,
        seed=seed,
        tempo=tempo,
        output=out,
        registries=registries_of(context),
    )


def show(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data set's name, such as jsb or kanji.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    first: Annotated[int, typer.Option(help="The first sequence to show, from 0.")] = 0,
    num_sequences: Annotated[int, typer.Option(help="How many.")] = 5,
    num_steps: Annotated[int | None, typer.Option(help="Of each, at most.", show_default="all")] = None,
    tempo: Tempo = None,
    out: OutOfAnyKind = None,
) -> None:
    """Show real sequences as sample shows draws, to compare the two."""
    from pgm_rnn.report.showing import show_data

    show_data(
        data,
        split=split,
        first=first,
        num_sequences=num_sequences,
        num_steps=num_steps,
        tempo=tempo,
        output=out,
        datasets=registries_of(context).datasets,
    )


def forecast(
    context: typer.Context,
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
        _source(context, data, split, column),
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
    from pgm_rnn.zoo.publish import publish as published

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


def _source(context: typer.Context, data: str, split: str | None, columns: list[str] | None) -> "Source":
    from pgm_rnn.report.saved import Source

    return Source(data, split, tuple(columns or ()), registries_of(context))
