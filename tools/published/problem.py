"""One comparison with a published number, or with the number of another package."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple

SAME, FIT, ESTIMATE, ROUGH = "same parameters", "own fit", "own estimate", "another network"
KINDS = {
    SAME: "the same law with the same parameters on the same data, so the two values are equal up to rounding, or "
    "up to four standard errors where particle filters estimate them",
    FIT: "both sides maximised the same likelihood over the same data, so ours is at least as large up to rounding",
    ESTIMATE: "a parameter at such a maximum, which agrees as far as its digits were printed or the data determine it; "
    "stochastic volatility was fitted to a bound, the ELBO, which draws the noise of the state to smaller values",
    ROUGH: "the same split of the same data in nats per step, where less is better, but another size, training or "
    "cell, so the two are comparable only roughly",
}
"""What each kind of number means."""


class Number(NamedTuple):
    """A value and its standard error, zero if it is exact."""

    value: float
    error: float = 0.0


@dataclass(frozen=True)
class Published:
    """A printed number.

    Attributes:
        value: the number.
        place: where it was published.
    """

    value: float
    place: str


@dataclass(frozen=True)
class Peer:
    """A number that another package computes.

    Attributes:
        package: its name in the package index.
        call: the call that computes it.
        run: computes it; imports the package.
    """

    package: str
    call: str
    run: Callable[[], Number]

    @property
    def place(self) -> str:
        """The installed version with the call."""
        return f"{self.package} {version(self.package)}, `{self.call}`"


@dataclass(frozen=True)
class Problem:
    """One comparison.

    Attributes:
        name: its name in `docs/published.json`.
        model: name of a registered model.
        data: the data, in words.
        quantity: what is compared, in words.
        kind: one of `KINDS`.
        other: the published number, or the package that computes it.
        ours: computes our number.
        within: the largest difference that rounding, or the printed digits, explain.
        test: the test of the same agreement on other parameters or data, "tests/FILE.py::NAME".
    """

    name: str
    model: str
    data: str
    quantity: str
    kind: str
    other: Published | Peer
    ours: Callable[[], Number]
    within: float
    test: str


def agree(kind: str, ours: Number, other: Number, within: float) -> bool:
    """Whether two numbers stand to each other as their kind says."""
    margin = within + 4 * math.hypot(ours.error, other.error)
    if kind == FIT:
        return ours.value >= other.value - margin
    return kind == ROUGH or abs(ours.value - other.value) <= margin
