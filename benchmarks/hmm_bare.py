"""numba's own loop: the scaled recursion and its analytic gradient as one writes them down, sequences in parallel.

No check of any kind: nothing about zeros, states out of reach, lengths, NaN or layout. fastmath in full.
"""

import numba
import numpy as np

from benchmarks.hmm_problem import Array, Problem, Recursion, recursion, softmax
from benchmarks.peers import Peer


def bare(problem: Problem) -> Peer:
    """The loop between numpy's softmax and densities."""

    def value() -> float:
        given = recursion(problem)
        return float(_value(*given).sum())

    def gradient() -> tuple[Array, ...]:
        given = recursion(problem)
        _, first, counts, slopes = _gradient(*given)
        loc = np.einsum("btk,bt->k", slopes, problem.x) - slopes.sum((0, 1)) * problem.loc
        start = softmax(problem.start)
        counts = counts + start[:, None] * first
        return _through_softmax(start, given.transition @ first), _through_softmax(given.transition, counts), loc

    return Peer(value, gradient)


def bare_given_densities(given: Recursion) -> Peer:
    """The loop alone."""
    return Peer(lambda: _value(*given).sum(), lambda: _gradient(*given)[1:])


def _through_softmax(probs: Array, gradient: Array) -> Array:
    return probs * (gradient - (probs * gradient).sum(-1, keepdims=True))


@numba.njit(parallel=True, fastmath=True, cache=True)
def _value(initial, transition, log_emission):
    num_sequences, num_steps, num_states = log_emission.shape
    values = np.zeros(num_sequences, np.float32)
    for b in numba.prange(num_sequences):
        belief = initial.copy()
        joint = np.empty_like(belief)
        for t in range(num_steps):
            if t > 0:
                joint[:] = 0
                for i in range(num_states):
                    for j in range(num_states):
                        joint[j] += belief[i] * transition[i, j]
            else:
                joint[:] = belief
            total = np.float32(0)
            shift = log_emission[b, t].max()
            for j in range(num_states):
                joint[j] *= np.exp(log_emission[b, t, j] - shift)
                total += joint[j]
            values[b] += np.log(total) + shift
            for j in range(num_states):
                belief[j] = joint[j] / total
    return values


@numba.njit(parallel=True, fastmath=True, cache=True)
def _gradient(initial, transition, log_emission):
    num_sequences, num_steps, num_states = log_emission.shape
    values = np.zeros(num_sequences, np.float32)
    filtered, emission = np.empty_like(log_emission), np.empty_like(log_emission)
    firsts = np.empty((num_sequences, num_states), np.float32)
    counts = np.zeros((num_sequences, num_states, num_states), np.float32)
    for b in numba.prange(num_sequences):
        for t in range(num_steps):
            row = filtered[b, t]
            if t > 0:
                row[:] = 0
                for i in range(num_states):
                    for j in range(num_states):
                        row[j] += filtered[b, t - 1, i] * transition[i, j]
            else:
                row[:] = initial
            total = np.float32(0)
            shift = log_emission[b, t].max()
            for j in range(num_states):
                emission[b, t, j] = np.exp(log_emission[b, t, j] - shift)
                total += row[j] * emission[b, t, j]
            values[b] += np.log(total) + shift
            for j in range(num_states):
                emission[b, t, j] /= total
                row[j] *= emission[b, t, j]
        beta = np.ones_like(initial)
        future = np.empty_like(initial)
        for t in range(num_steps - 1, -1, -1):
            for j in range(num_states):
                future[j] = emission[b, t, j] * beta[j]
                emission[b, t, j] = filtered[b, t, j] * beta[j]
            if t > 0:
                for i in range(num_states):
                    beta[i] = 0
                    for j in range(num_states):
                        beta[i] += transition[i, j] * future[j]
                        counts[b, i, j] += filtered[b, t - 1, i] * future[j]
        firsts[b] = future
    return values, firsts.sum(0), counts.sum(0), emission
