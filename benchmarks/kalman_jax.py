"""The Kalman filter in JAX, jitted: dynamax's, and a bare lax.scan that shares covariances; gradients by autodiff."""

import math

import jax.numpy as jnp
from dynamax.linear_gaussian_ssm.inference import (
    ParamsLGSSM,
    ParamsLGSSMDynamics,
    ParamsLGSSMEmissions,
    ParamsLGSSMInitial,
    lgssm_filter,
)
from jax import Array, lax, vmap

from benchmarks.hmm_jax import jitted
from benchmarks.kalman_problem import Problem
from benchmarks.peers import Peer


def scan(problem: Problem) -> Peer:
    """The bare scan: one covariance for all sequences, their means as one matrix, time first."""
    return jitted(_scanned, problem._replace(x=problem.x.swapaxes(0, 1)), num_parameters=5)


def dynamax(problem: Problem) -> Peer:
    """dynamax's filter, one sequence per call under vmap."""
    return jitted(_filtered, problem, num_parameters=5)


def _scanned(mean: Array, A: Array, L: Array, C: Array, S: Array, x: Array) -> Array:
    Q, R = L @ L.T, S @ S.T

    def step(carry: tuple[Array, Array], x_t: Array) -> tuple[tuple[Array, Array], Array]:
        m, P = carry  # of the state before, (B, D) and (D, D)
        m, P = m @ A.T, A @ P @ A.T + Q
        factor = jnp.linalg.cholesky(C @ P @ C.T + R)
        K = jnp.linalg.solve(factor @ factor.T, C @ P).T
        v = x_t - m @ C.T
        whitened = jnp.linalg.solve(factor, v.T)
        log_prob = -0.5 * (whitened**2).sum() - len(v) * jnp.log(jnp.diagonal(factor)).sum()
        return (m + v @ K.T, P - K @ C @ P), log_prob

    start = jnp.broadcast_to(mean, (x.shape[1], len(mean))), jnp.eye(len(mean), dtype=mean.dtype)
    _, log_probs = lax.scan(step, start, x)
    return log_probs.sum() - 0.5 * math.log(2 * math.pi) * x.size


def _filtered(mean: Array, A: Array, L: Array, C: Array, S: Array, x: Array) -> Array:
    Q, none = L @ L.T, jnp.zeros((len(mean), 0), mean.dtype)
    initial = ParamsLGSSMInitial(A @ mean, A @ A.T + Q)
    dynamics = ParamsLGSSMDynamics(A, jnp.zeros_like(mean), none, Q)
    emissions = ParamsLGSSMEmissions(C, jnp.zeros(len(S), mean.dtype), jnp.zeros((len(S), 0), mean.dtype), S @ S.T)
    params = ParamsLGSSM(initial, dynamics, emissions)
    return vmap(lambda rows: lgssm_filter(params, rows).marginal_loglik)(x).sum()
