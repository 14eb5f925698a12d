"""log p(x_{1:T}) of an HMM and its gradient: our kernels beside every peer that is installed."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from benchmarks import hmm_torch
from benchmarks.hmm_problem import Problem, Recursion, in_float64, random_problem, recursion
from benchmarks.peers import Peer, Row, compare, missing

SIZES = ((16, 64, 1000), (5, 1, 100_000), (512, 4, 200))
"""States, sequences, steps."""

WHOLE = {
    "pgm_rnn": ("hmm_torch", "ours", ()),
    "numba's own loop": ("hmm_bare", "bare", ()),
    "jax.lax.scan": ("hmm_jax", "scan", ("jax", "dynamax")),
    "dynamax": ("hmm_jax", "dynamax", ("jax", "dynamax")),
    "hmmlearn (float64)": ("hmm_hmmlearn", "hmmlearn", ("hmmlearn",)),
    "pyro DiscreteHMM": ("hmm_torch", "pyro", ()),
}
"""Engines of the whole problem: module, function, packages it needs."""

GIVEN_DENSITIES = {
    "pgm_rnn": ("hmm_torch", "ours_given_densities", ()),
    "numba's own loop": ("hmm_bare", "bare_given_densities", ()),
    "jax.lax.scan": ("hmm_jax", "scan_given_densities", ("jax", "dynamax")),
    "dynamax": ("hmm_jax", "dynamax_given_densities", ("jax", "dynamax")),
}
"""Engines of the recursion alone."""


def run() -> Iterator[tuple[str, list[Row]]]:
    """Tables (title, rows): for each size the whole problem and the recursion alone."""
    for size in SIZES:
        problem, name = random_problem(*size), "{} states, {} x {}".format(*size)
        given = recursion(problem)
        exact = hmm_torch.ours(in_float64(problem)), hmm_torch.ours_given_densities(in_float64(given))
        yield f"{name}: softmax, densities and recursion", compare(_peers(WHOLE, problem), exact[0])
        yield f"{name}: recursion alone", compare(_peers(GIVEN_DENSITIES, given), exact[1])


def _peers(engines: dict[str, Any], problem: Problem | Recursion) -> dict[str, Peer | None]:
    return {name: _peer(*engine, problem) for name, engine in engines.items()}


def _peer(module: str, function: str, packages: tuple[str, ...], problem: Problem | Recursion) -> Peer | None:
    if missing(packages):
        return None
    engine: Callable[[Any], Peer] = getattr(import_module(f"benchmarks.{module}"), function)
    return engine(problem)
