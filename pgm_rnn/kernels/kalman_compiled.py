"""The Kalman recursions compiled by numba: covariances parallel over groups, means parallel over sequences.

Arrays are those of `pgm_rnn.kernels.kalman`; every parameter has the axes (1 or B, 1 or steps, ...). The module is
imported when it is first used.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pgm_rnn.kernels.compilation import jitted

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

jit = jitted(parallel=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
LOG_2_PI = float(np.log(2 * np.pi))
inner = jitted(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


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
        if not pivot > 0.0:  # NaN, too
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


@inner
def _same(a: Floats, b: Floats) -> bool:
    """Whether two matrices agree to the bit."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            if a[i, j] != b[i, j]:
                return False
    return True


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
    steady: Integers,
) -> None:
    """Fill covariances, gains, and the innovations' precisions and log determinants; NaN where there is none.

    If parameters do not vary and a predicted covariance equals that of the step before to the bit, so does everything
    that follows, and it is copied. `steady` (G,) is the first step that all later ones copy, T if there is none.

    Source: the covariances of Särkkä (2013), eq. (4.20)-(4.21), updated in Joseph's form.
    """
    num_groups, num_steps, dim, obs_dim = gain.shape
    constant = transition_matrix.shape[1] * transition_cov.shape[1] * emission_matrix.shape[1] * emission_cov.shape[1]
    for g in numba.prange(num_groups):
        space, rest = np.empty((dim, dim), gain.dtype), np.empty((dim, dim), gain.dtype)
        cross, wide = np.empty((dim, obs_dim), gain.dtype), np.empty((dim, obs_dim), gain.dtype)
        innovation, factor = np.empty((obs_dim, obs_dim), gain.dtype), np.empty((obs_dim, obs_dim), gain.dtype)
        steady[g] = num_steps
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
                if constant == 1 and _same(p, predicted[g, t - 1]):
                    steady[g] = t - 1
                    break
            _product_nt(p, c, cross)
            _product(c, cross, innovation)
            for i in range(obs_dim):
                for j in range(obs_dim):
                    innovation[i, j] += r[i, j]
            log_det[g, t] = _inverse(innovation, factor, precision[g, t])
            _product(cross, precision[g, t], k)
            for i in range(dim):
                for j in range(dim):
                    total = gain.dtype.type(1 if i == j else 0)
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
        for t in range(steady[g] + 1, num_steps):
            predicted[g, t], filtered[g, t] = predicted[g, t - 1], filtered[g, t - 1]
            gain[g, t], precision[g, t] = gain[g, t - 1], precision[g, t - 1]
            log_det[g, t] = log_det[g, t - 1]


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
    log_det: Floats,
    predicted: Floats,
    filtered: Floats,
    weighted: Floats,
    log_normalizers: Floats,
) -> None:
    """Fill means (B, T, D), precision times innovation (B, T, M) and log p(x_t | x_{1:t-1}) (B, T), 0 in the padding.

    Whole arrays are indexed, because a view made in the loop costs more than the loop over a few states. Source: the
    means of Särkkä (2013), eq. (4.20)-(4.21).
    """
    dim, obs_dim = predicted.shape[2], x.shape[2]
    num_a, steps_a = transition_matrix.shape[:2]
    num_b, steps_b = state_offset.shape[:2]
    num_c, steps_c = emission_matrix.shape[:2]
    for b in numba.prange(x.shape[0]):
        g, a, o, c = b % gain.shape[0], b % num_a, b % num_b, b % num_c
        v, m, z = np.empty(obs_dim, x.dtype), np.empty(dim, x.dtype), np.empty(dim, x.dtype)
        for t in range(lengths[b], x.shape[1]):
            log_normalizers[b, t] = 0
            for i in range(dim):
                predicted[b, t, i] = 0
                filtered[b, t, i] = 0
            for n in range(obs_dim):
                weighted[b, t, n] = 0
        for t in range(lengths[b]):
            ta, tb, tc = (t - 1 if steps_a > 1 else 0), (t - 1 if steps_b > 1 else 0), (t if steps_c > 1 else 0)
            for i in range(dim):
                if t == 0:
                    m[i] = initial_mean[b % initial_mean.shape[0], i]
                else:
                    total = state_offset[o, tb, i]
                    for j in range(dim):
                        total += transition_matrix[a, ta, i, j] * z[j]
                    m[i] = total
                predicted[b, t, i] = m[i]
            for n in range(obs_dim):
                total = x[b, t, n]
                for j in range(dim):
                    total -= emission_matrix[c, tc, n, j] * m[j]
                v[n] = total
            squared = x.dtype.type(0)
            for n in range(obs_dim):
                total = x.dtype.type(0)
                for k in range(obs_dim):
                    total += precision[g, t, n, k] * v[k]
                weighted[b, t, n] = total
                squared += total * v[n]
            log_normalizers[b, t] = -0.5 * (log_det[g, t] + squared + obs_dim * LOG_2_PI)
            for i in range(dim):
                total = m[i]
                for n in range(obs_dim):
                    total += gain[g, t, i, n] * v[n]
                z[i] = total
                filtered[b, t, i] = total


