"""Pictures of latent states over time: beliefs as stacked areas, means with bands."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.legend import Legend
from pgm_rnn.report.figures import stacked
from pgm_rnn.report.time_axis import MAX_PANELS, axis_of, axis_title, finish, panel_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 2000
"""Largest number of points of a line; of longer series, the picture shows means over blocks of steps."""
MANY = 10
"""Number of states from which a colour map of the states' order takes the place of distinct colours."""


def beliefs(probs: Tensor, lengths: Tensor, legend: Legend | None, what: str) -> "Figure":
    """Stacked areas of p(z_t = k), one panel per sequence, from probabilities (B, T, K) called "smoothed" or so."""
    figure, panels, shown = _panels(lengths)
    colours = _colours(probs.shape[-1])
    for number, (panel, length) in enumerate(zip(panels, shown, strict=True)):
        times, values = _thinned(axis_of(legend, number, length), probs[number, :length])
        if len(values) == 1:  # an area needs two points
            times, values = np.array([0.5, 1.5]), values.repeat(2, 0)
        names = [f"state {k}" for k in range(values.shape[1])]
        panel.stackplot(times, values.T, labels=names, colors=colours, step="mid", linewidth=0)
        panel.set_ylim(0, 1)
        panel.margins(x=0)
        finish(panel, panel_title(legend, number, len(lengths)), times)
    _name_all(figure, panels, legend, f"{what} probability", len(lengths), probs.shape[-1])
    return figure


def means(centre: Tensor, spread: Tensor, lengths: Tensor, legend: Legend | None, what: str) -> "Figure":
    """Means of every component with bands of two standard deviations, one panel per sequence, from (B, T, D)."""
    figure, panels, shown = _panels(lengths)
    colours = _colours(centre.shape[-1])
    for number, (panel, length) in enumerate(zip(panels, shown, strict=True)):
        axis = axis_of(legend, number, length)
        times, middle = _thinned(axis, centre[number, :length])
        _, width = _thinned(axis, spread[number, :length])
        for k, colour in enumerate(colours):
            low, high = middle[:, k] - 2 * width[:, k], middle[:, k] + 2 * width[:, k]
            panel.fill_between(times, low, high, color=colour, alpha=0.25, linewidth=0)
            panel.plot(times, middle[:, k], color=colour, linewidth=1, label=f"component {k}")
        panel.margins(x=0)
        finish(panel, panel_title(legend, number, len(lengths)), times)
    _name_all(figure, panels, legend, f"{what} mean ± 2 standard deviations", len(lengths), centre.shape[-1])
    return figure


def _panels(lengths: Tensor) -> "tuple[Figure, list[Any], list[int]]":
    """A figure with a panel for each of the first sequences, which share their vertical axis, and their lengths."""
    shown = lengths[:MAX_PANELS].tolist()
    figure, panels = stacked(len(shown), width=8, height=1.7 if len(shown) > 1 else 3.0, same_steps=False)
    return figure, panels, shown


def _thinned(times: NDArray[Any], values: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Times (T,) and values (T, K) as they are, or the first time and the mean of each block of a long series."""
    array = values.detach().cpu().double().numpy()
    size = math.ceil(len(array) / MAX_POINTS)
    if size == 1:
        return times, array
    starts = np.arange(0, len(array), size)
    counts = np.diff(np.append(starts, len(array)))
    return times[starts], np.add.reduceat(array, starts, axis=0) / counts[:, None]


def _colours(num: int) -> list[Any]:
    """Distinct colours for a few states, a colour map in their order for many."""
    import matplotlib

    if num <= MANY:
        return list(matplotlib.colormaps["tab10"].colors[:num])  # type: ignore[attr-defined]
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 1, num)))


def _name_all(
    figure: "Figure", panels: list[Any], legend: Legend | None, label: str, num_sequences: int, num_states: int
) -> None:
    """Labels of the axes, and the names of few states beside the panels."""
    panels[-1].set_xlabel(axis_title(legend), fontsize=9)
    figure.supylabel(label, fontsize=9)
    if num_sequences > len(panels):
        figure.suptitle(f"the first {len(panels)} of {num_sequences} sequences", fontsize=9)
    if 1 < num_states <= MANY:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", fontsize=8, frameon=False)
