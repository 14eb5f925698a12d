"""Pictures as the contents of a file; the same picture gives the same bytes."""

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
DOTS_PER_INCH = 150
INK = "#1f3b63"


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
    num_panels: int, *, width: float, height: float, same_steps: bool = True, same_values: bool = True
) -> "tuple[Figure, list[Axes]]":
    """A figure of stacked panels, each `height` inches high, that share their axes or only one of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * num_panels + 0.5), layout="constrained")
    panels: NDArray[Any] = figure.subplots(num_panels, 1, squeeze=False, sharex=same_steps, sharey=same_values)
    return figure, list(panels[:, 0])


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