@inner
def _back(
    ahead: Floats, c: Floats, gain: Floats, precision: Floats, wide: Floats, back: Floats, residual: Floats, out: Floats
) -> None:
    """From `ahead`, A' N_{t+1} A, write D_t into `residual`, D_t C - K' A' N A into `back` and N_t into `out`."""
    dim, obs_dim = gain.shape
    _product(ahead, gain, wide)
    _product_tn(gain, wide, residual)
    for i in range(obs_dim):
        for j in range(obs_dim):
            residual[i, j] += precision[i, j]
    _product(residual, c, back)
    for i in range(obs_dim):
        for j in range(dim):
            back[i, j] -= wide[j, i]
    for i in range(dim):
        for j in range(i + 1):
            total = ahead[i, j]
            for n in range(obs_dim):
                total += c[n, i] * back[n, j] - wide[i, n] * c[n, j]
            out[i, j] = total
            out[j, i] = total


@jit
def information(
    transition_matrix: Floats,
    emission_matrix: Floats,
    gain: Floats,
    precision: Floats,
    groups: Integers,
    lengths: Integers,
    future: Floats,
    residual: Floats,
) -> None:
    """Fill N_t (S, T, D, D) and D_t (S, T, M, M), zero in the padding: Durbin & Koopman (2012), sec. 4.4 and 4.5.

    Row s belongs to group `groups[s]` and ends after `lengths[s]` steps.
    """
    num_rows, num_steps, dim, _ = future.shape
    obs_dim = precision.shape[2]
    for s in numba.prange(num_rows):
        g = groups[s]
        space, ahead = np.empty((dim, dim), gain.dtype), np.zeros((dim, dim), gain.dtype)
        wide, back = np.empty((dim, obs_dim), gain.dtype), np.empty((obs_dim, dim), gain.dtype)
        for t in range(lengths[s], num_steps):
            future[s, t] = 0.0
            residual[s, t] = 0.0
        for t in range(lengths[s] - 1, -1, -1):
            c = emission_matrix[g % emission_matrix.shape[0], t % emission_matrix.shape[1]]
            if t < lengths[s] - 1:
                a = transition_matrix[g % transition_matrix.shape[0], t % transition_matrix.shape[1]]
                _product(future[s, t + 1], a, space)
                _product_tn(a, space, ahead)
            _back(ahead, c, gain[g, t], precision[g, t], wide, back, residual[s, t], future[s, t])


