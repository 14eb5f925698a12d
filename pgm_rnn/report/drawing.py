"""Handwriting as a picture: a grid of drawings, each fitted into its cell, as wide as it is high."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.report.figures import INK, tiled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Stroke = NDArray[Any]
"""Points (n, 2) that one line joins."""


def strokes_of(drawing: Tensor) -> list[Stroke]:
    """The lines of a drawing (T, 3) of offsets and a bit for the pen that is lifted after them.

    The pen starts nowhere, so its first offset draws nothing; nor does one after it was lifted.
    """
    steps = drawing.detach().cpu().double().numpy()
    ends = np.flatnonzero(steps[:, 2] > 0.5) + 1
    return [stroke for stroke in np.split(steps[:, :2].cumsum(axis=0), ends) if len(stroke)]


def pen_drawings(drawings: Sequence[Tensor]) -> "Figure":
    """Drawings (T_i, 3) of offsets (dx, dy), y downwards, and bits."""
    figure = _drawn([strokes_of(drawing) for drawing in drawings])
    for panel in figure.axes:
        panel.invert_yaxis()
    return figure


def paths(points: Sequence[Tensor]) -> "Figure":
    """Paths through points (T_i, 2), y upwards; a dot is where each begins."""
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
