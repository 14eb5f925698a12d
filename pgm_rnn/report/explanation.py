"""`pgm-rnn explain CLAIM`: a claim's statement, why it is true, how it is measured, and a measurement."""

import textwrap
from collections.abc import Mapping

from rich.console import Console
from rich.progress import Progress

from pgm_rnn.checks import check_choice
from pgm_rnn.claims import CLAIMS, Claim, Result
from pgm_rnn.claims.claim import UNITS, check, chosen_cases

WIDTH = 80


def explain_claim(name: str, seed: int, *, quick: bool = False, claims: Mapping[str, Claim] = CLAIMS) -> Result:
    """Measure one claim and print its explanation.

    Raises:
        ValueError: an unknown claim.
    """
    check_choice("claim", name, claims)
    claim = claims[name]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(claim.id, total=len(chosen_cases(claim, quick)))
        result = check(claim, seed, advance=lambda: progress.advance(task), quick=quick)
        notes = list(claim.notes(seed))
    print(explanation(claim, result, notes, seed))
    return result


def explanation(claim: Claim, result: Result, notes: list[str], seed: int) -> str:
    """The explanation as text, at most 80 columns wide."""
    unit = UNITS[claim.unit]
    measured = (
        f"residual {result.residual:.2g}{unit}, tolerance {result.tolerance:.2g}, control "
        f"{result.control_residual:.2g}; {result.instances} instances, seed {seed}, {result.seconds:.1f} s: it "
        f"{result.verdict}"
    )
    erratum = " (erratum: the paper's statement is the control)" if claim.kind == "erratum" else ""
    entries = [
        ("statement", claim.statement),
        ("hypotheses", claim.hypotheses),
        ("proof", claim.proof),
        ("routes", claim.routes),
        ("control", claim.control),
        ("measured", measured),
        *(("also", note) for note in notes),
    ]
    lines = [f"{claim.id}{erratum}", claim.source, ""]
    for name, text in entries:
        if text:
            indented = textwrap.fill(
                text, WIDTH, initial_indent=f"{name:12}", subsequent_indent=" " * 12, break_on_hyphens=False
            )
            lines.append(indented)
    return "\n".join(lines)
