"""Pictures as the contents of a file; the same picture gives the same bytes."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
DOTS_PER_INCH = 150


def rendered(figure: "Figure", suffix: str) -> bytes:
    """The contents of a .png or .svg file, without a time stamp."""
    import matplotlib

    contents = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if suffix == ".svg" else {"Software": None}
    settings: Any = {"svg.hashsalt": "pgm_rnn", "svg.fonttype": "none", "path.simplify": False}
    with matplotlib.rc_context(settings):
        figure.savefig(contents, format=suffix[1:], dpi=DOTS_PER_INCH, metadata=metadata)
    return contents.getvalue()


def stacked(
    num_panels: int,
    *,
    width: float,
    height: float,
    same_steps: bool = True,
    same_values: bool = True,
    shown: bool = False,
) -> "tuple[Figure, list[Axes]]":
    """A figure of stacked panels, each `height` inches high, that share their axes or only one of them.

    Only if it is `shown` does pyplot know the figure.
    """
    figure = _figure(width, height * num_panels + 0.5, shown=shown)
    panels: NDArray[Any] = figure.subplots(num_panels, 1, squeeze=False, sharex=same_steps, sharey=same_values)
    return figure, list(panels[:, 0])


def paired(num_rows: int, *, width: float, height: float, shown: bool = False) -> NDArray[Any]:
    """Axes (num_rows, 2) of a new figure, each row `height` inches high, the left ones half as wide as the right."""
    figure = _figure(width, height * num_rows + 0.5, shown=shown)
    panels: NDArray[Any] = figure.subplots(num_rows, 2, squeeze=False, width_ratios=(1, 2))
    return panels


def beside(
    sizes: Sequence[tuple[float, float]], *, width: float, unit: float, room: float, shown: bool = False
) -> "tuple[Figure, list[Axes]]":
    """Axes beside each other for pictures of these widths and heights, all on one scale.

    Args:
        sizes: width and height of each picture, in any unit.
        width: of the figure, inches.
        unit: largest length of a unit, inches.
        room: additional height for titles and a legend, inches.
        shown: whether pyplot knows the figure.
    """
    widths, heights = zip(*sizes, strict=True)
    figure = _figure(width, min(unit, width / sum(widths)) * max(heights) + room, shown=shown)
    panels: NDArray[Any] = figure.subplots(1, len(sizes), squeeze=False, width_ratios=widths)
    return figure, list(panels[0])


def _figure(width: float, height: float, *, shown: bool) -> "Figure":
    """An empty figure of that many inches."""
    if shown:
        from matplotlib import pyplot

        return pyplot.figure(figsize=(width, height), layout="constrained")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tiled(num_panels: int, *, side: float) -> "tuple[Figure, list[Axes]]":
    """A figure of square cells, `side` inches wide and without axes, on a grid about 1.5 times as wide as high."""
    from matplotlib.figure import Figure

    columns = min(num_panels, math.ceil(math.sqrt(1.5 * num_panels)))
    rows = math.ceil(num_panels / columns)
    figure = Figure(figsize=(side * columns, side * rows), layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False)).tolist()
    for panel in panels:
        panel.set_axis_off()
    return figure, panels[:num_panels]
