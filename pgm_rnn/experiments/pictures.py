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
STEP = 1.07
"""Ratio of the places of two curves' bars that stand side by side."""


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


def draw_curve(
    axis: "Axes", curve: Curve, look: Look, label: str, *, interval: bool = True, shift: float = 1.0
) -> None:
    """A line through the medians, with a bar over each interval.

    Args:
        axis: the panel.
        curve: what to draw.
        look: colour, marker and dashes.
        label: name for the legend.
        interval: whether there are bars.
        shift: factor of the places, so that the bars of several curves stand side by side on a logarithmic axis.
    """
    places = [shift * x for x in curve.x]
    (line,) = axis.plot(places, curve.middle, label=label, color=look.color, linestyle=look.dashes, linewidth=1.6)
    line.set_marker(look.marker or "None")
    line.set_markersize(5)
    if interval:
        axis.vlines(places, curve.low, curve.high, color=look.color, linewidth=2.2, alpha=0.45, zorder=1.5)


def side_by_side(number: int, of: int) -> float:
    """The shift of curve `number`, from 0, of several."""
    return float(STEP ** (number - (of - 1) / 2))


def legend_above(axis: "Axes", columns: int = 3) -> None:
    """The legend between the panel and its note, so that it covers nothing; call it after `label_axis`."""
    note = axis.get_title(loc="left")
    axis.set_title("", loc="left")
    axis.legend(
        title=note or None,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        fontsize=9,
        title_fontsize=10,
        alignment="left",
        frameon=False,
        borderaxespad=0.2,
    )


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
    axis.set_xticklabels([f"{place:,.0f}" if 1 <= place < 1e5 else f"{place:g}" for place in places])


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
