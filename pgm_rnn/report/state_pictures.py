"""Pictures of latent states over time: beliefs as stacked areas, means with bands."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.legend import Legend
from pgm_rnn.report.canvas import FILE, MAX_PANELS, SMALL, Canvas
from pgm_rnn.report.looks import FEW, looks
from pgm_rnn.report.time_axis import axis_of, axis_title, edges_of, finish, panel_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 2000
"""Largest number of points of a line; of longer series, the picture shows means over blocks of steps."""
HATCHED = 0.5
"""Strength of the white hatches of areas."""
MOST_HATCHED = 150
"""Largest number of steps whose areas have hatches: narrower ones would be nothing but hatches."""
FLAT = 10.0
"""Components whose common axis is this many times as long as one of them moves are drawn apart."""


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
                hatch=look.hatch if len(probs) <= MOST_HATCHED else None,
                linewidth=0,
                label=names[k],
            )
    panel.set_ylim(0, 1)
    panel.margins(x=0)


def means(
    centre: Tensor, spread: Tensor, lengths: Tensor, legend: Legend | None, what: str, canvas: Canvas = FILE
) -> "list[Axes]":
    """Means of every component with bands of two standard deviations, one panel per sequence, from (B, T, D).

    Components of a single sequence that would be flat beside each other have a panel each.
    """
    if len(lengths) == 1 and are_apart(centre[0, : int(lengths[0])]):
        return _each(centre[0], spread[0], int(lengths[0]), legend, what, canvas)
    panels = canvas.panels(canvas.number(len(lengths)), same_values=True)
    for number, panel in enumerate(panels):
        length = int(lengths[number])
        axis = axis_of(legend, number, length)
        bands(panel, axis, centre[number, :length], spread[number, :length])
        finish(panel, panel_title(legend, number, len(lengths)), axis)
    _name(canvas, panels, legend, f"{what} mean ± 2 sd", len(lengths), centre.shape[-1])
    return panels


def are_apart(centre: Tensor) -> bool:
    """Whether one of a few means (T, D), D > 1, would look flat on the axis that all of them need."""
    ends = [part(0).values for part in (centre.min, centre.max)]
    moves = (ends[1] - ends[0])[ends[1] > ends[0]]
    return 1 < centre.shape[1] <= MAX_PANELS and bool((FLAT * moves < ends[1].max() - ends[0].min()).any())


def _each(
    centre: Tensor, spread: Tensor, length: int, legend: Legend | None, what: str, canvas: Canvas
) -> "list[Axes]":
    """One panel for each component of a sequence, from (T, D)."""
    panels = canvas.panels(canvas.number(centre.shape[1]), height=1.3, same_steps=True)
    axis = axis_of(legend, 0, length)
    for number, panel in enumerate(panels):
        part = slice(number, number + 1)
        bands(panel, axis, centre[:length, part], spread[:length, part], colors=centre.shape[1], first=number)
        finish(panel, f"component {number}", axis)
    canvas.name(panels, axis_title(legend, 1, 1), f"{what} mean ± 2 sd")
    return panels


def bands(
    panel: "Axes", axis: NDArray[Any], centre: Tensor, spread: Tensor, *, colors: int | None = None, first: int = 0
) -> None:
    """Lines through means (T, D) with bands of two standard deviations.

    Args:
        panel: where to draw.
        axis: the times, (T,).
        centre: means, (T, D).
        spread: standard deviations, (T, D).
        colors: number of components that share the colours, each named by the title of its panel; None for D.
        first: number of the first component.
    """
    times, middle = thinned(axis, centre)
    _, width = thinned(axis, spread)
    mark = "o" if len(times) == 1 else None
    for k, look in enumerate(looks(colors or middle.shape[1])[first : first + middle.shape[1]]):
        low, high = middle[:, k] - 2 * width[:, k], middle[:, k] + 2 * width[:, k]
        panel.fill_between(times, low, high, color=look.color, alpha=0.25, linewidth=0)
        panel.plot(
            times,
            middle[:, k],
            color=look.color,
            linestyle=look.dashes if colors is None else "-",  # alone in its panel
            linewidth=1.4,
            marker=mark,
            label=None if colors else f"component {k}" if middle.shape[1] > 1 else "state",
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
