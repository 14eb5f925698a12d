"""`docs/claims.md` and `docs/errata.md`, written from the registry: `python -m pgm_rnn.claims.pages`.

Nothing is measured here, and the pages hold no number that a run would change; a test compares them with the files.
"""

import re
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from pgm_rnn.claims import CLAIMS
from pgm_rnn.claims.claim import UNITS, Claim, Result
from pgm_rnn.claims.damages import DAMAGES, NOTICED_BY

Sourced = TypeVar("Sourced", Claim, Result)

COMMAND = "python -m pgm_rnn.claims.pages"


def paper_of(source: str) -> str:
    """The paper of a claim's source: "Choe, Shin & Spencer (2017), sec. 3.2" without the place."""
    return source.partition("), ")[0] + ")"


def place_of(source: str) -> str:
    """Where in the paper."""
    return source.partition("), ")[2]


def by_paper(claims: Iterable[Sourced]) -> list[tuple[str, list[Sourced]]]:
    """Claims or results under their papers, in the order in which papers first appear."""
    claims = list(claims)
    papers = list(dict.fromkeys(paper_of(claim.source) for claim in claims))
    ordered = sorted(claims, key=lambda claim: papers.index(paper_of(claim.source)))
    return [(paper, list(group)) for paper, group in groupby(ordered, key=lambda claim: paper_of(claim.source))]


def claims_page(claims: Iterable[Claim]) -> str:
    """Every claim with its hypotheses, routes, proof idea, control and tolerance, as Markdown."""
    claims = list(claims)
    lines = [
        "# The claims",
        "",
        f"Written by `{COMMAND}` from the registry of claims; do not edit. `pgm-rnn verify` measures all",
        "of them, `pgm-rnn explain CLAIM` one, with its latest residual. A claim holds if the largest difference",
        "between its routes is within the tolerance and the smallest one of its control is not. Where a paper is",
        "wrong or imprecise the claim is the corrected statement and the control the printed one: [errata](errata.md).",
        "",
    ]
    for paper, group in by_paper(claims):
        lines += [f"## {paper}", ""]
        for claim in group:
            lines += _claim_section(claim)
    return "\n".join([*lines, *_damage_section()]).rstrip() + "\n"


def _damage_section() -> list[str]:
    """The damage matrix: a row a claim that notices something, a column a damage."""
    names = [damage.name for damage in DAMAGES]
    rows = dict.fromkeys(claim_id for ids in NOTICED_BY.values() for claim_id in ids)
    lines = [
        "## What damage the claims notice",
        "",
        "Each column is a damage done to the package on purpose, x a claim whose residual then leaves its tolerance",
        "on one of a few instances. `python -m pgm_rnn.claims.damages` measures the matrix.",
        "",
        *(f"{number}. {name}" for number, name in enumerate(names, start=1)),
        "",
        f"| claim | {' | '.join(str(number + 1) for number in range(len(names)))} |",
        f"|---|{'---|' * len(names)}",
    ]
    for claim_id in rows:
        marks = ["x" if claim_id in NOTICED_BY[name] else " " for name in names]
        lines.append(f"| {claim_id} | {' | '.join(marks)} |")
    return lines


def _claim_section(claim: Claim) -> list[str]:
    erratum = ", erratum" if claim.kind == "erratum" else ""
    entries = [
        ("Hypotheses", claim.hypotheses),
        ("Routes", claim.routes),
        ("Why", claim.proof),
        ("Control", claim.control),
        ("Kind", f"{claim.kind}, {len(claim.cases())} instances, tolerance {tolerance_of(claim)}"),
    ]
    listed = [f"- {name}: {escaped(text)}" for name, text in entries if text]
    title = f"### {claim.id} ({escaped(place_of(claim.source))}{erratum})"
    return [title, "", escaped(claim.statement), "", *listed, ""]


def tolerance_of(claim: Claim) -> str:
    """The tolerance with its unit."""
    return f"{claim.tolerance:.2g}{UNITS[claim.unit]}"


def errata_page(claims: Iterable[Claim]) -> str:
    """What is wrong in the papers, beside what holds, as Markdown."""
    lines = [
        "# Errata of the sources",
        "",
        f"Written by `{COMMAND}` from the registry of claims; do not edit. Each entry is a claim whose",
        "statement is the corrected one and whose control, which must fail, is the printed one. Remarks on the sources",
        "that are no claims are in [references](references.md).",
        "",
    ]
    for paper, group in by_paper(claim for claim in claims if claim.kind == "erratum"):
        lines += [f"## {paper}", ""]
        for claim in group:
            lines += [f"### {escaped(place_of(claim.source))} (`{claim.id}`)", ""]
            printed = re.sub("^as printed[,:] ", "", claim.control)
            lines += [f"- Printed, and fails: {escaped(printed)}"]
            lines += [f"- Holds: {escaped(claim.statement)}"]
            lines += [f"- Why: {escaped(claim.proof)}"] if claim.proof else []
            lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text whose formulas Markdown leaves as they are."""
    return re.sub(r"([\\*_<|])", r"\\\1", text)


def pages() -> dict[str, str]:
    """The files' names and contents."""
    return {"claims.md": claims_page(CLAIMS.values()), "errata.md": errata_page(CLAIMS.values())}


def main(folder: str = "docs") -> None:
    """Write the pages into a folder.

    Raises:
        OSError: it is not there or cannot be written to.
    """
    for name, text in pages().items():
        (Path(folder) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
