"""log p(x_{1:T}) of a linear-Gaussian chain and its gradient: our kernels beside every peer that is installed."""

from collections.abc import Iterator

from benchmarks import kalman_torch
from benchmarks.kalman_problem import in_float64, random_problem
from benchmarks.peers import Row, compare, installed

SIZES = ((4, 2, 100, 200), (2, 1, 1, 1000))
"""States, outputs, sequences, steps."""

ENGINES = {
    "pgm_rnn": ("kalman_torch", "ours", ()),
    "recursions alone": ("kalman_torch", "bare", ()),
    "jax.lax.scan": ("kalman_jax", "scan", ("jax", "dynamax")),
    "dynamax": ("kalman_jax", "dynamax", ("jax", "dynamax")),
    "statsmodels": ("kalman_statsmodels", "statsmodels", ("statsmodels",)),
    "pyro GaussianHMM": ("kalman_torch", "pyro", ()),
}
"""Module, function, packages it needs."""


def run() -> Iterator[tuple[str, list[Row]]]:
    """Tables (title, rows), one per size."""
    for size in SIZES:
        problem = random_problem(*size)
        exact = kalman_torch.ours(in_float64(problem))
        yield "{} states, {} outputs, {} x {}".format(*size), compare(installed(ENGINES, problem), exact)
