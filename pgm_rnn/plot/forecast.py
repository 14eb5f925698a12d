"""A forecast after the end of each series."""

from typing import TYPE_CHECKING, Any

from pgm_rnn.report.canvas import canvas_on
from pgm_rnn.report.forecast_pictures import fan
from pgm_rnn.report.forecasts import Forecast

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def forecast(ahead: Forecast, *, axes: Any = None) -> "list[Axes]":
    """Draw the end of each series, then medians with central intervals, or probabilities of symbols.

    Args:
        ahead: the result of `pgm_rnn.forecast`.
        axes: one or several matplotlib axes, one for each sequence and variable; None for a new figure of up to six.

    Returns:
        The axes that are used.

    Raises:
        TypeError: something else than a forecast.
    """
    if not isinstance(ahead, Forecast):
        raise TypeError(
            f"expected a result of pgm_rnn.forecast, got {type(ahead).__name__}; "
            "use pgm_rnn.forecast(model, data, num_steps)"
        )
    return fan(ahead, canvas_on(axes))
