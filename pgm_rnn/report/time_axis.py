"""The axis of time of a picture, in the user's times."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.legend import Legend
from pgm_rnn.report.canvas import SMALL, TEXT
from pgm_rnn.report.places import name_of_ids, name_of_times


def axis_of(legend: Legend | None, sequence: int, length: int) -> NDArray[Any]:
    """Dates or numbers of a sequence's steps; steps from 1 where times are words or unknown: (length,)."""
    if legend is not None and legend.times:
        times = np.asarray(legend.times[sequence])
        if times.dtype.kind in "iufM":
            return times
    return np.arange(1, length + 1)


def edges_of(times: NDArray[Any]) -> NDArray[Any]:
    """Where the steps of an axis begin and end, half way between their times: (length + 1,)."""
    exact = times.astype("datetime64[ms]" if times.dtype.kind == "M" else float)
    if len(exact) == 1:
        half = np.timedelta64(12, "h") if exact.dtype.kind == "M" else 0.5
        return np.array([exact[0] - half, exact[0] + half])
    halves = np.diff(exact) / 2
    return np.concatenate([exact[:1] - halves[0], exact[:-1] + halves, exact[-1:] + halves[-1]])


def axis_title(legend: Legend | None, shown: int = 0, num_sequences: int = 0) -> str:
    """The name of the axis, and how many of the sequences are shown if it is not all of them."""
    known = legend is not None and legend.times and np.asarray(legend.times[0]).dtype.kind in "iufM"
    name = name_of_times(legend) if known else "step"
    return f"{name} (the first {shown} of {num_sequences} sequences)" if shown < num_sequences else name


def panel_title(legend: Legend | None, sequence: int, num_sequences: int) -> str:
    """The id of a sequence, such as "machine A"; nothing for a single series without one."""
    if legend is not None and legend.ids:
        return f"{name_of_ids(legend)} {legend.ids[sequence]}"
    return f"sequence {sequence}" if num_sequences > 1 else ""


def finish(panel: Any, title: str, values: NDArray[Any] | None = None) -> None:
    """A title, readable ticks, no frame on two sides; whole steps or dates where `values` are on the axis of time."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    panel.set_title(title, loc="left", fontsize=TEXT)
    panel.tick_params(labelsize=SMALL, length=2)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    if values is None:
        return
    if values.dtype.kind == "M":
        locator = AutoDateLocator()
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    elif values.dtype.kind in "iu":
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
