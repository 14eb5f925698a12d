"""The Kalman recursions compiled by numba: covariances parallel over groups, means parallel over sequences.

Arrays as in `pgm_rnn.kernels.kalman`; every parameter has the axes (1 or B, 1 or steps, ...). Imported only when it is
first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

jit = numba.njit(parallel=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
inner = numba.njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


@inner
def _product(a: Floats, b: Floats, out: Floats) -> None:
    """out = a b."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            out[i, j] = a[i, 0] * b[0, j]
        for k in range(1, a.shape[1]):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]


@inner
def _product_nt(a: Floats, b: Floats, out: Floats) -> None:
    """out = a b^T."""
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            total = a[i, 0] * b[j, 0]
            for k in range(1, a.shape[1]):
                total += a[i, k] * b[j, k]
            out[i, j] = total


@inner
def _product_tn(a: Floats, b: Floats, out: Floats) -> None:
    """out = a^T b."""
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            out[i, j] = a[0, i] * b[0, j]
        for k in range(1, a.shape[0]):
            for j in range(b.shape[1]):
                out[i, j] += a[k, i] * b[k, j]


@inner
def _sandwich(a: Floats, p: Floats, q: Floats, space: Floats, out: Floats) -> None:
    """out = a p a^T + q, exactly symmetric for symmetric p and q."""
    _product(a, p, space)
    for i in range(a.shape[0]):
        for j in range(i + 1):
            total = q[i, j]
            for k in range(a.shape[1]):
                total += space[i, k] * a[j, k]
            out[i, j] = total
            out[j, i] = total


@inner
def _inverse(matrix: Floats, factor: Floats, out: Floats) -> float:
    """Inverse of a positive definite matrix through its Cholesky factor; returns log det, NaN if it has none."""
    n = matrix.shape[0]
    log_det = 0.0
    for j in range(n):
        pivot = matrix[j, j]
        for k in range(j):
            pivot -= factor[j, k] * factor[j, k]
        if not pivot > 0.0:
            out[:] = np.nan
            return np.nan
        log_det += np.log(pivot)
        factor[j, j] = np.sqrt(pivot)
        for i in range(j + 1, n):
            total = matrix[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = total / factor[j, j]
    for j in range(n):  # columns of factor^{-1}, kept in the upper triangle of `out`
        for i in range(j, n):
            total = 1.0 if i == j else 0.0
            for k in range(j, i):
                total -= factor[i, k] * out[j, k]
            out[j, i] = total / factor[i, i]
    for i in range(n):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, n):
                total += out[i, k] * out[j, k]
            factor[i, j] = total
    for i in range(n):
        for j in range(i + 1):
            out[i, j] = factor[i, j]
            out[j, i] = factor[i, j]
    return log_det


@jit
def covariances(
    initial_cov: Floats,
    transition_matrix: Floats,
    transition_cov: Floats,
    emission_matrix: Floats,
    emission_cov: Floats,
    predicted: Floats,
    filtered: Floats,
    gain: Floats,
    precision: Floats,
    log_det: Floats,
) -> None:
    """Fill covariances, gains, and the innovations' precisions and log determinants; NaN where there is none."""
    num_groups, num_steps, dim, obs_dim = gain.shape
    for g in numba.prange(num_groups):
        space, rest = np.empty((dim, dim), gain.dtype), np.empty((dim, dim), gain.dtype)
        cross, wide = np.empty((dim, obs_dim), gain.dtype), np.empty((dim, obs_dim), gain.dtype)
        innovation, factor = np.empty((obs_dim, obs_dim), gain.dtype), np.empty((obs_dim, obs_dim), gain.dtype)
        for t in range(num_steps):
            p, k = predicted[g, t], gain[g, t]
            c = emission_matrix[g % emission_matrix.shape[0], t % emission_matrix.shape[1]]
            r = emission_cov[g % emission_cov.shape[0], t % emission_cov.shape[1]]
            if t == 0:
                p[:] = initial_cov[g % initial_cov.shape[0]]
            else:
                a = transition_matrix[g % transition_matrix.shape[0], (t - 1) % transition_matrix.shape[1]]
                q = transition_cov[g % transition_cov.shape[0], (t - 1) % transition_cov.shape[1]]
                _sandwich(a, filtered[g, t - 1], q, space, p)
            _product_nt(p, c, cross)
            _product(c, cross, innovation)
            for i in range(obs_dim):
                for j in range(obs_dim):
                    innovation[i, j] += r[i, j]
            log_det[g, t] = _inverse(innovation, factor, precision[g, t])
            _product(cross, precision[g, t], k)
            for i in range(dim):
                for j in range(dim):
                    total = 1.0 if i == j else 0.0
                    for n in range(obs_dim):
                        total -= k[i, n] * c[n, j]
                    rest[i, j] = total
            _product(k, r, wide)
            for i in range(dim):  # K R K^T
                for j in range(i + 1):
                    total = wide[i, 0] * k[j, 0]
                    for n in range(1, obs_dim):
                        total += wide[i, n] * k[j, n]
                    filtered[g, t, i, j] = total
                    filtered[g, t, j, i] = total
            _sandwich(rest, p, filtered[g, t], space, filtered[g, t])


