"""A claim: a statement of a paper, with a measurement that can fail.

A claim compares two independent routes to the same quantity on many instances and keeps the largest difference. Its
negative control is the same measurement on instances that break the hypothesis, and keeps the smallest difference.
The claim holds if the first is within a tolerance that follows from the arithmetic and the second is outside.

Claims about averages of draws and about rates have the same shape; `unit` is the unit of the difference. For "standard
errors" the tolerance is a number k of them; for a "slope" it is the deviation that random draws and remainder terms
explain.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch

Verdict = Literal["holds", "fails"]
Unit = Literal["difference", "standard errors", "slope", "limit"]

UNITS: dict[Unit, str] = {
    "difference": "",
    "standard errors": " standard errors",
    "slope": " in the slope",
    "limit": "",
}
"""The text after a residual, by unit."""

QUICK = 4
"""Largest number of instances of a claim that a quick check measures."""


class Result(NamedTuple):
    """The outcome of checking one claim.

    Attributes:
        id: the claim's name.
        source: paper and number.
        statement: the statement that is claimed.
        kind: kind of claim, as in `Claim`.
        instances: number of instances measured.
        residual: the largest difference between the two routes.
        tolerance: the largest difference that rounding explains.
        control_residual: the smallest difference among the control's instances.
        verdict: "holds" if residual <= tolerance < control_residual, else "fails".
        seconds: wall-clock time.
    """

    id: str
    source: str
    statement: str
    kind: str
    instances: int
    residual: float
    tolerance: float
    control_residual: float
    verdict: Verdict
    seconds: float


class Claim(ABC):
    """One statement of a paper, made executable.

    Attributes:
        id: short name.
        source: paper and number.
        statement: the statement that is claimed.
        quotation: the paper's words, or its formula written in one line; empty for a claim that is in no paper.
        meaning: what the statement means, in words.
        hypotheses: the conditions under which it holds.
        routes: the two computations, and why they are independent.
        control: the hypothesis that the negative control breaks.
        kind: "identity", "independence", "inequality", "statistical", "slope", "limit", or "erratum": the statement
            corrects the paper's, which is the control.
        unit: unit of residual and tolerance: a "difference" of two numbers, "standard errors", a "slope", or the
            remainder of a "limit".
        proof: the idea of the proof, in a paragraph with formulas.
        erratum: whether what the paper prints is "wrong" or "imprecise", for a claim of kind "erratum"; else empty.
        example: for an erratum the smallest example in numbers, which can be redone by hand.
    """

    id: str
    source: str
    statement: str
    quotation: str = ""
    meaning: str = ""
    hypotheses: str
    routes: str
    control: str
    kind: str = "identity"
    unit: Unit = "difference"
    proof: str = ""
    erratum: Literal["", "wrong", "imprecise"] = ""
    example: str = ""

    @abstractmethod
    def cases(self) -> Sequence[Any]:
        """Descriptions of the instances; each instance is measured with its own seed."""

    @property
    @abstractmethod
    def tolerance(self) -> float:
        """The largest difference that rounding in float64 explains, or chance, for a claim about draws."""

    @abstractmethod
    def residual(self, case: Any, seed: int) -> float:
        """Difference between the two routes on one instance."""

    @abstractmethod
    def control_residual(self, case: Any, seed: int) -> float:
        """Difference between the two routes on an instance that breaks the hypothesis."""

    def notes(self, seed: int) -> Sequence[str]:
        """Further measurements for the reader, one sentence each; none by default."""
        return ()


def check(claim: Claim, seed: int = 0, advance: Callable[[], object] = lambda: None, *, quick: bool = False) -> Result:
    """Measure a claim and its control on all its instances.

    Args:
        claim: the claim to check.
        seed: random seed for the instances.
        advance: function called after each instance, for a progress bar.
        quick: measure at most `QUICK` instances, spread over all of them.
    """
    start = time.perf_counter()
    residuals, controls = [], []
    for number, case in chosen_cases(claim, quick):
        instance_seed = 10_000 * seed + number
        residuals.append(claim.residual(case, instance_seed))
        controls.append(claim.control_residual(case, instance_seed))
        advance()
    seconds = time.perf_counter() - start
    return conclude(claim, len(residuals), largest(residuals), claim.tolerance, smallest(controls), seconds)


def chosen_cases(claim: Claim, quick: bool = False) -> list[tuple[int, Any]]:
    """Numbers and descriptions of the instances to measure; an instance keeps its number, and so its seed."""
    cases = list(enumerate(claim.cases()))
    return cases[:: -(-len(cases) // QUICK)] if quick else cases


def conclude(
    claim: Claim, instances: int, residual: float, tolerance: float, control_residual: float, seconds: float
) -> Result:
    """The result of a measurement; NaN makes the claim fail."""
    verdict: Verdict = "holds" if residual <= tolerance < control_residual else "fails"
    return Result(
        claim.id,
        claim.source,
        claim.statement,
        claim.kind,
        instances,
        residual,
        tolerance,
        control_residual,
        verdict,
        seconds,
    )


def largest(values: Iterable[float]) -> float:
    """The maximum; NaN if any value is NaN."""
    values = list(values)
    return math.nan if any(math.isnan(v) for v in values) else max(values)


def smallest(values: Iterable[float]) -> float:
    """The minimum; NaN if any value is NaN."""
    values = list(values)
    return math.nan if any(math.isnan(v) for v in values) else min(values)


def rounding(num_steps: int, width: int, dtype: torch.dtype = torch.float64) -> float:
    """A bound in nats on the rounding error of a sum of T log probabilities of a recursion: 64 eps T width.

    A step takes dot products of `width` terms, whose error is at most width eps for terms of order one; the errors of T
    steps add up. The factor 64 = 2^6 allows a recursion to double an error in six successive steps before it contracts
    again.
    """
    return 64 * torch.finfo(dtype).eps * num_steps * width
