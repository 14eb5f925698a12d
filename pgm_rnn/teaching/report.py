"""What `pgm-rnn grade` shows: the protections, a bar, and a table of the parts."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from pgm_rnn.teaching.grades import Row
from pgm_rnn.teaching.grading import grade
from pgm_rnn.teaching.sandbox import PROTECTIONS, Limits, protections
from pgm_rnn.teaching.source import Assignment
from pgm_rnn.teaching.submission import Found
from pgm_rnn.teaching.written import place_of


def report(assignment: Assignment, found: list[Found], out: Path, limits: Limits, *, again: bool = False) -> None:
    """Grade submissions and say how it went.

    Raises:
        ValueError: the table is that of another assignment, or has points that are none.
        OSError: the table cannot be written, or no process be started.
    """
    console = Console(soft_wrap=True, highlight=False)
    console.print(protected(protections(limits)))
    rows, new = list[Row](), 0
    with tqdm(found, desc="graded", unit=" submissions", leave=False, disable=None) as bar:
        for graded in grade(assignment, found, out, limits, again=again):
            rows.append(graded.row)
            new += graded.is_new
            bar.update()
    console.print(table_of(assignment, rows))
    kept = len(rows) - new
    console.print(f"{new} graded" + (f", {kept} kept as they were (--again grades them too)" if kept else ""))
    console.print(f"written to {out}: {submissions(len(rows))}")
    if assignment.questions:
        waiting = sum(not row["total"] for row in rows)
        wait = f"{submissions(waiting)} {'waits' if waiting == 1 else 'wait'} for points"
        console.print(f"written to {place_of(out)}: written answers; {wait}")


def submissions(number: int) -> str:
    """A number of submissions in words."""
    return f"{number} submission{'' if number == 1 else 's'}"


def protected(enforced: Sequence[str]) -> str:
    """What each submission is kept from, and what this system does not allow to enforce, in two sentences."""
    has = [text for name, text in PROTECTIONS.items() if name in enforced]
    lacks = [text for name, text in PROTECTIONS.items() if name not in enforced]
    said = f"Each submission has: {', '.join(has) or 'a limit of time alone'}."
    return said + (f"\nNot enforced here: {', '.join(lacks)}." if lacks else "")


def table_of(assignment: Assignment, rows: Sequence[Row]) -> Table:
    """Means and numbers of full marks by part."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("part", "points", "mean", "full marks", "zero"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, most in assignment.parts.items():
        points = [float(row[part]) for row in rows]
        full, zero = sum(value == most for value in points), sum(value == 0 for value in points)
        table.add_row(part, f"{most:g}", f"{sum(points) / len(points):.1f}", str(full), str(zero))
    coded = [float(row["coded"]) for row in rows]
    table.add_row("coded", f"{sum(assignment.parts.values()):g}", f"{sum(coded) / len(coded):.1f}", "", "")
    return table
