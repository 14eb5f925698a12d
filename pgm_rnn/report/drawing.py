"""Handwriting as a picture: a grid of drawings, each scaled to fit into its square cell."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.report.figures import tiled
from pgm_rnn.report.looks import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Stroke = NDArray[Any]
"""Points (n, 2) that are joined by one line."""


def strokes_of(drawing: Tensor) -> list[Stroke]:
    """The lines of a drawing (T, 3): offsets (dx, dy) and a bit that is 1 if the pen is lifted afterwards.

    An offset draws nothing if it is the first one or follows a lift of the pen.
    """
    steps = drawing.detach().cpu().double().numpy()
    ends = np.flatnonzero(steps[:, 2] > 0.5) + 1
    return [stroke for stroke in np.split(steps[:, :2].cumsum(axis=0), ends) if len(stroke)]


def pen_drawings(drawings: Sequence[Tensor]) -> "Figure":
    """A picture of drawings (T_i, 3): offsets (dx, dy), y downwards, and bits."""
    figure = _drawn([strokes_of(drawing) for drawing in drawings])
    for panel in figure.axes:
        panel.invert_yaxis()
    return figure


def paths(points: Sequence[Tensor]) -> "Figure":
    """A picture of paths through points (T_i, 2), y upwards, with a dot where each path begins."""
    lines = [path.detach().cpu().double().numpy() for path in points]
    figure = _drawn([[line] for line in lines])
    for panel, line in zip(figure.axes, lines, strict=False):
        panel.plot(*line[0], "o", color=INK, markersize=4, clip_on=False)
    return figure


def _drawn(drawings: Sequence[Sequence[Stroke]]) -> "Figure":
    from matplotlib.collections import LineCollection

    figure, panels = tiled(len(drawings), side=1.3)
    for number, (panel, strokes) in enumerate(zip(panels, drawings, strict=True), 1):
        lines = [stroke if len(stroke) > 1 else stroke.repeat(2, axis=0) for stroke in strokes]  # one point is a dot
        collection = LineCollection(
            lines, colors=INK, linewidths=1.4, capstyle="round", joinstyle="round", clip_on=False
        )
        collection.set_gid(f"drawing-{number}")
        panel.add_collection(collection)
        panel.set_aspect("equal")
        panel.margins(0.08)
        panel.autoscale_view()
    return figure
