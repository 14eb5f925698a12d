"""Estimates of log p(x_{1:T}) by bootstrap filters: ours beside every peer that is installed.

All engines resample systematically when the effective sample size falls below half of the particles.
"""

from collections.abc import Iterator

from benchmarks.peers import installed
from benchmarks.smc_models import CHAINS, VOLATILITY
from benchmarks.smc_peers import FilterRow, compare
from benchmarks.smc_problem import exact, random_problem

SIZES = ((100, 100, 20), (1000, 1000, 8), (100_000, 200, 4))
"""Particles, steps, rounds."""

ENGINES = {
    "pgm_rnn": ("smc_torch", "ours", ()),
    "pgm_rnn (float64)": ("smc_torch", "ours_in_float64", ()),
    "particles (float64)": ("smc_particles", "particles", ()),
    "cuthbert": ("smc_jax", "cuthbert", ("jax", "cuthbert")),
    "pyro SMCFilter": ("smc_torch", "pyro", ()),
    "pyro SMCFilter (float64)": ("smc_torch", "pyro_in_float64", ()),
}
"""Module, function, packages it needs."""
OWN = {"pgm_rnn, a reader's class": ("smc_torch", "own", ())}
"""Stochastic volatility as a class of a few lines, for the same chain."""


def run() -> Iterator[tuple[str, list[FilterRow]]]:
    """Tables (title, rows), one per chain and size."""
    for chain in CHAINS:
        for num_particles, num_steps, rounds in SIZES:
            problem = random_problem(chain, num_particles, num_steps)
            engines = ENGINES | (OWN if chain == VOLATILITY else {})
            rows = compare(installed(engines, problem), exact(problem), rounds)
            yield f"{chain}, {num_particles} particles, {num_steps} steps", rows
