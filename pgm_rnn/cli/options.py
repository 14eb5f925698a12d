"""Shared parts of the commands of `pgm-rnn fit`: options, the job they describe, and the exit status."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgm_rnn.cli.early import complete, complete_among, complete_data

if TYPE_CHECKING:
    from pgm_rnn.models.info import ModelInfo
    from pgm_rnn.registries import Registries
    from pgm_rnn.report.fitted import Job, Outcome

Data = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="Name of a data set, or path of a .csv, .tsv, .parquet, .txt, .npy or .npz file.",
        autocompletion=complete_data,
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed for the fit and for synthetic data.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "--out",
        metavar="FOLDER",
        help="Folder in which the model is saved.",
        show_default="fits/MODEL-DATA-SIZE",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier fit in the output folder, which is an error otherwise.")
]
Json = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the results to this file, as JSON.")]
Column = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="With a file: a column to use; repeat for more.", show_default="all"),
]
SequenceColumn = Annotated[
    str | None,
    typer.Option(
        "--sequence",
        metavar="COLUMN",
        help="With a table of several sequences: the column of their ids.",
        show_default="that of the fit, or one sequence",
    ),
]
TimeColumn = Annotated[
    str | None,
    typer.Option(
        "--time",
        metavar="COLUMN",
        help="With a table: the column of times, by which the rows of each sequence are sorted.",
        show_default="that of the fit, or a column of dates",
    ),
]
ColumnKind = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="KIND|COLUMN=KIND",
        help="With a file: the kind of its columns, or of one: real, count, binary or symbol; repeat for more. Of a "
        "text: character or word.",
        show_default="that of the fit, or what the cells show",
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A column of inputs in a table, or an input of a data set, which drives the model and is not observed; "
        "repeat for more.",
        show_default="those of the fit, or none",
    ),
]
TestFraction = Annotated[
    float | None,
    typer.Option(
        help="With a file: fraction of the series, or of a single series' steps, at the end that is the test set.",
        show_default="0.2",
    ),
]


def valid_fraction_of(default: float) -> Any:
    """The option for the validation set of a command with this default."""
    text = "With a file: fraction before the test set that is used for early stopping."
    return Annotated[float | None, typer.Option(help=text, show_default=f"{default:g}")]


ValidFraction = Annotated[
    float | None,
    typer.Option(help="With a file: fraction before the test set that is used for early stopping.", show_default="0.1"),
]
FileEmission = Annotated[
    str | None, typer.Option(help="With a file: the type of its values.", show_default="by the kinds of its columns")
]


KINDS = {"sequences": "sequences have labels", "steps": "steps have known states"}
"""Description of each kind of labels, by `DatasetInfo.labels`."""


WIDEST = 32
"""Largest number of characters of choices that stand beside an option; more stand in its help text."""


def choice(names: Sequence[str], help: str, show_default: bool | str = True) -> Any:
    """An option whose value is one of a few names, which the help lists and a shell completes.

    The value is checked where it is used: that error suggests the closest name.
    """
    metavar, text = "|".join(names), help
    if len(metavar) > WIDEST:
        metavar, text = "NAME", f"{help} One of {', '.join(names)}."
    return typer.Option(metavar=metavar, help=text, show_default=show_default, autocompletion=complete_among(names))


def registries_of(context: typer.Context) -> "Registries":
    """The registries that the command line was built for."""
    from pgm_rnn.registries import OWN

    return OWN if context.obj is None else context.obj


def data_option(names: Iterable[str]) -> Any:
    """`--data`, which lists names of data sets."""
    text = f"{', '.join(names)}, or the path of a table (.csv, .tsv, .parquet), a text (.txt) or arrays (.npy, .npz)."
    return Annotated[str, typer.Option(metavar="NAME|FILE", help=text, autocompletion=complete_data)]


def data_of(registries: "Registries", info: "ModelInfo") -> Any:
    """`--data` of a model, which lists the data sets that it can be fitted to."""
    return data_option(
        name for name, data in sorted(registries.datasets.items()) if issubclass(data.family, info.families)
    )


def labelled_data(registries: "Registries") -> Any:
    """`--data` of a label model, which lists the data sets whose sequences or steps have labels."""
    of = {
        labels: [name for name, data in sorted(registries.datasets.items()) if data.labels == labels]
        for labels in KINDS
    }
    text = "; ".join(f"{' or '.join(names)}, whose {KINDS[labels]}" for labels, names in of.items() if names) + "."
    return Annotated[str, typer.Option(metavar="NAME", help=text, autocompletion=complete("datasets"))]


def emission_of(registries: "Registries", info: "ModelInfo", default: str) -> Any:
    """`--emission` of a model: the type of the values in a file."""
    offered = {
        name: f"{name} ({family.numbers})"
        for name, family in registries.families.items()
        if family.of_numbers is not None and any(info.takes(example) for example in family.examples.values())
    }
    text = f"With a file: the type of its values: {', '.join(offered.values())}. NAME:3 is a mixture of 3 components."
    completed = complete_among(list(offered))
    return Annotated[
        str | None, typer.Option(metavar="FAMILY", help=text, show_default=default, autocompletion=completed)
    ]


def job_of(
    registries: "Registries",
    data: str,
    emission: str | None,
    column: list[str] | None,
    valid_fraction: float | None,
    test_fraction: float | None,
    seed: int,
    output: Path | None,
    json: Path | None,
    sequence: str | None = None,
    time: str | None = None,
    kind: list[str] | None = None,
    input: list[str] | None = None,
    *,
    overwrite: bool,
) -> "Job":
    """The `Job` that the options common to all fits describe."""
    from pgm_rnn.report.fitted import Job
    from pgm_rnn.report.material import FileOptions

    read = sequence, time, tuple(kind or ()), tuple(input or ())
    options = FileOptions(tuple(column or ()), emission, valid_fraction, test_fraction, *read)
    return Job(data, seed, output, json, options, overwrite, registries)


def numbers_of(text: str) -> list[int]:
    """The numbers of states in "4" or "1,2,3,4".

    Raises:
        typer.BadParameter: something else than whole numbers with commas between them.
        ValueError: a number below 1, or one that is there twice.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.removeprefix("-").isdecimal()]
    if wrong:
        message = f"expected whole numbers such as 4 or 1,2,3,4, got {text!r}"
        raise typer.BadParameter(message, param_hint="'--num-states'")
    numbers = [int(part) for part in parts]
    for place, number in enumerate(numbers):
        if number < 1:
            raise ValueError(f"expected num_states to be an integer of at least 1, got {number}")
        if number in numbers[:place]:
            raise ValueError(f"expected each number of --num-states once, got {number} twice in {text}")
    return numbers


def end(outcome: "Outcome") -> None:
    """Exit with status 130 if the fit was interrupted, as a shell expects.

    Raises:
        typer.Exit: the fit was interrupted.
    """
    if outcome.stopped_by == "interrupt":
        raise typer.Exit(130)
