"""A peer: an engine that solves the same problem, and may be missing from this environment."""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.timing import seconds_of, time_peers


class Peer(NamedTuple):
    """An engine on one problem. Each call returns when the results are computed.

    Attributes:
        value: the sum of the log likelihoods.
        gradient: its gradients, one per argument; None if the engine has none.
        arranged: function that puts the gradients into the first engine's layout, for the check; it is never timed.
    """

    value: Callable[[], ArrayLike]
    gradient: Callable[[], Sequence[ArrayLike]] | None = None
    arranged: Callable[[Sequence[ArrayLike]], Sequence[ArrayLike]] = tuple


class Row(NamedTuple):
    """One line of a table: times in milliseconds with their ratios to those of the first line's engine.

    Attributes:
        name: name of the engine.
        value: time of the value.
        gradient: time of value and gradient.
        first_call: milliseconds of the first calls of both, compilation included.
        error: the largest of `relative_errors`.
    """

    name: str
    value: tuple[float, float] | None = None
    gradient: tuple[float, float] | None = None
    first_call: float | None = None
    error: float | None = None


Engines = dict[str, tuple[str, str, tuple[str, ...]]]
"""For each name: a module of this package, its function that makes a peer from a problem, and the packages it needs."""


def installed(engines: Engines, problem: Any) -> dict[str, Any]:
    """Every engine on one problem, as its module makes it; None for those whose packages are not installed."""
    return {
        name: None if missing(packages) else getattr(import_module(f"benchmarks.{module}"), function)(problem)
        for name, (module, function, packages) in engines.items()
    }


def missing(packages: Sequence[str]) -> bool:
    """Whether one of the packages is not installed."""
    return any(find_spec(package) is None for package in packages)


def compare(peers: dict[str, Peer | None], exact: Peer, tolerance: float = 0.02) -> list[Row]:
    """Check every peer against an engine in float64, then time them in turn; None is a peer not installed.

    Raises:
        ValueError: a value or gradient further off than the tolerance.
    """
    present = {name: peer for name, peer in peers.items() if peer is not None}
    first_calls = {name: 1e3 * seconds_of(lambda peer=peer: _results(peer)) for name, peer in present.items()}
    expected = _results(exact)
    errors = {name: max(relative_errors(_results(peer), expected)) for name, peer in present.items()}
    for name, error in errors.items():
        if not error < tolerance:
            raise ValueError(f"expected {name} to agree within {tolerance}, got a relative error of {error:.2g}")
    values = time_peers({name: peer.value for name, peer in present.items()})
    gradients = time_peers({name: peer.gradient for name, peer in present.items() if peer.gradient})
    return [Row(name, *(column.get(name) for column in (values, gradients, first_calls, errors))) for name in peers]


def relative_errors(actual: Sequence[ArrayLike], expected: Sequence[ArrayLike]) -> list[float]:
    """Largest difference in each array, relative to the largest entry of the expected array."""
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(actual, expected, strict=False)]
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]


def _results(peer: Peer) -> list[ArrayLike]:
    return [peer.value(), *(peer.arranged(peer.gradient()) if peer.gradient else ())]
