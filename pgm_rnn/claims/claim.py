"""What a claim is: a statement of a paper with a measurement that can fail.

A claim compares two independent routes to the same quantity on many instances and keeps the largest difference. Its
negative control is the same measurement on instances that break the hypothesis, and keeps the smallest difference.
The claim holds if the first is within a tolerance that follows from the arithmetic and the second is outside.

Claims about averages of draws and about rates have the same shape: `unit` says in what the difference is measured. In
"standard errors" the tolerance is a number k of them; of a "slope" it is what draws and remainders move it by.
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
"""What to write after a residual."""

QUICK = 4
"""Instances of a claim, at most, that a quick check measures."""


class Result(NamedTuple):
    """The outcome of checking one claim.

    Attributes:
        id: the claim's name.
        source: paper and number.
        statement: what is claimed.
        kind: of claim, as in `Claim`.
        instances: how many instances were measured.
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
        statement: what is claimed.
        hypotheses: under which conditions.
        routes: the two computations, and why they are independent.
        control: which hypothesis the negative control breaks.
        kind: "identity", "independence", "inequality", "statistical", "slope", "limit", or "erratum": the statement
            corrects the paper's, which is the control.
        unit: of residual and tolerance: a "difference" of two numbers, "standard errors", a "slope", or
            what is left of a "limit".
        proof: why it is true, in a sentence or two; may be empty.
    """

    id: str
    source: str
    statement: str
    hypotheses: str
    routes: str
    control: str
    kind: str = "identity"
    unit: Unit = "difference"
    proof: str = ""

    @abstractmethod
    def cases(self) -> Sequence[Any]:
        """The instances' descriptions; each is measured with a seed of its own."""

    @property
    @abstractmethod
    def tolerance(self) -> float:
        """The largest difference that rounding in float64 explains, or chance, for a claim about draws."""

    @abstractmethod
    def residual(self, case: Any, seed: int) -> float:
        """Difference between the two routes on one instance."""

    @abstractmethod
    def control_residual(self, case: Any, seed: int) -> float:
        """The same on an instance that breaks the hypothesis."""

    def notes(self, seed: int) -> Sequence[str]:
        """What else was measured, a sentence each, for a reader; nothing by default."""
        return ()


def check(claim: Claim, seed: int = 0, advance: Callable[[], object] = lambda: None, *, quick: bool = False) -> Result:
    """Measure a claim and its control on all its instances.

    Args:
        claim: what to check.
        seed: of the instances.
        advance: called after each instance, for a progress bar.
        quick: measure `QUICK` instances at most, spread over all of them.
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
    """The result of a measurement; NaN makes it fail."""
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
    """The maximum; NaN if any value is."""
    values = list(values)
    return math.nan if any(math.isnan(v) for v in values) else max(values)


def smallest(values: Iterable[float]) -> float:
    """The minimum; NaN if any value is."""
    values = list(values)
    return math.nan if any(math.isnan(v) for v in values) else min(values)


def rounding(num_steps: int, width: int, dtype: torch.dtype = torch.float64) -> float:
    """A bound in nats on the rounding error of a sum of T log probabilities of a recursion: 64 eps T width.

    A step takes dot products of `width` terms, each off by at most width eps relative to terms of order one; the
    steps' errors add up to T of them. The factor 64 = 2^6 allows a recursion to double an error in six steps running
    before it contracts again.
    """
    return 64 * torch.finfo(dtype).eps * num_steps * width
