"""What was measured, in `docs/published.json`: our numbers, and those of other packages where they are installed."""

import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pgm_rnn.data import DataError
from pgm_rnn.files import write_whole
from tools.published.problem import Number, Peer, Problem

FILE = Path(__file__).parents[2] / "docs" / "published.json"
Record = dict[str, Any]


def read() -> dict[str, Record]:
    """The record of each comparison: `ours`, and of another package `theirs` and `place`."""
    found: dict[str, Record] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    return found


def measure(problems: Iterable[Problem]) -> list[str]:
    """Measure what can be measured here and keep the rest as it was.

    Returns:
        One line for each number that was left as it was, with the reason.
    """
    kept, left = read(), []
    for problem in problems:
        record = kept.setdefault(problem.name, {})
        try:
            record["ours"] = problem.ours()
        except DataError as error:
            left.append(f"{problem.name}, ours: {error}")
        if isinstance(problem.other, Peer):
            if not installed(problem.other.package):
                left.append(f"{problem.name}, theirs: {problem.other.package} is not installed")
                continue
            record["theirs"], record["place"] = problem.other.run(), problem.other.place
    rows = [f'  "{name}": {json.dumps(kept[name])}' for name in sorted(kept)]
    write_whole(FILE, ("{\n" + ",\n".join(rows) + "\n}\n").encode())
    return left


def installed(package: str) -> bool:
    """Whether a package is installed."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def ours(record: Record) -> Number:
    """Our number of a record."""
    return Number(*record["ours"])


def other(problem: Problem, record: Record) -> tuple[Number, str]:
    """The other number of a comparison, and where it comes from.

    Raises:
        ValueError: another package's number that has not been measured.
    """
    if isinstance(problem.other, Peer):
        if "theirs" not in record:
            raise ValueError(f"expected a number of {problem.other.package} for {problem.name}, got none; measure it")
        return Number(*record["theirs"]), str(record["place"])
    return Number(problem.other.value), problem.other.place
