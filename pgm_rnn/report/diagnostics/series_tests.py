"""Tests of a series that should be independent draws of a known law, with gaps and in several sequences.

    r_k = sum c_t c_{t+k} / sum c_t^2,   Q = (n + 2) / n sum_k n^2 r_k^2 / n_k ~ chi^2 with as many degrees as lags

c is the series minus its mean, n its length and n_k the number of pairs k steps apart in the same sequence, both
observed. For one sequence without gaps n_k = n - k, and Q is the statistic of Ljung & Box (1978), eq. (1.2).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Tested(NamedTuple):
    """Result of a test.

    Attributes:
        statistic: its statistic.
        p_value: probability of a statistic at least as large if the series is what it should be; NaN if too short.
        size: number of values that were tested.
    """

    statistic: float
    p_value: float
    size: int


def autocorrelations(series: Array, num_lags: int) -> tuple[Array, NDArray[np.int64]]:
    """r_1, ..., r_L and the numbers of pairs n_1, ..., n_L of a series (B, T), NaN where there is no value.

    Pairs never cross from one sequence to the next. r_k is NaN for a constant series.
    """
    centred = series - (np.nanmean(series) if np.isfinite(series).any() else 0.0)
    total = np.nansum(centred**2)
    products = [centred[:, lag:] * centred[:, : centred.shape[1] - lag] for lag in range(1, num_lags + 1)]
    sums = np.array([np.nansum(product) for product in products])
    pairs = np.array([int(np.isfinite(product).sum()) for product in products], dtype=np.int64)
    return (sums / total if total > 0 else np.full(num_lags, np.nan)), pairs


def ljung_box(series: Array, num_lags: int) -> Tested:
    """Q and its p-value for a series (B, T), NaN where there is no value.

    Degrees of freedom are the lags of which there are pairs: fitted parameters are not taken off.
    """
    from scipy import stats

    size = int(np.isfinite(series).sum())
    found, pairs = autocorrelations(series, num_lags)
    used = pairs > 0
    if not used.any() or not np.isfinite(found).all():
        return Tested(np.nan, np.nan, size)
    statistic = float((size + 2) / size * np.sum(size**2 * found[used] ** 2 / pairs[used]))
    return Tested(statistic, float(stats.chi2.sf(statistic, int(used.sum()))), size)


def uniformity(values: Array) -> Tested:
    """Largest distance between the distribution functions of values and of the uniform law: Kolmogorov & Smirnov."""
    from scipy import stats

    kept = values[np.isfinite(values)]
    if len(kept) == 0:
        return Tested(np.nan, np.nan, 0)
    found: Any = stats.kstest(kept, "uniform")
    return Tested(float(found.statistic), float(found.pvalue), len(kept))
