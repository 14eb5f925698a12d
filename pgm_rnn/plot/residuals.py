"""One-step residuals of a model: their course, their autocorrelation, and their PIT values, which should be uniform."""

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

from pgm_rnn.report.canvas import TEXT, canvas_on
from pgm_rnn.report.diagnostics.diagnosis import Diagnosis
from pgm_rnn.report.looks import GREY, INK
from pgm_rnn.report.time_axis import finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LAGS, BINS, LEVEL = 30, 10, 0.95
LIMIT = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""The middle 95 % of a standard normal law end here."""


def residuals(found: Any = None, pit: Any = None, *, axes: Any = None) -> "list[Axes]":
    """Draw residuals over the steps, their autocorrelation, and the histogram of PIT values.

    With a correct model the residuals are independent and standard normal, and the PIT values uniform: 95 % of the
    autocorrelations lie in the grey band ± 1.96 / sqrt(n), and 95 % of the bars in the grey band of the histogram.

    Args:
        found: standardised residuals, (T,), or (B, T) with NaN in the padding and where nothing was observed; a result
            of `pgm_rnn.diagnose`, of all its variables; or an object with attributes `residuals` and `pit`. None to
            make them from `pit` by the normal quantile function.
        pit: probabilities F(x_t | x_{1:t-1}) of the same shape; None to leave the histogram out.
        axes: matplotlib axes, one for each panel; None for a new figure.

    Returns:
        The axes: course and autocorrelation, and the histogram where there are PIT values.

    Raises:
        ValueError: neither residuals nor PIT values, fewer than three of them, or PIT values outside 0..1.
    """
    if isinstance(found, Diagnosis):
        pit, found = found.pit, None
        if pit is None:
            raise ValueError("expected a diagnosis with PIT values, got one without; its text says why")
        pit = pit.movedim(-1, 1).flatten(0, 1)  # (B * M, T)
    elif hasattr(found, "residuals"):
        found, pit = found.residuals, getattr(found, "pit", pit)
    if found is None and pit is None:
        raise ValueError("expected residuals or PIT values, got neither; give arrays of either")
    levels = None if pit is None else _rows(pit)
    if levels is not None and bool(((levels < 0) | (levels > 1)).any()):
        raise ValueError(f"expected PIT values in 0..1, got {np.nanmin(levels):g} to {np.nanmax(levels):g}")
    values = _quantiles(levels) if found is None else _rows(found)
    number = int(np.isfinite(values).sum())
    if number < 3:
        raise ValueError(f"expected at least three residuals, got {number}")
    panels = canvas_on(axes).panels(2 if levels is None else 3, height=1.7)
    _draw_course(panels[0], values)
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


def _quantiles(levels: NDArray[Any] | None) -> NDArray[Any]:
    """The quantiles of a standard normal law at these levels."""
    from scipy.special import ndtri

    assert levels is not None  # one of the two is there
    return np.asarray(ndtri(levels))


def _rows(values: Any) -> NDArray[Any]:
    """Numbers as sequences (B, T)."""
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=float)
    if array.ndim > 2:
        raise ValueError(
            f"expected values (T,) or (B, T), got shape {array.shape}; choose one variable, values[..., 0]"
        )
    return np.atleast_2d(array)


def _draw_course(panel: "Axes", values: NDArray[Any]) -> None:
    sequence, step = np.isfinite(values).nonzero()
    panel.axhspan(-LIMIT, LIMIT, color="0.93", linewidth=0)
    panel.axhline(0, color=GREY, linewidth=0.8)
    panel.plot(step + 1, values[sequence, step], linestyle="none", marker="o", markersize=2.5, color=INK, alpha=0.7)
    panel.set_xlabel("step", fontsize=TEXT)
    panel.set_ylabel("residual", fontsize=TEXT)
    many = f" of {len(values)} sequences" if len(values) > 1 else ""
    finish(panel, f"residuals{many}; 95 % of N(0, 1) in the band", step)


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
