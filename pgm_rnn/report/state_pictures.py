"""Pictures of latent states over time: beliefs as stacked areas, means with bands."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.legend import Legend
from pgm_rnn.report.canvas import FILE, SMALL, Canvas
from pgm_rnn.report.looks import FEW, looks
from pgm_rnn.report.time_axis import axis_of, axis_title, edges_of, finish, panel_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 2000
"""Largest number of points of a line; of longer series, the picture shows means over blocks of steps."""
HATCHED = 0.5
"""Strength of the white hatches of areas."""


def beliefs(probs: Tensor, lengths: Tensor, legend: Legend | None, what: str, canvas: Canvas = FILE) -> "list[Axes]":
    """Stacked areas of p(z_t = k), one panel per sequence, from probabilities (B, T, K) called "smoothed" or so.

    Up to eight states have names and hatches; more have a colour bar.
    """
    panels = canvas.panels(canvas.number(len(lengths)), same_values=True)
    for number, panel in enumerate(panels):
        length = int(lengths[number])
        times, values = thinned(axis_of(legend, number, length), probs[number, :length])
        stack(panel, edges_of(times), values, [f"state {k}" for k in range(values.shape[1])])
        finish(panel, panel_title(legend, number, len(lengths)), times)
    _name(canvas, panels, legend, f"{what} probability", len(lengths), probs.shape[-1])
    return panels


def stack(panel: "Axes", edges: NDArray[Any], probs: NDArray[Any], names: list[str]) -> None:
    """Probabilities (T, K) as stacked areas between the edges (T + 1,) of their steps, with a name for each."""
    import matplotlib

    upper = probs.cumsum(axis=1)
    lower = upper - probs
    ends = edges.repeat(2)[1:-1]  # (2 T,)
    with matplotlib.rc_context({"hatch.color": "white", "hatch.linewidth": HATCHED}):
        for k, look in enumerate(looks(probs.shape[1])):
            panel.fill_between(
                ends,
                lower[:, k].repeat(2),
                upper[:, k].repeat(2),
                facecolor=look.color,
                edgecolor="white",
                hatch=look.hatch,
                linewidth=0,
                label=names[k],
            )
    panel.set_ylim(0, 1)
    panel.margins(x=0)


def means(
    centre: Tensor, spread: Tensor, lengths: Tensor, legend: Legend | None, what: str, canvas: Canvas = FILE
) -> "list[Axes]":
    """Means of every component with bands of two standard deviations, one panel per sequence, from (B, T, D)."""
    panels = canvas.panels(canvas.number(len(lengths)), same_values=True)
    for number, panel in enumerate(panels):
        length = int(lengths[number])
        axis = axis_of(legend, number, length)
        bands(panel, axis, centre[number, :length], spread[number, :length])
        finish(panel, panel_title(legend, number, len(lengths)), axis)
    _name(canvas, panels, legend, f"{what} mean ± 2 sd", len(lengths), centre.shape[-1])
    return panels


def bands(panel: "Axes", axis: NDArray[Any], centre: Tensor, spread: Tensor) -> None:
    """Lines through means (T, D) with bands of two standard deviations."""
    times, middle = thinned(axis, centre)
    _, width = thinned(axis, spread)
    mark = "o" if len(times) == 1 else None
    for k, look in enumerate(looks(middle.shape[1])):
        low, high = middle[:, k] - 2 * width[:, k], middle[:, k] + 2 * width[:, k]
        panel.fill_between(times, low, high, color=look.color, alpha=0.25, linewidth=0)
        panel.plot(
            times,
            middle[:, k],
            color=look.color,
            linestyle=look.dashes,
            linewidth=1.4,
            marker=mark,
            label=f"component {k}" if middle.shape[1] > 1 else "state",
        )
    panel.margins(x=0)


def thinned(times: NDArray[Any], values: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Times (T,) and values (T, K) as they are, or the first time and the mean of each block of a long series."""
    array = values.detach().cpu().double().numpy()
    size = math.ceil(len(array) / MAX_POINTS)
    if size == 1:
        return times, array
    starts = np.arange(0, len(array), size)
    counts = np.diff(np.append(starts, len(array)))
    return times[starts], np.add.reduceat(array, starts, axis=0) / counts[:, None]


def colour_bar(panels: "list[Axes]", num: int, name: str) -> None:
    """A colour bar of many members of a group, beside the panels."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure: Any = panels[0].figure
    bar = figure.colorbar(ScalarMappable(Normalize(0, num - 1), "viridis"), ax=panels, pad=0.01)
    bar.set_label(name, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)


def _name(
    canvas: Canvas, panels: "list[Axes]", legend: Legend | None, label: str, num_sequences: int, num_states: int
) -> None:
    """Names of the axes, and of the states."""
    canvas.name(panels, axis_title(legend, len(panels), num_sequences), label)
    if 1 < num_states <= FEW:
        canvas.legend(panels[:1])
    elif num_states > FEW:
        colour_bar(panels, num_states, "state" if "probability" in label else "component")