@jit
def means(
    initial_mean: Floats,
    transition_matrix: Floats,
    state_offset: Floats,
    emission_matrix: Floats,
    x: Floats,
    lengths: Integers,
    gain: Floats,
    precision: Floats,
    predicted: Floats,
    filtered: Floats,
    weighted: Floats,
    distance: Floats,
) -> None:
    """Fill means (B, T, D), precision times innovation (B, T, M) and squared distances v' F^{-1} v (B, T)."""
    dim, obs_dim = predicted.shape[2], x.shape[2]
    for b in numba.prange(x.shape[0]):
        g = b % gain.shape[0]
        v = np.empty(obs_dim, x.dtype)
        for t in range(lengths[b]):
            m, u = predicted[b, t], weighted[b, t]
            if t == 0:
                m[:] = initial_mean[b % initial_mean.shape[0]]
            else:
                a = transition_matrix[b % transition_matrix.shape[0], (t - 1) % transition_matrix.shape[1]]
                offset = state_offset[b % state_offset.shape[0], (t - 1) % state_offset.shape[1]]
                for i in range(dim):
                    total = offset[i]
                    for j in range(dim):
                        total += a[i, j] * filtered[b, t - 1, j]
                    m[i] = total
            c = emission_matrix[b % emission_matrix.shape[0], t % emission_matrix.shape[1]]
            for n in range(obs_dim):
                total = x[b, t, n]
                for j in range(dim):
                    total -= c[n, j] * m[j]
                v[n] = total
            squared = x[b, t, 0] * 0.0
            for n in range(obs_dim):
                total = precision[g, t, n, 0] * v[0]
                for k in range(1, obs_dim):
                    total += precision[g, t, n, k] * v[k]
                u[n] = total
                squared += total * v[n]
            distance[b, t] = squared
            for i in range(dim):
                total = m[i]
                for n in range(obs_dim):
                    total += gain[g, t, i, n] * v[n]
                filtered[b, t, i] = total


@jit
def information(
    transition_matrix: Floats,
    emission_matrix: Floats,
    gain: Floats,
    precision: Floats,
    groups: Integers,
    lengths: Integers,
    future: Floats,
    inner_precision: Floats,
) -> None:
    """Fill N (S, T, D, D) and the precisions of smoothed residuals (S, T, M, M), zero in the padding.

    Row s belongs to group `groups[s]` and ends after `lengths[s]` steps.
    """
    num_rows, num_steps, dim, _ = future.shape
    obs_dim = precision.shape[2]
    for s in numba.prange(num_rows):
        g = groups[s]
        space, ahead = np.empty((dim, dim), gain.dtype), np.empty((dim, dim), gain.dtype)
        wide = np.empty((dim, obs_dim), gain.dtype)
        back = np.empty((obs_dim, dim), gain.dtype)
        for t in range(lengths[s], num_steps):
            future[s, t] = 0.0
            inner_precision[s, t] = 0.0
        for t in range(lengths[s] - 1, -1, -1):
            k = gain[g, t]
            c = emission_matrix[g % emission_matrix.shape[0], t % emission_matrix.shape[1]]
            if t == lengths[s] - 1:
                ahead[:] = 0.0
            else:
                a = transition_matrix[g % transition_matrix.shape[0], t % transition_matrix.shape[1]]
                _product(future[s, t + 1], a, space)
                _product_tn(a, space, ahead)
            _product(ahead, k, wide)
            _product_tn(k, wide, inner_precision[s, t])
            for i in range(obs_dim):
                for j in range(obs_dim):
                    inner_precision[s, t, i, j] += precision[g, t, i, j]
            _product(inner_precision[s, t], c, back)  # D C - K^T ahead
            for i in range(obs_dim):
                for j in range(dim):
                    back[i, j] -= wide[j, i]
            for i in range(dim):
                for j in range(i + 1):
                    total = ahead[i, j]
                    for n in range(obs_dim):
                        total += c[n, i] * back[n, j] - wide[i, n] * c[n, j]
                    future[s, t, i, j] = total
                    future[s, t, j, i] = total


