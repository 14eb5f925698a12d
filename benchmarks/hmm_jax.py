"""The HMM in JAX, jitted: dynamax's filter, and a bare lax.scan of the scaled recursion; gradients by autodiff.

The scan runs over all sequences at once with time first, which is its fastest layout; vmap over sequences and unrolled
scans were no faster.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from dynamax.hidden_markov_model.inference import hmm_filter
from jax import Array, lax

from benchmarks.hmm_problem import LOG_SQRT_2PI, Problem, Recursion
from benchmarks.peers import Peer


def scan(problem: Problem) -> Peer:
    """The bare scan of the whole problem."""
    return jitted(_whole(scaled), problem._replace(x=problem.x.T), num_parameters=3)


def scan_given_densities(given: Recursion) -> Peer:
    """The bare scan alone, given densities with time first."""
    peer = jitted(scaled, given._replace(log_emission=given.log_emission.swapaxes(0, 1)), num_parameters=3)
    return peer._replace(arranged=lambda gradients: (*gradients[:2], gradients[2].swapaxes(0, 1)))


def dynamax(problem: Problem) -> Peer:
    """dynamax's filter for the whole problem, one sequence per call under vmap."""
    return jitted(_whole(filtered), problem, num_parameters=3)


def dynamax_given_densities(given: Recursion) -> Peer:
    """dynamax's filter alone."""
    return jitted(filtered, given, num_parameters=3)


def jitted(function: Callable[..., Array], arguments: tuple, num_parameters: int) -> Peer:
    """Value, and value and gradient in the first arguments, each one compiled function on arrays that are there."""
    arrays = [jax.device_put(argument) for argument in arguments]
    value = jax.jit(function)
    gradient = jax.jit(jax.value_and_grad(function, argnums=tuple(range(num_parameters))))
    return Peer(
        lambda: value(*arrays).block_until_ready(),
        lambda: jax.block_until_ready(gradient(*arrays))[1],
    )


def scaled(initial: Array, transition: Array, log_emission: Array) -> Array:
    """sum log p(x_{1:T}), from densities (T, B, K)."""
    shift = log_emission.max(-1, keepdims=True)
    emission = jnp.exp(log_emission - shift)

    def normalised(joint: Array) -> tuple[Array, Array]:
        total = joint.sum(-1, keepdims=True)
        return joint / total, total

    def step(belief: Array, density: Array) -> tuple[Array, Array]:
        return normalised((belief @ transition) * density)

    belief, first = normalised(initial * emission[0])
    _, totals = lax.scan(step, belief, emission[1:])
    return jnp.log(first).sum() + jnp.log(totals).sum() + shift.sum()


def filtered(initial: Array, transition: Array, log_emission: Array) -> Array:
    """The same by dynamax, from densities (B, T, K)."""
    return jax.vmap(lambda rows: hmm_filter(initial, transition, rows).marginal_loglik)(log_emission).sum()


def _whole(recursion: Callable[[Array, Array, Array], Array]) -> Callable[..., Array]:
    def value(start: Array, moves: Array, loc: Array, x: Array) -> Array:
        transition = jax.nn.softmax(moves)
        log_emission = -0.5 * (x[..., None] - loc) ** 2 - LOG_SQRT_2PI
        return recursion(jax.nn.softmax(start) @ transition, transition, log_emission)

    return value
