"""`pgm-rnn explain CLAIM`: what a paper says, what it means, why it is true, how it is measured, and a measurement."""

import textwrap
from collections.abc import Mapping

from rich.console import Console
from rich.progress import Progress

from pgm_rnn.checks import check_choice
from pgm_rnn.claims import CLAIMS, Claim, Result
from pgm_rnn.claims.claim import UNITS, check, chosen_cases
from pgm_rnn.claims.sources import by_paper, place_of

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


def list_claims(claims: Mapping[str, Claim] = CLAIMS) -> None:
    """Print the names, places and statements of all claims, paper by paper; nothing is measured."""
    for paper, group in by_paper(claims.values()):
        print(f"{paper}\n")
        for claim in group:
            wrong = f", {claim.erratum} as printed" if claim.erratum else ""
            print(_filled(f"{claim.id} ({place_of(claim.source)}{wrong})", "  "))
            print(_filled(claim.statement, " " * 6))
        print()


def explanation(claim: Claim, result: Result, notes: list[str], seed: int) -> str:
    """The explanation as text, at most 80 columns wide."""
    unit = UNITS[claim.unit]
    measured = (
        f"residual {result.residual:.2g}{unit}, tolerance {result.tolerance:.2g}, control "
        f"{result.control_residual:.2g}; {result.instances} instances, seed {seed}, {result.seconds:.1f} s: it "
        f"{result.verdict}"
    )
    entries = [
        ("statement", claim.statement),
        ("the paper", f'"{claim.quotation}"' if claim.quotation else ""),
        ("in words", claim.meaning),
        ("hypotheses", claim.hypotheses),
        ("why", claim.proof),
        ("example", claim.example),
        ("routes", claim.routes),
        ("control", claim.control),
        ("measured", measured),
        *(("also", note) for note in notes),
    ]
    lines = [_filled(f"{claim.id}, {claim.source}{_corrects(claim)}"), ""]
    lines += [_filled(text, f"{name:12}", " " * 12) for name, text in entries if text]
    return "\n".join(lines)


def _corrects(claim: Claim) -> str:
    """What an erratum says of the paper."""
    return f": corrects what is printed, which is {claim.erratum}" if claim.erratum else ""


def _filled(text: str, first: str = "", others: str | None = None) -> str:
    indent = first if others is None else others
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
