"""What the commands of `pgm-rnn fit` share: options, the job they make, and how they end."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pgm_rnn.report.fitted import Job, Outcome

Data = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="japanese-vowels, jsb, kanji, nottingham, pen-digits, synthetic-hmm, tiny-shakespeare, or a .csv, .npy "
        "or .npz.",
    ),
]
Seed = Annotated[int, typer.Option(help="Of the fit, and of synthetic data.")]
Output = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Save the model here.", show_default="fits/MODEL-DATA-SIZE"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier fit in the output folder; without it, that is an error.")
]
Json = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results to this file too.")]
Column = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="With a file: take this column only; may be given again.", show_default="all"),
]
TestFraction = Annotated[
    float | None,
    typer.Option(help="With a file: the last part, of the series or of a single one's steps.", show_default="0.2"),
]
ValidFraction = Annotated[
    float | None,
    typer.Option(help="With a file: the part before the test, which says when to stop.", show_default="0.1"),
]
FileEmission = Annotated[
    str | None,
    typer.Option(
        help="With a file: gaussian (real numbers), poisson (counts), bernoulli (bits), categorical (symbols).",
        show_default="gaussian",
    ),
]


def job_of(
    data: str,
    emission: str | None,
    column: list[str] | None,
    valid_fraction: float | None,
    test_fraction: float | None,
    seed: int,
    output: Path | None,
    json: Path | None,
    *,
    overwrite: bool,
) -> "Job":
    """What every fit is told."""
    from pgm_rnn.report.fitted import Job
    from pgm_rnn.report.material import FileOptions

    options = FileOptions(tuple(column or ()), emission, valid_fraction, test_fraction)
    return Job(data, seed, output, json, options, overwrite)


def end(outcome: "Outcome") -> None:
    """Exit status 130 after an interrupt, as a shell expects."""
    if outcome.stopped_by == "interrupt":
        raise typer.Exit(130)
