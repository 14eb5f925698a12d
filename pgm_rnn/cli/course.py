"""`pgm-rnn course`: assignments to hand out."""

from pathlib import Path
from typing import Annotated

import typer


def complete_assignments(context: typer.Context, incomplete: str) -> list[str]:
    """Names of assignments that begin so."""
    from pgm_rnn.teaching.catalogue import names

    return [name for name in names() if name.startswith(incomplete)]


def course(
    out: Annotated[Path, typer.Option("--out", "--output", metavar="FOLDER", help="Folder that is filled.")],
    assignment: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ASSIGNMENT]...",
            help="Names of assignments, or paths of sources of your own.",
            show_default="all",
            autocompletion=complete_assignments,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that has files, which is an error otherwise.")
    ] = False,
) -> None:
    """Write assignments for students, with versions for nbgrader, Otter and pytest, solutions and rubrics."""
    from pgm_rnn.teaching.catalogue import names, source_of

    sources = [source_of(name) for name in assignment or names()]
    if not overwrite and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"expected a new or an empty folder, got {out}; choose another one, or add --overwrite")
    from pgm_rnn.teaching.source import read_assignment
    from pgm_rnn.teaching.versions import write_course

    read = [read_assignment(source) for source in sources]
    written = write_course(out, read)
    for one in read:
        typer.echo(f"{one.name}: {one.points:g} points, {one.minutes} minutes")
    typer.echo(f"written to {out}: {len(written)} files; {out / 'README.md'} says which of them students may see")
