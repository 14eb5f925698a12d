"""What a picture is drawn on: the axes of a caller, or a new figure; its legend stands beside the data, never on them.

A new figure is 6.4 inches wide, so that its text is readable where the picture is 600 pixels wide.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pgm_rnn.report.figures import stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 6.4
"""Width of a new figure, inches."""
TEXT, SMALL = 10, 9
"""Sizes of titles and names, and of ticks and legends, points."""
LETTERS = 84
"""Letters of a legend that fit into one line of a new figure."""
MAX_PANELS = 6
"""Largest number of panels of one picture."""


class Canvas(NamedTuple):
    """Where a picture is drawn.

    Attributes:
        axes: the axes of a caller; None for those of a new figure.
        shown: whether pyplot knows a new figure, so that notebooks and `pyplot.show` show it.
    """

    axes: "tuple[Axes, ...] | None" = None
    shown: bool = False

    def number(self, wanted: int) -> int:
        """How many of `wanted` panels there is room for: `MAX_PANELS`, or as many as the caller has axes."""
        return min(wanted, MAX_PANELS if self.axes is None else len(self.axes))

    def panels(
        self, num: int, *, height: float = 1.7, alone: float = 3.0, same_steps: bool = False, same_values: bool = False
    ) -> "list[Axes]":
        """The axes of `num` panels, one above the other in a new figure.

        Args:
            num: number of panels.
            height: height of each in a new figure, inches.
            alone: height of a single one.
            same_steps: whether they share their horizontal axis in a new figure.
            same_values: whether they share their vertical axis in a new figure.

        Raises:
            ValueError: a caller with fewer axes than panels.
        """
        if self.axes is None:
            high = height if num > 1 else alone
            return stacked(
                num, width=WIDTH, height=high, same_steps=same_steps, same_values=same_values, shown=self.shown
            )[1]
        if len(self.axes) < num:
            raise ValueError(
                f"expected {num} axes, one for each panel, got {len(self.axes)}; make them by pyplot.subplots({num})"
            )
        return list(self.axes[:num])

    def name(self, panels: "Sequence[Axes]", x: str, y: str) -> None:
        """Name both axes of panels that stand one above the other."""
        panels[-1].set_xlabel(x, fontsize=TEXT)
        if self.axes is None and len(panels) > 1:
            figure: Any = panels[0].figure
            figure.supylabel(y, fontsize=TEXT)
            return
        for panel in panels:
            panel.set_ylabel(y, fontsize=TEXT)

    def legend(self, panels: "Sequence[Axes]", *, at_most: int = 20) -> None:
        """A legend of the named artists of all panels: above a new figure's panels, or right of a caller's first one.

        Args:
            panels: the panels.
            at_most: largest number of names; where there are more, there is no legend.
        """
        named = {
            label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        if not 0 < len(named) <= at_most:
            return
        handles, labels = list(named.values()), list(named)
        if self.axes is None:
            columns = num_columns(labels, WIDTH)
            figure: Any = panels[0].figure
            figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=SMALL, frameon=False)
        else:
            panels[0].legend(
                handles,
                labels,
                loc="upper left",
                bbox_to_anchor=(1.02, 1.0),
                borderaxespad=0,
                fontsize=SMALL,
                frameon=False,
            )


def num_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of a legend fit into a figure of that width, inches."""
    return max(1, min(len(labels), int(LETTERS * width / WIDTH) // (max(map(len, labels)) + 8)))


FILE = Canvas()
"""A new figure that only a file will show."""


def canvas_on(axes: Any) -> Canvas:
    """The canvas of a caller's axes, or of a new figure that pyplot shows.

    Args:
        axes: one `matplotlib.axes.Axes`, several in a list, tuple or array, or None.

    Raises:
        TypeError: something else.
    """
    from matplotlib.axes import Axes

    if axes is None:
        return Canvas(shown=True)
    given = [axes] if isinstance(axes, Axes) else list(np.ravel(np.asarray(axes, dtype=object)))
    wrong = [part for part in given if not isinstance(part, Axes)]
    if wrong or not given:
        got = type(wrong[0]).__name__ if wrong else "none"
        raise TypeError(f"expected matplotlib axes, as from pyplot.subplots, got {got}")
    return Canvas(tuple(given), shown=True)
