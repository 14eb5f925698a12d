"""What can be seen of a picture: names in legends, lines by their names, and what a legend covers."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pgm_rnn.legend import Column, Legend

DATES = np.array(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"], dtype="datetime64[D]")


def figure_of(axes: Any) -> Figure:
    figure = np.ravel(np.asarray(axes, dtype=object))[0].figure
    assert isinstance(figure, Figure)
    return figure


def names(axes: Any) -> list[str]:
    """The names in all legends of a figure."""
    return [text.get_text() for legend in legends(figure_of(axes)) for text in legend.get_texts()]


def legends(figure: Figure) -> list[Any]:
    own = [axis.get_legend() for axis in figure.axes]
    return [*figure.legends, *(legend for legend in own if legend is not None)]


def covered(figure: Figure) -> list[tuple[Any, Axes]]:
    """Each legend with a panel that it covers by more than a pixel."""
    figure.canvas.draw()
    found = []
    for legend in legends(figure):
        box = legend.get_window_extent()
        for axis in figure.axes:
            panel = axis.get_window_extent()
            width = min(box.x1, panel.x1) - max(box.x0, panel.x0)
            height = min(box.y1, panel.y1) - max(box.y0, panel.y0)
            if width > 1 and height > 1:
                found.append((legend, axis))
    return found


def cut_off(figure: Figure) -> list[Any]:
    """Legends that leave the figure."""
    figure.canvas.draw()
    width, height = figure.bbox.size
    boxes = {legend: legend.get_window_extent() for legend in legends(figure)}
    return [
        legend
        for legend, box in boxes.items()
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


def line(axis: Axes, name: str) -> Line2D:
    (found,) = [line for line in axis.get_lines() if line.get_label() == name]
    return found


def outlines(collection: Any) -> list[NDArray[Any]]:
    """The points (n, 2) of each part of an area."""
    return [np.asarray(path.vertices) for path in collection.get_paths()]


def machines(*kinds: Any) -> Legend:
    """A legend of two machines over four and three days, with columns of these kinds."""
    columns = tuple(Column(f"flow {kind}", kind, "m3/s") for kind in kinds)
    return Legend(columns, sequence="machine", ids=("A", "B"), time="day", times=(DATES, DATES[:3]))
