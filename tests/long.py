"""Long cases: those that took more than `LIMIT` seconds of processor time when the suite was last measured.

They are run by night. `long_cases.txt` lists them, one a line. It is made by

    pytest -n logical --measure build/seconds.txt && python -m tests.long build/seconds.txt

A case that no longer exists stops the collection, so that the list says what is true. Short forms of lessons,
assignments, the README and the first pages that a reader runs are tested by day however long they take.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LIMIT = 3.0
"""Seconds of processor time, those of processes that a case starts included."""
LIST = Path(__file__).with_name("long_cases.txt")
BY_DAY = (
    *("tests/tutorials/test_lessons.py", "tests/teaching/test_assignments.py"),
    *("tests/test_readme.py", "tests/test_site.py", "tests/test_your_own_model.py", "tests/test_padding.py"),
)


def listed() -> frozenset[str]:
    """The long cases, by their names in pytest."""
    return frozenset(LIST.read_text(encoding="utf-8").split("\n")) - {""}


def long_among(items: Iterable[Any]) -> list[Any]:
    """Those of pytest's items that are listed."""
    known = listed()
    return [item for item in items if item.nodeid in known]


def gone(items: Iterable[Any]) -> list[str]:
    """What is listed and not among the items although the file that it names is."""
    names = {item.nodeid for item in items}
    files = {name.partition("::")[0] for name in names}
    return sorted(name for name in listed() - names if name.partition("::")[0] in files)


def seconds() -> float:
    """Processor time of this process and of those that it started and has waited for."""
    return sum(os.times()[:4])


def measured(lines: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """The list from lines "seconds case" and from what was known of cases that were not run again."""
    took: dict[str, float] = {}
    for line in lines:
        number, _, name = line.rstrip("\n").partition(" ")
        took[name] = max(float(number), took.get(name, 0.0))
    long = {name for name, number in took.items() if number > LIMIT and not name.startswith(BY_DAY)}
    return sorted(long | (set(known) - set(took)))


def main(path: str) -> None:
    """Write the list anew from measured seconds."""
    names = measured(Path(path).read_text(encoding="utf-8").splitlines(), listed())
    LIST.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    print(f"{len(names)} cases take more than {LIMIT:g} s of processor time each; they are run by night.")


if __name__ == "__main__":
    main(*sys.argv[1:])