@jit
def scores(
    transition_matrix: Floats,
    emission_matrix: Floats,
    gain: Floats,
    filtered_covs: Floats,
    filtered_means: Floats,
    weighted: Floats,
    lengths: Integers,
    score: Floats,
    residual: Floats,
    smoothed: Floats,
) -> None:
    """Fill d log p / d predicted mean (B, T, D), smoothed residuals (B, T, M), smoothed means; zero in the padding."""
    num_steps, dim, obs_dim = score.shape[1], score.shape[2], residual.shape[2]
    for b in numba.prange(score.shape[0]):
        g = b % gain.shape[0]
        ahead = np.zeros(dim, score.dtype)
        for t in range(lengths[b], num_steps):
            score[b, t] = 0.0
            residual[b, t] = 0.0
            smoothed[b, t] = 0.0
        for t in range(lengths[b] - 1, -1, -1):
            if t < lengths[b] - 1:
                a = transition_matrix[b % transition_matrix.shape[0], t % transition_matrix.shape[1]]
                for j in range(dim):
                    total = a[0, j] * score[b, t + 1, 0]
                    for i in range(1, dim):
                        total += a[i, j] * score[b, t + 1, i]
                    ahead[j] = total
            c = emission_matrix[b % emission_matrix.shape[0], t % emission_matrix.shape[1]]
            for n in range(obs_dim):
                total = weighted[b, t, n]
                for i in range(dim):
                    total -= gain[g, t, i, n] * ahead[i]
                residual[b, t, n] = total
            for i in range(dim):
                total = ahead[i]
                for n in range(obs_dim):
                    total += c[n, i] * residual[b, t, n]
                score[b, t, i] = total
                total = filtered_means[b, t, i]
                for j in range(dim):
                    total += filtered_covs[g, t, i, j] * ahead[j]
                smoothed[b, t, i] = total


@jit
def smoothed_covs(
    gain: Floats, conditional_cov: Floats, filtered_covs: Floats, groups: Integers, lengths: Integers, out: Floats
) -> None:
    """Fill Cov(z_t | x_{1:T}) (S, T, D, D), zero in the padding; row s belongs to group `groups[s]`."""
    num_rows, num_steps, dim, _ = out.shape
    for s in numba.prange(num_rows):
        g, space = groups[s], np.empty((dim, dim), out.dtype)
        for t in range(lengths[s], num_steps):
            out[s, t] = 0.0
        out[s, lengths[s] - 1] = filtered_covs[g, lengths[s] - 1]
        for t in range(lengths[s] - 2, -1, -1):
            _sandwich(gain[g, t], out[s, t + 1], conditional_cov[g, t], space, out[s, t])


@jit
def smoothed_means(
    gain: Floats, predicted_means: Floats, filtered_means: Floats, lengths: Integers, out: Floats
) -> None:
    """Fill E(z_t | x_{1:T}) (B, T, D), zero in the padding."""
    num_sequences, num_steps, dim = out.shape
    for b in numba.prange(num_sequences):
        g = b % gain.shape[0]
        for t in range(lengths[b] - 1, num_steps):
            out[b, t] = filtered_means[b, t]
        for t in range(lengths[b] - 2, -1, -1):
            for i in range(dim):
                total = filtered_means[b, t, i]
                for j in range(dim):
                    total += gain[g, t, i, j] * (out[b, t + 1, j] - predicted_means[b, t + 1, j])
                out[b, t, i] = total
