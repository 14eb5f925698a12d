"""Commands for saved models and for data: `pgm-rnn evaluate`, `sample`, `forecast`, `publish` and others."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pgm_rnn.cli.data_reading import SPLITS, Reading, reads_data, split_option
from pgm_rnn.cli.early import check_data, check_name, check_saved, complete, complete_saved
from pgm_rnn.cli.options import Data, choice, registries_of
from pgm_rnn.cli.own_class import OwnClass, class_of

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER|NAME",
        help="Folder of a saved model, such as fits/hmm-jsb-64, or name of a model in the zoo, such as hmm-jsb-16.",
        autocompletion=complete_saved,
    ),
]
DataSet = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="Name of a data set, such as jsb or kanji.", autocompletion=complete("datasets")
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed for the draws.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "--output",
        metavar="FILE",
        help="File for all sequences: .csv or .parquet (a table), .png (a picture) or .npz (all draws).",
        show_default="the terminal",
    ),
]
OutOfAnyKind = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "--output",
        metavar="FILE",
        help="File for the sequences. Its suffix is the format: .mid or .png (music), .svg or .png (handwriting), .png "
        "(vectors), .txt (text, symbols, numbers) or .npz (arrays).",
        show_default="the terminal",
    ),
]
Tempo = Annotated[
    float | None, typer.Option(help="Tempo of a .mid file, in quarter notes per minute.", show_default="100")
]


@reads_data
def evaluate(
    context: typer.Context,
    *,
    folder: Folder,
    data: Data,
    bound: Annotated[
        str | None,
        choice(
            ("exact", "elbo", "iwae", "fivo", "importance"),
            "How the likelihood is computed: exact, elbo, iwae or fivo (upper bounds on the nats), or importance "
            "(an estimate).",
            show_default="exact if the model allows it, else elbo, or fivo for a model without a guide",
        ),
    ] = None,
    num_particles: Annotated[
        int | None,
        typer.Option(
            help="Particles or draws per sequence, for every bound except exact.",
            show_default="500; without --bound, for a model without a guide, as many as `fit` scores with",
        ),
    ] = None,
    normalisation: Annotated[
        str,
        choice(
            ("sum", "sequence", "skip-first"),
            "How nats are averaged: sum (over all steps), sequence (mean over sequences) or skip-first (over all "
            "steps but the first of each sequence).",
        ),
    ] = "sum",
    reading: Reading,
    batch_size: Annotated[int, typer.Option(help="Sequences scored at a time.")] = 256,
    own_class: OwnClass = None,
    seed: Seed = 0,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the result to this file, as JSON.")
    ] = None,
) -> None:
    """Score a saved model on data: negative log likelihood in nats per step, exact or bounded."""
    check_saved(folder)
    check_data(context, data)
    from pgm_rnn.report.predicting import evaluate_saved

    evaluate_saved(
        folder,
        reading.source(data),
        model_class=class_of(own_class),
        bound=bound,
        num_particles=num_particles,
        normalisation=normalisation,
        batch_size=batch_size,
        seed=seed,
        json=json,
    )


@partial(reads_data, split=split_option("train"))
def describe(
    context: typer.Context,
    *,
    folder: Folder,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Data set or file that the model was fitted to, for standard errors and shares of the data.",
            show_default="none",
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|size",
            help="Order of the states: by their mean of a column, or the largest first; they keep their numbers.",
            show_default="the model's",
        ),
    ] = None,
    reading: Reading,
    own_class: OwnClass = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "--output", metavar="FILE", help="File for all tables: .csv or .json.", show_default="the terminal"
        ),
    ] = None,
) -> None:
    """Describe a saved model: parameters by name, expected durations and, with data, standard errors."""
    check_saved(folder)
    if data is not None:
        check_data(context, data)
    from pgm_rnn.report.describing import describe_saved

    if data is None and reading.is_given:
        raise ValueError(
            "expected --split and --column only with --data, like --input, --sequence, --time and --kind, got no "
            "--data; name the data of the fit"
        )
    registries = registries_of(context)
    source = None if data is None else reading.source(data)
    if source is not None and reading.split is None and source.name in registries.datasets:
        source = replace(source, split="train")
    describe_saved(folder, source, model_class=class_of(own_class), order=order, output=out, registries=registries)


def sample(
    context: typer.Context,
    folder: Folder,
    num_sequences: Annotated[
        int | None, typer.Option(help="Number of sequences.", show_default="5, or those of --inputs-from")
    ] = None,
    num_steps: Annotated[
        int | None,
        typer.Option(help="Length of each sequence, in steps.", show_default="20, or that of --inputs-from"),
    ] = None,
    inputs_from: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="For a model with inputs: a table or data set whose inputs the draws are given. Of a single sequence "
            "all draws are given the same ones; of several, each draw those of one.",
            show_default="none",
        ),
    ] = None,
    own_class: OwnClass = None,
    seed: Seed = 0,
    tempo: Tempo = None,
    out: OutOfAnyKind = None,
) -> None:
    """Draw sequences from a saved model: music, handwriting, text or numbers. Vectors need --out FILE."""
    check_saved(folder)
    from pgm_rnn.report.predicting import sample_saved

    sample_saved(
        folder,
        model_class=class_of(own_class),
        num_sequences=num_sequences,
        num_steps=num_steps,
        inputs_from=inputs_from,
        seed=seed,
        tempo=tempo,
        output=out,
        registries=registries_of(context),
    )


def show(
    context: typer.Context,
    data: DataSet,
    split: Annotated[str, choice(SPLITS, "Split: train, valid or test.")] = "test",
    first: Annotated[int, typer.Option(help="Index of the first sequence, counted from 0.")] = 0,
    num_sequences: Annotated[int, typer.Option(help="Number of sequences.")] = 5,
    num_steps: Annotated[
        int | None, typer.Option(help="Largest number of steps shown of each sequence.", show_default="all")
    ] = None,
    tempo: Tempo = None,
    out: OutOfAnyKind = None,
) -> None:
    """Show sequences of a data set in the formats of `pgm-rnn sample`, to compare them with draws."""
    check_name(context, "the data set", data, "datasets")
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


@reads_data
def forecast(
    context: typer.Context,
    *,
    folder: Folder,
    data: Data,
    num_steps: Annotated[
        int | None,
        typer.Option(help="Number of steps to forecast.", show_default="10, or the rows of --future-inputs"),
    ] = None,
    future_inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For a model with inputs: a table of the inputs of the steps ahead, a row per step, with the column "
            "of ids where the data have several sequences.",
            show_default="none",
        ),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT,...",
            help="Levels of the central intervals, exact where the model allows it.",
            show_default="90; 50,90 in a file; draws of symbols are printed",
        ),
    ] = None,
    num_samples: Annotated[int, typer.Option(help="Draws per sequence.")] = 1000,
    index: Annotated[int, typer.Option(help="Without --out: index of the sequence to print, counted from 0.")] = 0,
    num_particles: Annotated[
        int, typer.Option(help="Particles of the filter, for a model without an exact filter.")
    ] = 1000,
    reading: Reading,
    own_class: OwnClass = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Forecast sequences with a saved model: prints means and intervals of one; --out writes all of them."""
    check_saved(folder)
    check_data(context, data)
    from pgm_rnn.report.predicting import forecast_saved
    from pgm_rnn.report.saved_tables import levels_of

    forecast_saved(
        folder,
        reading.source(data),
        model_class=class_of(own_class),
        num_steps=num_steps,
        future_inputs=future_inputs,
        levels=None if level is None else levels_of(level),
        num_samples=num_samples,
        num_particles=num_particles,
        sequence=index,
        seed=seed,
        output=out,
    )


