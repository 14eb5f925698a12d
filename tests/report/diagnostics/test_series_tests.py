"""Ljung & Box's statistic written out, gaps and several sequences, and levels on independent and dependent series."""

import numpy as np
import pytest
from scipy import stats

from pgm_rnn.report.diagnostics.series_tests import autocorrelations, ljung_box, uniformity


@pytest.fixture
def random() -> np.random.Generator:
    """Of its own for each test: which tests a process runs before it is chance."""
    return np.random.default_rng(0)


def test_one_series_has_the_textbook_statistic(random: np.random.Generator) -> None:
    """Q = n (n + 2) sum_k r_k^2 / (n - k), as in statsmodels' acorr_ljungbox."""
    x = random.normal(size=50)
    centred, num = x - x.mean(), 50
    r = [sum(centred[k:] * centred[: num - k]) / sum(centred**2) for k in range(1, 8)]
    statistic = num * (num + 2) * sum(r_k**2 / (num - k) for k, r_k in enumerate(r, 1))
    found = ljung_box(x[None], 7)
    assert found.statistic == pytest.approx(statistic, rel=1e-12)
    assert found.p_value == pytest.approx(stats.chi2(7).sf(statistic), rel=1e-12)
    assert found.size == num


def test_pairs_do_not_cross_from_one_sequence_to_the_next() -> None:
    """Each sequence is constant: in the long series of all of them neighbours at the seams would differ."""
    x = np.array([[1.0, 1.0, np.nan], [-1.0, -1.0, -1.0], [0.0, 0.0, np.nan]])
    r, pairs = autocorrelations(x, 2)
    mean = (2 - 3) / 7
    total = 2 * (1 - mean) ** 2 + 3 * (-1 - mean) ** 2 + 2 * mean**2
    assert pairs.tolist() == [4, 1]
    assert r[0] == pytest.approx(((1 - mean) ** 2 + 2 * (-1 - mean) ** 2 + mean**2) / total)


def rejections(series: np.ndarray, num_lags: int = 5) -> float:
    return float(np.mean([ljung_box(x, num_lags).p_value < 0.05 for x in series]))


def with_gaps(series: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.where(random.random(series.shape) < 0.2, np.nan, series)


def test_independent_series_with_gaps_are_rejected_at_the_level(random: np.random.Generator) -> None:
    """1000 data sets of 4 sequences of 30 steps: 5 % within 4 standard errors (0.7 %)."""
    series = with_gaps(random.normal(size=(1000, 4, 30)), random)
    assert abs(rejections(series) - 0.05) < 4 * (0.05 * 0.95 / 1000) ** 0.5


def test_dependent_series_are_rejected_more_often(random: np.random.Generator) -> None:
    noise = random.normal(size=(200, 4, 31))
    assert rejections(with_gaps(noise[..., 1:] + 0.5 * noise[..., :-1], random)) > 0.5


def test_uniformity_is_scipys_test_of_what_was_observed(random: np.random.Generator) -> None:
    u = random.random((3, 20))
    u[0, 5:] = np.nan
    found, known = uniformity(u), stats.kstest(u[np.isfinite(u)], "uniform")
    assert (found.statistic, found.p_value, found.size) == (known.statistic, known.pvalue, 45)
    assert uniformity(u**4).p_value < 1e-4


def test_nothing_to_test_has_no_p_value() -> None:
    assert np.isnan(ljung_box(np.full((2, 5), np.nan), 3).p_value)
    assert np.isnan(ljung_box(np.ones((2, 5)), 3).p_value)
    assert np.isnan(ljung_box(np.ones((2, 1)), 3).p_value)
    assert uniformity(np.full((2, 5), np.nan)).size == 0
