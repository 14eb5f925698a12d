"""Pictures of experiments: the palette, curves with their intervals, and a figure as PNG and SVG.

Colours are those of Okabe & Ito (2008), which people with any kind of colour vision tell apart; markers and dashes
differ too. The files' bytes depend on the rows alone.
"""

import io
from typing import TYPE_CHECKING, NamedTuple

from pgm_rnn.experiments.summary import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130


class Look(NamedTuple):
    """The look of a curve.

    Attributes:
        color: a hexadecimal colour.
        marker: matplotlib's name, "" for none.
        dashes: matplotlib's name of a line.
    """

    color: str
    marker: str = "o"
    dashes: str = "-"


BLUE, GREEN, ORANGE, PURPLE = Look("#0072B2"), Look("#009E73", "s"), Look("#E69F00", "^"), Look("#CC79A7", "", ":")
VERMILION, SKY, BLACK = Look("#D55E00", "D"), Look("#56B4E9", "v"), Look("#000000", "", "--")


def panels(rows: int, columns: int = 1, *, width: float = 6.4, height: float = 3.2) -> "tuple[Figure, list[Axes]]":
    """A figure with panels of this many inches each, row by row; its text is readable at the size of a page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = [axis for line in grid for axis in line]
    for axis in axes:
        axis.grid(visible=True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_curve(axis: "Axes", curve: Curve, look: Look, label: str, *, interval: bool = True) -> None:
    """A line through the medians with its interval behind it."""
    (line,) = axis.plot(curve.x, curve.middle, label=label, color=look.color, linestyle=look.dashes, linewidth=1.6)
    line.set_marker(look.marker or "None")
    line.set_markersize(5)
    if interval:
        axis.fill_between(curve.x, curve.low, curve.high, color=look.color, alpha=0.15, linewidth=0)


def label_axis(axis: "Axes", x: str, y: str, *, percent: bool = False, note: str = "") -> None:
    """Names of the axes, percentages where asked for, and what a legend cannot say as a title."""
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if percent:
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    if note:
        axis.set_title(note, fontsize=10, loc="left")


def plain_ticks(axis: "Axes", places: list[float]) -> None:
    """Ticks of the horizontal axis where there are numbers, written out."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.xaxis.set_major_locator(FixedLocator(places))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([f"{place:g}" if place < 1e5 else f"{place:.0e}" for place in places])


def as_png(figure: "Figure") -> bytes:
    """The picture in pixels."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def as_svg(figure: "Figure") -> bytes:
    """The picture in curves, its text as shapes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "pgm_rnn", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
