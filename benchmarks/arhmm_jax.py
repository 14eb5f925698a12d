"""dynamax's LinearAutoregressiveHMM for the same problem, jitted, one sequence per call under vmap."""

import jax
import jax.numpy as jnp
from dynamax.hidden_markov_model import LinearAutoregressiveHMM
from jax import Array

from benchmarks.arhmm_problem import Problem
from benchmarks.hmm_jax import jitted
from benchmarks.peers import Peer


def dynamax(problem: Problem) -> Peer:
    """Its marginal log probability; its emission is a normal law with a full covariance, here of one entry."""
    num_states = len(problem.start)
    hmm = LinearAutoregressiveHMM(num_states, emission_dim=1, num_lags=1)
    blank, _ = hmm.initialize(jax.random.PRNGKey(0))

    def value(start: Array, moves: Array, slope: Array, level: Array, log_scale: Array, x: Array) -> Array:
        params = blank._replace(
            initial=blank.initial._replace(probs=jax.nn.softmax(start)),
            transitions=blank.transitions._replace(transition_matrix=jax.nn.softmax(moves)),
            emissions=blank.emissions._replace(
                weights=slope[..., None], biases=level, covs=jnp.exp(2 * log_scale)[..., None]
            ),
        )
        before = jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
        return jax.vmap(lambda rows, inputs: hmm.marginal_log_prob(params, rows, inputs))(x, before).sum()

    return jitted(value, problem, num_parameters=5)
