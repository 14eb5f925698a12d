"""Sources of claims: the paper and the place in it."""

from collections.abc import Iterable
from itertools import groupby
from typing import TypeVar

from pgm_rnn.claims.claim import Claim, Result

Sourced = TypeVar("Sourced", Claim, Result)


def paper_of(source: str) -> str:
    """The paper of a claim's source: "Choe, Shin & Spencer (2017), sec. 3.2" without the place."""
    return source.partition("), ")[0] + ")"


def place_of(source: str) -> str:
    """The place in the paper."""
    return source.partition("), ")[2]


def by_paper(claims: Iterable[Sourced]) -> list[tuple[str, list[Sourced]]]:
    """Claims or results under their papers, in the order in which papers first appear."""
    claims = list(claims)
    papers = list(dict.fromkeys(paper_of(claim.source) for claim in claims))
    ordered = sorted(claims, key=lambda claim: papers.index(paper_of(claim.source)))
    return [(paper, list(group)) for paper, group in groupby(ordered, key=lambda claim: paper_of(claim.source))]
