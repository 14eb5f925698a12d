"""Many variables of one sequence as an image: time to the right, one row for each variable."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.legend import Column
from pgm_rnn.report.canvas import SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY = 4
"""Number of variables above which a sequence is an image."""
MAX_NAMES = 6


def draw_image(panel: "Axes", edges: NDArray[Any], values: NDArray[Any], columns: tuple[Column, ...]) -> None:
    """Values (T, M) between the edges (T + 1,) of their steps.

    Bits are black, in the rows that have any. Numbers are differences to each variable's mean, in standard deviations.
    """
    bits = bool(np.isin(values[~np.isnan(values)], (0, 1)).all())
    first, last = _sounding(values) if bits else (0, values.shape[1] - 1)
    shown = values[:, first : last + 1]
    if not bits:
        spread = np.nanstd(shown, axis=0)
        shown = (shown - np.nanmean(shown, axis=0)) / np.where(spread > 0, spread, 1.0)
    limits = (0.0, 1.0) if bits else (-2.5, 2.5)
    rows = np.arange(first, last + 2) - 0.5
    image = panel.pcolormesh(
        edges, rows, shown.T, cmap="Greys" if bits else "cividis", vmin=limits[0], vmax=limits[1], rasterized=True
    )
    places = range(first, last + 1, -(-(last + 1 - first) // MAX_NAMES))
    panel.set_yticks(list(places), [columns[place].name for place in places])
    panel.set_ylabel("variable", fontsize=SMALL)
    if not bits:
        figure: Any = panel.figure
        bar = figure.colorbar(image, ax=panel, extend="both", pad=0.01)
        bar.set_label("sd from mean", fontsize=SMALL)
        bar.ax.tick_params(labelsize=SMALL)


def _sounding(bits: NDArray[Any]) -> tuple[int, int]:
    """The first and the last variable that is ever one; all of them if none is."""
    found = np.flatnonzero((bits == 1).any(axis=0))
    return (int(found[0]), int(found[-1])) if len(found) else (0, bits.shape[1] - 1)
