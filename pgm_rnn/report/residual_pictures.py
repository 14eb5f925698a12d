"""Pictures of one-step residuals: their course, their autocorrelation, and the histogram of their PIT values."""

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.report.canvas import TEXT, Canvas
from pgm_rnn.report.looks import GREY, INK
from pgm_rnn.report.time_axis import finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LAGS, BINS, LEVEL = 30, 10, 0.95
LIMIT = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""The middle 95 % of a standard normal law end here."""


def of_residuals(
    values: NDArray[Any], levels: NDArray[Any] | None, canvas: Canvas, num_variables: int = 1
) -> "list[Axes]":
    """Draw a panel of the course, one of autocorrelations, and one of PIT values where they are given.

    Args:
        values: residuals, (B, T), NaN where there is none.
        levels: PIT values likewise, or None.
        canvas: what to draw on.
        num_variables: variables among the rows, each of which has as many rows as there are sequences.

    Raises:
        ValueError: fewer than three residuals.
    """
    number = int(np.isfinite(values).sum())
    if number < 3:
        raise ValueError(f"expected at least three residuals, got {number}")
    panels = canvas.panels(2 if levels is None else 3, height=1.7)
    _draw_course(panels[0], values, num_variables)
    _draw_correlations(panels[1], values)
    if levels is not None:
        _draw_levels(panels[2], levels[~np.isnan(levels)])
    return panels


def autocorrelations(values: NDArray[Any], max_lag: int) -> NDArray[Any]:
    """r_k = sum_t e_t e_{t+k} / sum_t e_t^2 with centred e, over pairs in one row of (B, T), k = 1..max_lag.

    NaN is left out, as Box, Jenkins & Reinsel's estimate with missing values.
    """
    centred = values - np.nanmean(values)
    total = np.nansum(centred**2)
    return np.array([np.nansum(centred[:, lag:] * centred[:, :-lag]) / total for lag in range(1, max_lag + 1)])


def _draw_course(panel: "Axes", values: NDArray[Any], num_variables: int) -> None:
    sequence, step = np.isfinite(values).nonzero()
    panel.axhspan(-LIMIT, LIMIT, color="0.93", linewidth=0)
    panel.axhline(0, color=GREY, linewidth=0.8)
    panel.plot(step + 1, values[sequence, step], linestyle="none", marker="o", markersize=2.5, color=INK, alpha=0.7)
    panel.set_xlabel("step", fontsize=TEXT)
    panel.set_ylabel("residual", fontsize=TEXT)
    numbers = ((len(values) // num_variables, "sequences"), (num_variables, "variables"))
    many = " in ".join(f"{number} {what}" for number, what in numbers[::-1] if number > 1)
    finish(panel, f"residuals{many and ' of '}{many}; 95 % of N(0, 1) in the band", step)


def _draw_correlations(panel: "Axes", values: NDArray[Any]) -> None:
    number = int(np.isfinite(values).sum())
    lags = np.arange(1, min(MAX_LAGS, values.shape[1] - 1, number - 1) + 1)
    found = autocorrelations(np.where(np.isfinite(values), values, np.nan), len(lags))
    limit = LIMIT / math.sqrt(number)
    panel.axhspan(-limit, limit, color="0.9", linewidth=0)
    panel.axhline(0, color=GREY, linewidth=0.8)
    panel.vlines(lags, 0, found, color=INK, linewidth=2)
    panel.plot(lags, found, linestyle="none", marker="o", markersize=3, color=INK)
    panel.set_xlabel("lag, steps", fontsize=TEXT)
    panel.set_ylabel("autocorrelation", fontsize=TEXT)
    finish(panel, "autocorrelation; 95 % of independent residuals' in the band", lags)


def _draw_levels(panel: "Axes", levels: NDArray[Any]) -> None:
    from scipy.stats import binom

    counts, edges = np.histogram(levels, BINS, range=(0, 1))
    low, high = (float(binom.ppf(p, len(levels), 1 / BINS)) for p in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    panel.axhspan(low, high, color="0.9", linewidth=0)
    panel.axhline(len(levels) / BINS, color=GREY, linewidth=0.8)
    panel.stairs(counts, edges, color=INK, linewidth=1.6)
    panel.set_ylim(0, 1.1 * max(high, counts.max()))
    panel.set_xlim(0, 1)
    panel.set_xlabel("PIT, F(x | past)", fontsize=TEXT)
    panel.set_ylabel("steps", fontsize=TEXT)
    finish(panel, "PIT values; 95 % of uniform counts in the band")
