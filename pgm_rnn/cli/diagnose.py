"""`pgm-rnn diagnose`: what is wrong with a fitted model, in numbers and in words."""

from pathlib import Path
from typing import Annotated

import typer

from pgm_rnn.cli.data_reading import Reading, reads_data
from pgm_rnn.cli.early import check_data, check_saved
from pgm_rnn.cli.options import Data
from pgm_rnn.cli.own_class import OwnClass, class_of
from pgm_rnn.cli.saved import Folder, Seed


@reads_data
def diagnose(
    context: typer.Context,
    *,
    folder: Folder,
    data: Data,
    num_particles: Annotated[
        int, typer.Option(help="Particles of the filter and draws of the guide, for a model without exact laws.")
    ] = 500,
    num_simulations: Annotated[
        int, typer.Option(help="Data sets to simulate for posterior predictive checks; 0 leaves them out.")
    ] = 100,
    num_steps: Annotated[int, typer.Option(help="Longest horizon of the forecasts whose coverage is counted.")] = 5,
    num_origins: Annotated[int, typer.Option(help="Number of forecasts to count; 0 leaves the coverage out.")] = 200,
    num_restarts: Annotated[
        int, typer.Option(help="Random starts of EM to compare, for finitely many states; 0 leaves them out.")
    ] = 4,
    num_lags: Annotated[int, typer.Option(help="Largest lag of the tests of one-step errors, in steps.")] = 10,
    reading: Reading,
    own_class: OwnClass = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            metavar="FILE",
            help="Also write all tables (.csv or .parquet), or a picture of the residuals (.png or .svg).",
        ),
    ] = None,
    steps: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the residual, PIT value and normal score of each step to this file: .csv or .parquet.",
        ),
    ] = None,
) -> None:
    """Diagnose a saved model on data: residuals, coverage, particles, states; what is wrong, and what to do."""
    check_saved(folder)
    check_data(context, data)
    from pgm_rnn.report.saved_diagnosis import diagnose_saved

    diagnose_saved(
        folder,
        reading.source(data),
        model_class=class_of(own_class),
        counts={
            "num_particles": num_particles,
            "num_simulations": num_simulations,
            "num_steps": num_steps,
            "num_origins": num_origins,
            "num_restarts": num_restarts,
            "num_lags": num_lags,
        },
        seed=seed,
        output=out,
        steps=steps,
    )
