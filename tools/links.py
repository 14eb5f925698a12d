"""What `make linkcheck` found: `python -m tools.links FILE` reads Sphinx's output.json and names each broken link once.

The exit status is 1 if a link is broken. Where no link could be reached at all, one sentence says so instead of a list,
because the network is missing then, not the pages.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CHECKED = ("working", "redirected", "broken", "timeout")
FAILED = ("broken", "timeout")


class Link(NamedTuple):
    """A link to another site: where it stands, where it leads, and what came of it."""

    place: str
    uri: str
    status: str
    said: str


def links_of(lines: Iterable[str]) -> list[Link]:
    """The links that were checked, each address once, from the lines of output.json."""
    found: dict[str, Link] = {}
    for line in lines:
        entry = json.loads(line)
        if entry["status"] in CHECKED and entry["uri"].startswith("http"):
            place = f"{entry['filename']}:{entry['lineno']}"
            found.setdefault(entry["uri"], Link(place, entry["uri"], entry["status"], entry["info"]))
    return list(found.values())


def report(links: list[Link]) -> tuple[str, int]:
    """A text for the terminal, and the exit status."""
    broken = [link for link in links if link.status in FAILED]
    if not broken:
        return f"All {len(links)} links to other sites lead somewhere.", 0
    if len(broken) == len(links) > 1:
        return f"None of the {len(links)} links to other sites could be reached; check the network and try again.", 1
    lines = [f"{link.place}: {link.uri}\n    {link.said}" for link in broken]
    return "\n".join([*lines, f"{len(broken)} of {len(links)} links to other sites are broken."]), 1


if __name__ == "__main__":
    text, status = report(links_of(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))
    print(text)
    sys.exit(status)