@jit
def information_sums(
    matrix: Floats,
    emission_matrix: Floats,
    gain: Floats,
    precision: Floats,
    predicted_covs: Floats,
    filtered_covs: Floats,
    steady: Integers,
    lengths: Integers,
    sums: NDArray[np.float64],
    first: Floats,
) -> None:
    """Add the terms that gradients need over the steps of each row, for one A (D, D) and one C (M, D).

    `sums` (S, 2 D + 2 M, max(D, M)) gets, one below the other as in `scores`, the sums of N_{t+1} A Cov(z_t | x_{1:t}),
    N_{t+1}, (D_t C - K' A' N A) P_t and D_t; `first` (S, D, D) gets N_1. Row s ends after `lengths[s]` steps. Once the
    covariances are steady and N_t equals N_{t+1} to the bit, the remaining steady steps are counted, not repeated.
    """
    dim, obs_dim = gain.shape[2:]
    for s in numba.prange(len(lengths)):
        space, ahead = np.empty((dim, dim), gain.dtype), np.zeros((dim, dim), gain.dtype)
        wide, back = np.empty((dim, obs_dim), gain.dtype), np.empty((obs_dim, dim), gain.dtype)
        inside, below = np.empty((obs_dim, obs_dim), gain.dtype), np.empty((obs_dim, dim), gain.dtype)
        now, later = np.zeros((dim, dim), gain.dtype), np.zeros((dim, dim), gain.dtype)
        t = lengths[s] - 1
        while t >= 0:
            times = 1
            if t < lengths[s] - 1:
                _product(later, matrix, space)
                _product_tn(matrix, space, ahead)
            _back(ahead, emission_matrix, gain[0, t], precision[0, t], wide, back, inside, now)
            if t > steady[0] and t < lengths[s] - 1 and _same(now, later):
                times = t - steady[0] + 1
            _product(back, predicted_covs[0, t], below)
            for i in range(obs_dim):
                for j in range(dim):
                    sums[s, 2 * dim + i, j] += times * below[i, j]
                for j in range(obs_dim):
                    sums[s, 2 * dim + obs_dim + i, j] += times * inside[i, j]
            if t < lengths[s] - 1:
                _product(space, filtered_covs[0, t], ahead)
                for i in range(dim):
                    for j in range(dim):
                        sums[s, i, j] += times * ahead[i, j]
                        sums[s, dim + i, j] += times * later[i, j]
            later[:] = now
            t -= times
        first[s] = now


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
    sums: NDArray[np.float64],
) -> None:
    """Fill l_t (B, T, D), e_t (B, T, M) and the smoothed means, zero in the padding.

    If it has rows, `sums` (B or 0, 2 D + 2 M, max(D, M)) gets the sums over steps of l_{t+1} s_t', l_{t+1} l_{t+1}',
    e_t s_t' and e_t e_t', one below the other, where s_t is the smoothed mean. Source: Durbin & Koopman (2012),
    sec. 4.4 and 4.5.
    """
    num_steps, dim, obs_dim = score.shape[1], score.shape[2], residual.shape[2]
    num_a, steps_a = transition_matrix.shape[:2]
    num_c, steps_c = emission_matrix.shape[:2]
    summed = sums.shape[0] > 0
    for b in numba.prange(score.shape[0]):
        g, a, c = b % gain.shape[0], b % num_a, b % num_c
        ahead, after = np.zeros(dim, score.dtype), np.zeros(dim, score.dtype)
        e, s = np.empty(obs_dim, score.dtype), np.empty(dim, score.dtype)
        for t in range(lengths[b], num_steps):
            for i in range(dim):
                score[b, t, i] = 0
                smoothed[b, t, i] = 0
            for n in range(obs_dim):
                residual[b, t, n] = 0
        for t in range(lengths[b] - 1, -1, -1):
            ta, tc = (t if steps_a > 1 else 0), (t if steps_c > 1 else 0)
            if t < lengths[b] - 1:
                for j in range(dim):
                    total = score.dtype.type(0)
                    for i in range(dim):
                        total += transition_matrix[a, ta, i, j] * after[i]
                    ahead[j] = total
            for i in range(dim):
                total = filtered_means[b, t, i]
                for j in range(dim):
                    total += filtered_covs[g, t, i, j] * ahead[j]
                s[i] = total
                smoothed[b, t, i] = total
            for n in range(obs_dim):
                total = weighted[b, t, n]
                for i in range(dim):
                    total -= gain[g, t, i, n] * ahead[i]
                e[n] = total
                residual[b, t, n] = total
            if summed:
                for i in range(dim):
                    for j in range(dim):
                        sums[b, i, j] += after[i] * s[j]
                        sums[b, dim + i, j] += after[i] * after[j]
                for n in range(obs_dim):
                    for j in range(dim):
                        sums[b, 2 * dim + n, j] += e[n] * s[j]
                    for k in range(obs_dim):
                        sums[b, 2 * dim + obs_dim + n, k] += e[n] * e[k]
            for i in range(dim):
                total = ahead[i]
                for n in range(obs_dim):
                    total += emission_matrix[c, tc, n, i] * e[n]
                after[i] = total
                score[b, t, i] = total


@jit
def smoothed_covs(
    gain: Floats, conditional_cov: Floats, filtered_covs: Floats, groups: Integers, lengths: Integers, out: Floats
) -> None:
    """Fill Cov(z_t | x_{1:T}) (S, T, D, D), zero in the padding: Särkkä (2013), eq. (8.6).

    Row s belongs to group `groups[s]`.
    """
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
    """Fill E(z_t | x_{1:T}) (B, T, D), zero in the padding: Särkkä (2013), eq. (8.6)."""
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
