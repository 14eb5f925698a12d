"""`pgm-rnn infer`: the latent states of data under a saved model."""

from pathlib import Path
from typing import Annotated

import typer

from pgm_rnn.cli.data_reading import Reading, reads_data
from pgm_rnn.cli.early import check_data, check_saved
from pgm_rnn.cli.options import Data, choice
from pgm_rnn.cli.own_class import OwnClass, class_of
from pgm_rnn.cli.saved import Folder, Seed

StatesOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "--output",
        metavar="FILE",
        help="File for all states: .csv or .parquet (a row per row of the data), .nc (arrays) or .png.",
        show_default="the terminal",
    ),
]


@reads_data
def infer(
    context: typer.Context,
    *,
    folder: Folder,
    data: Data,
    engine: Annotated[
        str,
        choice(
            ("auto", "forward", "kalman", "mixture", "smc", "svi"),
            "Engine: forward (finitely many states), kalman (Gaussian states), mixture (switching states), "
            "smc (particles), svi (the guide), or auto, which takes the first of them that suits the model.",
        ),
    ] = "auto",
    num_particles: Annotated[
        int, typer.Option(help="Particles of mixture and smc, or draws of svi, per sequence.")
    ] = 1000,
    num_paths: Annotated[
        int, typer.Option(help="Paths of mixture and smc per sequence for smoothed states; 0 leaves these out.")
    ] = 100,
    reading: Reading,
    own_class: OwnClass = None,
    seed: Seed = 0,
    out: StatesOut = None,
) -> None:
    """Infer the latent states of data: filtered, smoothed and most likely ones, with their uncertainty."""
    check_saved(folder)
    check_data(context, data)
    from pgm_rnn.report.saved_tables import infer_saved

    infer_saved(
        folder,
        reading.source(data),
        model_class=class_of(own_class),
        engine=engine,
        num_particles=num_particles,
        num_paths=num_paths,
        seed=seed,
        output=out,
    )
