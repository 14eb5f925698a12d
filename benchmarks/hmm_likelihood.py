"""log p(x_{1:T}) of an HMM and its gradient: our kernels beside every peer that is installed."""

from collections.abc import Iterator

from benchmarks import hmm_torch
from benchmarks.hmm_problem import in_float64, random_problem, recursion
from benchmarks.peers import Row, compare, installed

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
        yield f"{name}: softmax, densities and recursion", compare(installed(WHOLE, problem), exact[0])
        yield f"{name}: recursion alone", compare(installed(GIVEN_DENSITIES, given), exact[1])
