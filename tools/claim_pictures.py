"""Pictures of claims for the site, from what the claims measure: `python -m tools.claim_pictures`.

It writes docs/claims/CLAIM.svg and the numbers in them, docs/claims/curves.json; then run `python -m
tools.claims_pages`, which shows them. A test compares the numbers with a new measurement.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pgm_rnn.experiments.pictures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, as_svg, panels
from tools.claim_curves import CURVES, Curves, measure, steady_gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path(__file__).parents[1] / "docs" / "claims"
NUMBERS = "curves.json"
FEW = 10
"""Curves of fewer points have markers."""
LOOKS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE._replace(marker="v"))


class Picture(NamedTuple):
    """How the curves of a claim are drawn.

    Attributes:
        x, y: labels of the axes.
        scale: "log-log", "log" for a logarithmic y, or "linear".
        says: the alternative text, which tells what is to be seen.
        also: draws what is no measurement, such as a slope or a limit.
        legend: the place of the legend, where matplotlib's own choice hides a curve.
    """

    x: str
    y: str
    scale: str
    says: str
    also: Callable[["Axes"], object] = lambda axis: None
    legend: dict[str, Any] = {}  # noqa: RUF012  (a constant)


def _exact_below(axis: "Axes") -> None:
    """The note that without noise nothing is left."""
    axis.text(0.98, 0.04, "without noise: 0, up to rounding", transform=axis.transAxes, ha="right", color="#444444")


def _quadratic(axis: "Axes") -> None:
    axis.plot([0.01, 1.0], [3e-4, 3.0], color=BLACK.color, linestyle="--", linewidth=1, label="slope 2")
    _exact_below(axis)


def _linear(axis: "Axes") -> None:
    axis.plot([1e-6, 0.5], [2e-7, 0.1], color=BLACK.color, linestyle="--", linewidth=1, label="slope 1")


def _root(axis: "Axes") -> None:
    axis.plot([16, 4096], [0.035, 0.035 / 16], color=BLACK.color, linestyle="--", linewidth=1, label="slope −1/2")


def _limits(axis: "Axes") -> None:
    for number, ratio in enumerate((1.0, 0.1, 0.01)):
        label = "limit, K² = q (1 − K) for Q/R = q" if number == 0 else None
        axis.axhline(steady_gain(ratio), color=BLACK.color, linestyle=":", linewidth=1, label=label)


def _point(axis: "Axes") -> None:
    axis.plot([1.0], [0.7616], "o", color=BLACK.color, markersize=7, label="m = 1")


PICTURES: dict[str, Picture] = {
    "theorem-5": Picture(
        "probability that a hidden state is drawn at random",
        "largest |difference| in log p (nats)",
        "log-log",
        "Three networks, an Elman network, a GRU and an LSTM. The largest difference between the graphical model's log "
        "probability and the network's rises in proportion to the noise in the hidden states, from 0.0002 nats or less "
        "at a probability of 0.0001. Without noise there is no difference.",
        _exact_below,
    ),
    "elbo-equivalence": Picture(
        "scale of the noise in the hidden states",
        "gap of the bound (nats, five sequences)",
        "log-log",
        "For an Elman network, a GRU and an LSTM the gap between the log likelihood and the bound grows with the "
        "square of the noise's scale: about 0.001 nats at 0.01, 0.1 to 0.2 at 0.1. Without noise the gap is zero.",
        _quadratic,
    ),
    "proposition-6-slope": Picture(
        "distance ε from a model that can be compressed",
        "largest error",
        "log-log",
        "Two lines of slope one: the residual of condition C.2 and the error of the predictions are proportional to "
        "the distance from a lumpable model, over six powers of ten.",
        _linear,
    ),
    "particle-filter-rate": Picture(
        "particles N",
        "root mean square error of p(z₅ | x)",
        "log-log",
        "With the right weight the error of the filtered probability falls like one over the square root of the number "
        "of particles, from 0.055 with 16 to 0.0025 with 4096. With the printed weight it stays near 0.08.",
        _root,
    ),
    "rao-blackwell": Picture(
        "noise of the observations, in multiples of the model's",
        "variance of a weight over p(x)²",
        "log-log",
        "The variance of one weight after three steps against the scale of the observations' noise, on logarithmic "
        "axes. If vectors are drawn it rises without bound as the noise falls, from 0.3 at 3 to 35 000 at 0.03. If "
        "they are summed out it stays below 0.75.",
    ),
    "vanishing-gradient": Picture(
        "steps T",
        r"$\|\mathrm{d}h_T/\mathrm{d}h_1\|$",
        "log",
        "The norm of the gradient over T steps on a logarithmic scale. In linear networks it follows a straight line: "
        "up for a largest eigenvalue of 1.2, down for 0.95 and 0.7, and level for an orthogonal matrix. With tanh and "
        "the same orthogonal matrix it falls.",
    ),
    "kalman-is-exact": Picture(
        "step t",
        "gain K of a local level",
        "linear",
        "The Kalman gain of a local level for three ratios of the noises, from 0.8 at the first step down to its "
        "limit: 0.62, 0.27 and 0.10. The gains from the joint normal law of all variables lie on the filter's lines.",
        _limits,
        {"loc": "upper right", "bbox_to_anchor": (1.0, 0.72)},
    ),
    "extended-kalman-offset": Picture(
        "state z",
        "next mean",
        "linear",
        "tanh and two straight lines of the same slope. The tangent touches tanh at m = 1; the printed line goes "
        "through the origin and misses the point by 0.34.",
        _point,
    ),
}
"""The pictures, by the ids of their claims."""


def draw(picture: Picture, curves: Curves) -> bytes:
    """A picture as SVG. Curves whose names begin with "joint law" are drawn as rings on the filter's lines."""
    figure, (axis,) = panels(1, width=5.6, height=3.3)
    lines = {name: curve for name, curve in curves.items() if not name.startswith("joint law")}
    for (name, curve), look in zip(lines.items(), LOOKS, strict=False):
        x, y = zip(*curve, strict=True)
        marker = look.marker if len(curve) < FEW else ""
        axis.plot(x, y, color=look.color, linestyle=look.dashes, marker=marker, markersize=5, linewidth=1.8, label=name)
    rings = [point for name, curve in curves.items() if name not in lines for point in curve]
    if rings:
        x, y = zip(*rings, strict=True)
        axis.plot(x, y, "o", color=BLACK.color, fillstyle="none", markersize=6, label="joint law of all variables")
    picture.also(axis)
    if picture.scale == "log-log":
        axis.set_xscale("log")
    if picture.scale != "linear":
        axis.set_yscale("log")
    axis.set_xlabel(picture.x)
    axis.set_ylabel(picture.y)
    axis.legend(fontsize="small", frameon=False, **picture.legend)
    return as_svg(figure)


def main(folder: Path = FOLDER) -> None:
    """Measure the curves, and write them and their pictures.

    Raises:
        OSError: the folder is missing or cannot be written to.
    """
    measured = {name: measure(name) for name in CURVES}
    for name, curves in measured.items():
        (folder / f"{name}.svg").write_bytes(draw(PICTURES[name], curves))
    rounded = {
        name: {label: [[x, float(f"{y:.4g}")] for x, y in curve] for label, curve in curves.items()}
        for name, curves in measured.items()
    }
    (folder / NUMBERS).write_text(json.dumps(rounded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
