"""cuthbert's bootstrap filter under one jit, one sequence after the other: `jax.vmap` over sequences took longer."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from cuthbert.filtering import filter as run_filter
from cuthbert.smc import particle_filter
from cuthbertlib.resampling import systematic
from cuthbertlib.resampling.adaptive import ess_decorator
from jax.scipy.stats import norm

from benchmarks.smc_models import CHAINS, MARKOV, NETWORK, NUM_STATES, VOLATILITY, moves
from benchmarks.smc_peers import ESS_THRESHOLD, Filter, Run
from benchmarks.smc_problem import Problem


def cuthbert(problem: Problem) -> Filter:
    """Its filter in float32. Its first observation follows a step from z_0, whose law is that of z_1 here."""
    start, propagate, potential = _chain(problem.chain)
    resampling = ess_decorator(systematic.resampling, ESS_THRESHOLD)
    filtering = particle_filter.build_filter(start, propagate, potential, problem.num_particles, resampling)

    @jax.jit
    def estimate(x: Any, key: Any) -> Any:
        first, rest = jax.random.split(key)
        states = run_filter(filtering, x, filtering.init_prepare(key=first), key=rest)
        return states.log_normalizing_constant[-1]

    x = jnp.asarray(problem.x)

    def run(sequences: Sequence[int], seed: int) -> Run:
        rows, keys = x[jnp.asarray(list(sequences))], jax.random.split(jax.random.PRNGKey(seed), len(sequences))
        begin = time.perf_counter()
        estimates = [float(estimate(row, key)) for row, key in zip(rows, keys, strict=True)]
        return Run(sequences, time.perf_counter() - begin, estimates)

    run([0], 0)  # compiled
    return run


def _chain(name: str) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Draws of z_0 and of z_t given z_{t-1}, and log p(x_t | z_t)."""
    chain = CHAINS[name]
    if name == MARKOV:
        table = jnp.log(jnp.asarray(moves(chain).numpy()))
        return (
            lambda key: jax.random.randint(key, (), 0, NUM_STATES),
            lambda key, z, x: jax.random.categorical(key, table[z]),
            lambda before, z, x: norm.logpdf(x, chain.scale * z, chain.noise),
        )
    width = 0.0 if name == NETWORK else chain.variance**0.5

    def moved(key: Any, z: Any, x: Any) -> Any:
        mean = chain.coefficient * z
        return (jnp.tanh(mean) if name == NETWORK else mean) + chain.scale * jax.random.normal(key)

    def seen(before: Any, z: Any, x: Any) -> Any:
        return norm.logpdf(x, 0.0, jnp.exp(z / 2)) if name == VOLATILITY else norm.logpdf(x, z, chain.noise)

    return lambda key: width * jax.random.normal(key), moved, seen
