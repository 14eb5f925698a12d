"""The axis of time of a picture, in the user's times."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.legend import Legend
from pgm_rnn.report.places import name_of_ids, name_of_times

MAX_PANELS = 12
"""Largest number of sequences in one picture, the first ones."""


def axis_of(legend: Legend | None, sequence: int, length: int) -> NDArray[Any]:
    """Dates or numbers of a sequence's steps; steps from 1 where times are words or unknown: (length,)."""
    if legend is not None and legend.times:
        times = np.asarray(legend.times[sequence])
        if times.dtype.kind in "iufM":
            return times
    return np.arange(1, length + 1)


def axis_title(legend: Legend | None) -> str:
    """The name of the axis."""
    if legend is None or not legend.times or np.asarray(legend.times[0]).dtype.kind not in "iufM":
        return "step"
    return name_of_times(legend)


def panel_title(legend: Legend | None, sequence: int, num_sequences: int) -> str:
    """The id of a sequence, such as "machine A"; nothing for a single series without one."""
    if legend is not None and legend.ids:
        return f"{name_of_ids(legend)} {legend.ids[sequence]}"
    return f"sequence {sequence}" if num_sequences > 1 else ""


def finish(panel: Any, title: str, values: NDArray[Any]) -> None:
    """A title, small ticks, no frame, whole steps."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    panel.set_title(title, loc="left", fontsize=9)
    panel.tick_params(labelsize=8, length=2)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    if values.dtype.kind == "M":
        locator = AutoDateLocator()
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    elif values.dtype.kind in "iu":
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
