"""`docs/claims.md` and `docs/errata.md`, written from the registry: `python -m tools.claims_pages`.

Nothing is measured here: the latest measurement is read from `docs/claims.json`, which `pgm-rnn verify --json` writes.
A test compares the pages with the files.
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pgm_rnn.claims import CLAIMS
from pgm_rnn.claims.claim import UNITS, Claim
from pgm_rnn.claims.sources import by_paper, place_of
from tools.claim_pictures import PICTURES
from tools.damages import DAMAGES, NOTICED_BY
from tools.formulas import typeset, typeset_heading

COMMAND = "python -m tools.claims_pages"
MEASURED = Path(__file__).parents[1] / "docs" / "claims.json"
"""Results of all claims on all their instances."""


def measurements() -> dict[str, dict[str, Any]]:
    """The latest measurement of each claim, by its id."""
    return {record["id"]: record for record in json.loads(MEASURED.read_text(encoding="utf-8"))}


def claims_page(claims: Iterable[Claim]) -> str:
    """Every claim with the paper's words, meaning, proof idea, routes, control and tolerance, as Markdown."""
    claims, measured = list(claims), measurements()
    lines = [
        "# The claims",
        "",
        f"Written by `{COMMAND}` from the registry of claims; do not edit. `pgm-rnn verify` measures all",
        "of them, `pgm-rnn explain CLAIM` measures one. A claim holds if the largest difference",
        "between its routes is within the tolerance and the smallest one of its control is not. Where a paper is",
        "wrong or imprecise the claim is the corrected statement and the control the printed one: [errata](errata.md).",
        "",
    ]
    for paper, group in by_paper(claims):
        lines += [f"## {paper}", ""]
        for claim in group:
            lines += _claim_section(claim, measured[claim.id])
    return "\n".join([*lines, *_damage_section()]).rstrip() + "\n"


def _damage_section() -> list[str]:
    """The damage matrix: one row per claim that detects a damage, one column per damage."""
    names = [damage.name for damage in DAMAGES]
    rows = dict.fromkeys(claim_id for ids in NOTICED_BY.values() for claim_id in ids)
    lines = [
        "## Which damage the claims detect",
        "",
        "Each column is a deliberate damage to the package; x marks a claim whose residual then exceeds its tolerance",
        "on one of a few instances. `python -m tools.damages` measures the matrix.",
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


def _claim_section(claim: Claim, measured: dict[str, Any]) -> list[str]:
    erratum = ", erratum" if claim.kind == "erratum" else ""
    title = f"### {claim.id} ({typeset_heading(place_of(claim.source))}{erratum})"
    said = ["", "**The paper.**", "", f"> {typeset(claim.quotation)}"] if claim.quotation else []
    why = ["", f"**In words.** {typeset(claim.meaning)}", "", f"**Why.** {typeset(claim.proof)}"]
    why += ["", f"**Example.** {typeset(claim.example)}"] if claim.example else []
    entries = [
        ("Hypotheses", claim.hypotheses),
        ("Routes", claim.routes),
        ("Control", claim.control),
        ("Kind", f"{claim.kind}, {len(claim.cases())} instances, tolerance {tolerance_of(claim)}"),
        ("Latest measurement", f"residual {measured['residual']:.2g}, control {measured['control_residual']:.2g}"),
    ]
    listed = [f"- {name}: {typeset(text)}" for name, text in entries]
    shown = ["", f"![{PICTURES[claim.id].says}](claims/{claim.id}.svg)"] if claim.id in PICTURES else []
    return [title, "", typeset(claim.statement), *said, *why, *shown, "", *listed, ""]


def tolerance_of(claim: Claim) -> str:
    """The tolerance with its unit."""
    return f"{claim.tolerance:.2g}{UNITS[claim.unit]}"


def errata_page(claims: Iterable[Claim]) -> str:
    """What is wrong and what is imprecise in the papers, with examples and corrections, as Markdown."""
    lines = [
        "# Errata of the sources",
        "",
        f"Written by `{COMMAND}` from the registry of claims; do not edit. Each entry is a claim whose",
        "statement is the correction and whose control, which must fail, is the printed one. Printed formulas stand in",
        "one line here. Remarks on the sources that are not claims are in [references](references.md).",
        "",
    ]
    claims = list(claims)
    for grade, title in GRADES.items():
        lines += [f"## {title}", ""]
        for paper, group in by_paper(claim for claim in claims if claim.erratum == grade):
            for claim in group:
                lines += _erratum_section(claim, paper)
    return "\n".join(lines).rstrip() + "\n"


GRADES = {"wrong": "Wrong", "imprecise": "Imprecise: right in some reading, or often"}
"""Titles of the two parts of the errata."""


def _erratum_section(claim: Claim, paper: str) -> list[str]:
    entries = [
        ("Correction", claim.statement),
        ("In words", claim.meaning),
        ("Example", claim.example),
        ("Why", claim.proof),
        ("The control, which must fail", re.sub("^as printed[,:] ", "", claim.control)),
    ]
    title = f"### {paper}, {typeset_heading(place_of(claim.source))} (`{claim.id}`)"
    listed = [f"- {name}: {typeset(text)}" for name, text in entries]
    return [title, "", f"> {typeset(claim.quotation)}", "", *listed, ""]


def pages() -> dict[str, str]:
    """Names and contents of the files."""
    return {"claims.md": claims_page(CLAIMS.values()), "errata.md": errata_page(CLAIMS.values())}


def main(folder: str = "docs") -> None:
    """Write the pages into a folder.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    for name, text in pages().items():
        (Path(folder) / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
