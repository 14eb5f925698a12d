"""log p(x_{1:T}) of an autoregressive HMM and its gradient: a reader's four conditionals, and dynamax's class."""

from collections.abc import Iterator

from benchmarks import arhmm_torch
from benchmarks.arhmm_problem import in_float64, random_problem
from benchmarks.peers import Row, compare, installed

SIZES = ((3, 64, 1000), (16, 64, 1000), (5, 1, 100_000))
"""States, sequences, steps."""

ENGINES = {
    "pgm_rnn": ("arhmm_torch", "ours", ()),
    "dynamax": ("arhmm_jax", "dynamax", ("jax", "dynamax")),
}
"""Module, function, packages it needs."""


def run() -> Iterator[tuple[str, list[Row]]]:
    """A table (title, rows) for each size."""
    for size in SIZES:
        problem = random_problem(*size)
        exact = arhmm_torch.ours(in_float64(problem))
        yield "{} states, {} x {}".format(*size), compare(installed(ENGINES, problem), exact)
