"""Where the assignments are: package data of an installed package, `tutorials/assignments/` in a checkout."""

from collections.abc import Iterator
from pathlib import Path

from pgm_rnn.checks import check_choice

INSTALLED = Path(__file__).parent / "assignments"
CHECKOUT = Path(__file__).resolve().parents[2] / "tutorials" / "assignments"
FILE = "assignment.py"
"""Name of an assignment's source."""
ORDER = ("forward-backward", "em-counts", "particle-filter", "elbo-equivalence", "kalman", "vrnn-music")
"""Assignments in the order of a course."""


def folder() -> Path:
    """The folder with a folder for each assignment."""
    return INSTALLED if INSTALLED.is_dir() else CHECKOUT


def names() -> list[str]:
    """Names of the assignments, in the order of a course."""
    there = [path.parent.name for path in folder().glob(f"*/{FILE}")]
    return sorted(there, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def source_of(name: str) -> Path:
    """The source of an assignment: of the package's own by its name, or a lecturer's own by its path.

    Raises:
        ValueError: there is no such assignment; the closest name is suggested.
    """
    if name.endswith(".py") and Path(name).is_file():
        return Path(name)
    check_choice("assignment", name, names())
    return folder() / name / FILE


def private_folders() -> Iterator[Path]:
    """Folders that no submission may read: those with solutions and tests."""
    for path in (INSTALLED, CHECKOUT):
        if path.is_dir():
            yield path.resolve()