def publish(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new entry, such as hmm-jsb-16.")],
    failure_modes: Annotated[str, typer.Option(metavar="TEXT", help="Weaknesses of the model, for its model card.")],
    into: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the zoo's entries.", show_default="the package's own"),
    ] = None,
) -> None:
    """Publish a model that `pgm-rnn fit` saved in the zoo, from where `pgm_rnn.load_pretrained` loads it."""
    check_saved(folder)
    from pgm_rnn.zoo.entries import HOME
    from pgm_rnn.zoo.publish import publish as published

    typer.echo(f"published in {published(folder, name, failure_modes, into or HOME)}")


def leaderboard(
    data: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Name of a data set, such as jsb or nottingham.",
            autocompletion=complete("datasets"),
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            metavar="FILE.md",
            help="Also update the data set's section in this page.",
            show_default="none",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the zoo's entries.", show_default="the package's own"),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Evaluate this model only; may be repeated.", show_default="all"),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(help="Use scores that were computed before on this machine, and keep new ones."),
    ] = True,
) -> None:
    """Evaluate every trained model of a data set on its test set, and list published figures beside them."""
    from pgm_rnn.report.leaderboard import leaderboard as shown
    from pgm_rnn.zoo.entries import HOME

    shown(data, output, into or HOME, models=models or (), cached=cache)
