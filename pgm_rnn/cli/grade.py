"""`pgm-rnn grade`: grades of a folder of submissions."""

from pathlib import Path
from typing import Annotated

import typer

from pgm_rnn.cli.course import complete_assignments


def grade(
    assignment: Annotated[
        str,
        typer.Argument(
            metavar="ASSIGNMENT",
            help="Name of an assignment, or path of a source.",
            autocompletion=complete_assignments,
        ),
    ],
    submissions: Annotated[
        Path,
        typer.Argument(
            metavar="SUBMISSIONS",
            help="Folder with STUDENT.ipynb, STUDENT.py, or a folder STUDENT with one such file, for each student.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "--output", metavar="FILE", help="Table of grades; written answers go beside it.")
    ] = Path("grades.csv"),
    again: Annotated[
        bool, typer.Option("--again", help="Also grade submissions that have a row. Points of a person are kept.")
    ] = False,
    seconds: Annotated[float, typer.Option(help="Longest processor time of one cell or one call.")] = 20.0,
    memory: Annotated[float, typer.Option(help="Memory of one submission, in GiB.")] = 3.0,
) -> None:
    """Grade a folder of submissions, each in a process without rights. An interrupted run continues."""
    from pgm_rnn.teaching.catalogue import source_of
    from pgm_rnn.teaching.submission import find_submissions

    source = source_of(assignment)
    if seconds <= 0 or memory < 0.5:
        raise ValueError(f"expected --seconds above 0 and --memory of at least 0.5, got {seconds:g} and {memory:g}")
    if out.suffix != ".csv":
        raise ValueError(f"expected a file that ends in .csv, got {out}")
    from pgm_rnn.teaching.report import report
    from pgm_rnn.teaching.sandbox import Limits
    from pgm_rnn.teaching.source import read_assignment

    read = read_assignment(source)
    found = find_submissions(submissions, read.name)
    report(read, found, out, Limits(seconds=seconds, memory=int(memory * 2**30)), again=again)
