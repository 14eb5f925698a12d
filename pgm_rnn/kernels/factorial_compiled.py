"""The recursions of several Markov chains that are observed together, compiled by numba, parallel over sequences.

Arrays are those of `pgm_rnn.kernels.factorial`, in float64: a belief has N = K_1 ... K_M entries, in which the state of
the last chain changes fastest. A step moves one chain at a time along its axis, which costs N K_m, in place of the N^2
of all chains at once. Beliefs are logarithms. Along an axis they are taken relative to their largest entry, and a sum
that comes out tiny is computed again in logarithms, so that no state is ever lost. The module is imported when it is
first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TINY = 1e-280
"""A sum of weights, the largest of which is 1, below which underflow of a weight could matter."""
MANY, FEW = 600.0, -700.0
"""Logarithms beyond which a product of three factors could overflow, and below which it does not count."""

jit = jitted(parallel=True, error_model="numpy")
alone = jitted(error_model="numpy")


@alone
def moved(source: Floats, target: Floats, table: Floats, stride: int) -> None:
    """target = log sum_i exp(source[.., i, ..]) table[i, j] along the axis with this stride, for every j."""
    size = len(table)
    weights = np.empty(size)
    for start in range(0, len(source), size * stride):
        for place in range(start, start + stride):
            largest = -np.inf
            for i in range(size):
                largest = max(largest, source[place + i * stride])
            if largest == -np.inf:
                for j in range(size):
                    target[place + j * stride] = -np.inf
                continue
            for i in range(size):
                weights[i] = np.exp(source[place + i * stride] - largest)
            for j in range(size):
                total = 0.0
                for i in range(size):
                    total += weights[i] * table[i, j]
                if total > TINY:
                    target[place + j * stride] = largest + np.log(total)
                else:
                    target[place + j * stride] = summed(source, table, place, stride, j)


@alone
def summed(source: Floats, table: Floats, place: int, stride: int, j: int) -> float:
    """log sum_i exp(source[.., i, ..]) table[i, j] for one j, in logarithms."""
    largest = -np.inf
    for i in range(len(table)):
        if table[i, j] > 0:
            largest = max(largest, source[place + i * stride] + np.log(table[i, j]))
    if largest == -np.inf:
        return largest
    total = 0.0
    for i in range(len(table)):
        if table[i, j] > 0:
            total += np.exp(source[place + i * stride] + np.log(table[i, j]) - largest)
    return float(largest + np.log(total))


@alone
def counted(before: Floats, after: Floats, table: Floats, stride: int, moves: Floats) -> None:
    """Add exp(before[.., i, ..]) table[i, j] exp(after[.., j, ..]), summed over the other axes, to moves (i, j)."""
    size = len(table)
    left, right = np.empty(size), np.empty(size)
    for start in range(0, len(before), size * stride):
        for place in range(start, start + stride):
            high, top = -np.inf, -np.inf
            for i in range(size):
                high = max(high, before[place + i * stride])
                top = max(top, after[place + i * stride])
            if not high + top > FEW:
                continue
            if high + top > MANY:
                for i in range(size):
                    for j in range(size):
                        if table[i, j] > 0:
                            power = before[place + i * stride] + after[place + j * stride] + np.log(table[i, j])
                            moves[i, j] += np.exp(power)
                continue
            scale = np.exp(high + top)
            for i in range(size):
                left[i] = np.exp(before[place + i * stride] - high) * scale
                right[i] = np.exp(after[place + i * stride] - top)
            for i in range(size):
                for j in range(size):
                    moves[i, j] += left[i] * table[i, j] * right[j]


@jit
def forward(
    sizes: Integers,
    start: Floats,
    transition: Floats,
    log_emission: Floats,
    lengths: Integers,
    log_normalizers: Floats,
    predicted: Floats,
    filtered: Floats,
) -> None:
    """Fill log p(x_t | x_{1:t-1}) (B, T), log p(z_t | x_{1:t-1}) and log p(z_t | x_{1:t}), each (B, T or 1, N).

    Args:
        sizes: K_1, ..., K_M.
        start: log p(z_1), (1 or B, N).
        transition: the tables of all chains, (1 or B, 1 or T - 1, sum of K_m^2).
        log_emission: log p(x_t | z_t), (B, T, N).
        lengths: (B,).
        log_normalizers: zeros.
        predicted: -inf; with one step in place of T, the last one is kept.
        filtered: the same.
    """
    num_chains, num = len(sizes), log_emission.shape[2]
    for b in numba.prange(log_emission.shape[0]):
        work = np.empty((2, num))
        own = b % transition.shape[0]
        for t in range(lengths[b]):
            now = t % predicted.shape[1]
            if t == 0:
                predicted[b, now] = start[b % start.shape[0]]
            else:
                work[0] = filtered[b, (t - 1) % filtered.shape[1]]
                offset, stride = 0, num
                for m in range(num_chains):
                    size = sizes[m]
                    stride //= size
                    flat = transition[own, (t - 1) % transition.shape[1], offset : offset + size * size]
                    moved(work[m % 2], work[(m + 1) % 2], flat.reshape(size, size), stride)
                    offset += size * size
                predicted[b, now] = work[num_chains % 2]
            largest = -np.inf
            for n in range(num):
                filtered[b, now, n] = predicted[b, now, n] + log_emission[b, t, n]
                largest = max(largest, filtered[b, now, n])
            if largest == -np.inf:
                log_normalizers[b, t] = -np.inf
                break
            total = 0.0
            for n in range(num):
                total += np.exp(filtered[b, now, n] - largest)
            log_normalizers[b, t] = largest + np.log(total)
            for n in range(num):
                filtered[b, now, n] -= log_normalizers[b, t]


@jit
def backward(
    sizes: Integers,
    transition: Floats,
    log_emission: Floats,
    lengths: Integers,
    log_normalizers: Floats,
    filtered: Floats,
    smoothed: Floats,
    moves: Floats,
) -> None:
    """Fill p(z_t | x_{1:T}) (B, T, N) and the expected moves of each chain, after `forward`; zeros if impossible.

    `moves` (B, 1 or T - 1, sum of K_m^2) has the moves of all steps, or those of each step.
    """
    num_chains, num = len(sizes), log_emission.shape[2]
    for b in numba.prange(log_emission.shape[0]):
        own, length = b % transition.shape[0], lengths[b]
        if log_normalizers[b].min() == -np.inf:
            continue
        beliefs, after, future = np.empty((num_chains + 1, num)), np.empty((2, num)), np.zeros(num)
        for t in range(length - 1, -1, -1):
            if t < length - 1:
                for n in range(num):
                    after[0, n] = future[n] + log_emission[b, t + 1, n] - log_normalizers[b, t + 1]
                beliefs[0] = filtered[b, t]
                offset, stride = 0, num
                for m in range(num_chains):
                    size = sizes[m]
                    stride //= size
                    flat = transition[own, t % transition.shape[1], offset : offset + size * size]
                    moved(beliefs[m], beliefs[m + 1], flat.reshape(size, size), stride)
                    offset += size * size
                stride = 1
                for back in range(num_chains):
                    m = num_chains - 1 - back
                    size = sizes[m]
                    offset -= size * size
                    flat = transition[own, t % transition.shape[1], offset : offset + size * size]
                    table = flat.reshape(size, size)
                    of_chain = moves[b, t % moves.shape[1], offset : offset + size * size].reshape(size, size)
                    counted(beliefs[m], after[back % 2], table, stride, of_chain)
                    moved(after[back % 2], after[(back + 1) % 2], table.T, stride)
                    stride *= size
                future[:] = after[num_chains % 2]
            total = 0.0
            for n in range(num):
                smoothed[b, t, n] = np.exp(filtered[b, t, n] + future[n])
                total += smoothed[b, t, n]
            for n in range(num):
                smoothed[b, t, n] /= total


@jit
def most_likely_states(
    sizes: Integers,
    digits: Integers,
    start: Floats,
    log_transition: Floats,
    log_emission: Floats,
    lengths: Integers,
    best: Floats,
    states: Integers,
    log_prob: Floats,
) -> None:
    """Fill the best path of each sequence (B, T) and its log p(x, z) (B,); `best` (B, T, N) is memory to work in.

    `digits` (N, M) has the states of the chains for each of the N values.
    """
    num_chains, num = len(sizes), log_emission.shape[2]
    for b in numba.prange(log_emission.shape[0]):
        own, length = b % log_transition.shape[0], lengths[b]
        work = np.empty((2, num))
        best[b, 0] = start[b % start.shape[0]] + log_emission[b, 0]
        for t in range(1, length):
            work[0] = best[b, t - 1]
            offset, stride = 0, num
            for m in range(num_chains):
                size = sizes[m]
                stride //= size
                flat = log_transition[own, (t - 1) % log_transition.shape[1], offset : offset + size * size]
                raised(work[m % 2], work[(m + 1) % 2], flat.reshape(size, size), stride)
                offset += size * size
            best[b, t] = work[num_chains % 2] + log_emission[b, t]
        state = np.argmax(best[b, length - 1])
        log_prob[b] = best[b, length - 1, state]
        states[b, length - 1] = state
        for t in range(length - 2, -1, -1):
            weigh(sizes, digits, log_transition[own, t % log_transition.shape[1]], state, best[b, t], work[0])
            state = np.argmax(work[0])
            states[b, t] = state


@alone
def raised(source: Floats, target: Floats, log_table: Floats, stride: int) -> None:
    """target = max_i source[.., i, ..] + log_table[i, j] along the axis with this stride, for every j."""
    size = len(log_table)
    for start in range(0, len(source), size * stride):
        for place in range(start, start + stride):
            for j in range(size):
                largest = -np.inf
                for i in range(size):
                    largest = max(largest, source[place + i * stride] + log_table[i, j])
                target[place + j * stride] = largest


@alone
def weigh(
    sizes: Integers, digits: Integers, log_transition: Floats, following: int, belief: Floats, weights: Floats
) -> None:
    """weights = belief + log p(z_{t+1} = following | z_t), for all N values of z_t."""
    for n in range(len(belief)):
        total, offset = belief[n], 0
        for m in range(len(sizes)):
            total += log_transition[offset + digits[n, m] * sizes[m] + digits[following, m]]
            offset += sizes[m] * sizes[m]
        weights[n] = total


@jit
def sample_states(
    sizes: Integers,
    digits: Integers,
    log_transition: Floats,
    lengths: Integers,
    log_normalizers: Floats,
    filtered: Floats,
    uniforms: Floats,
    states: Integers,
) -> None:
    """Fill paths (S, B, T) given x_{1:T} from uniform numbers (S, B, T), after `forward`; impossible ones stay 0."""
    num = filtered.shape[2]
    for b in numba.prange(filtered.shape[0]):
        own = b % log_transition.shape[0]
        if log_normalizers[b].min() == -np.inf:
            continue
        weights = np.empty(num)
        for s in range(uniforms.shape[0]):
            for t in range(lengths[b] - 1, -1, -1):
                if t == lengths[b] - 1:
                    weights[:] = filtered[b, t]
                else:
                    table = log_transition[own, t % log_transition.shape[1]]
                    weigh(sizes, digits, table, states[s, b, t + 1], filtered[b, t], weights)
                states[s, b, t] = drawn(weights, uniforms[s, b, t])


@alone
def drawn(log_weights: Floats, uniform: float) -> int:
    """The number whose share of exp(log_weights), laid end to end, has `uniform` in it; never one of weight zero."""
    largest, total = log_weights.max(), 0.0
    for n in range(len(log_weights)):
        log_weights[n] = np.exp(log_weights[n] - largest)
        total += log_weights[n]
    chosen, reached = 0, 0.0
    for n in range(len(log_weights)):
        if log_weights[n] > 0:
            chosen = n
            reached += log_weights[n]
            if reached > uniform * total:
                break
    return chosen
