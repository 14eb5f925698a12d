"""`pgm-rnn compare`: saved fits side by side on the same data."""

from pathlib import Path
from typing import Annotated

import typer

from pgm_rnn.checks import check_choice, check_counts
from pgm_rnn.cli.data_reading import Reading, reads_data
from pgm_rnn.cli.early import check_data, check_saved, complete_saved
from pgm_rnn.cli.options import Data, choice
from pgm_rnn.cli.own_class import class_of

BOUNDS = ("fivo", "elbo", "iwae", "importance")


@reads_data
def compare(
    context: typer.Context,
    *,
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER|NAME...",
            help="Two or more folders of saved models, or names of models in the zoo.",
            autocompletion=complete_saved,
        ),
    ],
    data: Data,
    folds: Annotated[
        int | None,
        typer.Option(help="Cross-validate: fit each model this many times, each time without a part of the sequences."),
    ] = None,
    origins: Annotated[
        int | None,
        typer.Option(help="With a single series: fit each model to the steps before each of this many origins."),
    ] = None,
    first_origin: Annotated[
        int | None,
        typer.Option(help="With --origins: number of steps before the first one.", show_default="half of the series"),
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(
            help="With --origins: score this many steps after each origin jointly.",
            show_default="all up to the next one, one step ahead",
        ),
    ] = None,
    bound: Annotated[
        str, choice(BOUNDS, "How models without an exact likelihood are scored. A single series needs fivo.")
    ] = "fivo",
    num_particles: Annotated[int, typer.Option(help="Particles or draws per sequence, for that bound.")] = 128,
    reading: Reading,
    own_class: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="FILE.py:NAME",
            help="Class of a model, if it is your own; repeat for more. The file is run.",
            show_default="none",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed for folds, refits and particles.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            metavar="FILE",
            help="Also write all numbers to this file: .csv or .parquet.",
            show_default="none",
        ),
    ] = None,
) -> None:
    """Compare saved models on the same data: scores, paired differences, AIC and BIC, and held-out scores."""
    _check_models(models)
    check_data(context, data)
    check_choice("--bound", bound, BOUNDS)
    options = {"--folds": folds, "--origins": origins, "--first-origin": first_origin, "--horizon": horizon}
    check_counts(**{name: value for name, value in options.items() if value is not None})
    if folds is not None and origins is not None:
        raise ValueError("expected --folds (several sequences) or --origins (one series), got both; leave one out")
    from pgm_rnn.report.comparison.comparing import Wanted
    from pgm_rnn.report.comparison.saved import compare_saved
    from pgm_rnn.report.comparison.scores import Bound

    found = compare_saved(
        models,
        reading.source(data),
        model_classes=[one for given in own_class or () if (one := class_of(given)) is not None],
        wanted=Wanted(folds, origins, first_origin, horizon),
        bound=Bound(bound, num_particles, seed),
        output=out,
    )
    if found.interrupted:
        raise typer.Exit(130)


def _check_models(models: list[Path]) -> None:
    """Check that there are two models or more, each once, and that all are there.

    Raises:
        ValueError: there are not.
    """
    for model in models:
        check_saved(model)
    if len(models) < 2:
        raise ValueError(
            f"expected at least two models to compare, got {models[0]} alone; name another one, or use pgm-rnn evaluate"
        )
    for place, model in enumerate(models):
        if model in models[:place]:
            raise ValueError(f"expected each model once, got {model} twice; leave one out")
