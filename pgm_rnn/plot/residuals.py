"""One-step residuals of a model: their course, their autocorrelation, and their PIT values, which should be uniform."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.report.canvas import canvas_on
from pgm_rnn.report.diagnostics.diagnosis import Diagnosis
from pgm_rnn.report.residual_pictures import of_residuals

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        return found.draw(canvas_on(axes))
    if hasattr(found, "residuals"):
        found, pit = found.residuals, getattr(found, "pit", pit)
    if found is None and pit is None:
        raise ValueError("expected residuals or PIT values, got neither; give arrays of either")
    levels = None if pit is None else _rows(pit)
    if levels is not None and bool(((levels < 0) | (levels > 1)).any()):
        raise ValueError(f"expected PIT values in 0..1, got {np.nanmin(levels):g} to {np.nanmax(levels):g}")
    values = _quantiles(levels) if found is None else _rows(found)
    return of_residuals(values, levels, canvas_on(axes))


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
