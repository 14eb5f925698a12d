"""Pictures of forecasts: the end of each series, then medians with bands, or probabilities of symbols as areas."""

from itertools import islice, product
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.legend import Legend
from pgm_rnn.report.canvas import FILE, SMALL, TEXT, Canvas
from pgm_rnn.report.looks import AHEAD, FEW, looks
from pgm_rnn.report.series_panels import columns_of, draw_values, observed_values, title_of
from pgm_rnn.report.state_pictures import stack
from pgm_rnn.report.time_axis import axis_of, edges_of, finish, panel_title
from pgm_rnn.sequences import Sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE = 4
"""Steps of the past that are shown for every step ahead; at least `LEAST`."""
LEAST = 40


class Drawable(Protocol):
    """What is drawn of a `pgm_rnn.report.forecasts.Forecast`, whose attributes these are."""

    @property
    def data(self) -> Sequences:
        """The sequences before."""

    @property
    def legend(self) -> Legend | None:
        """Their names, ids and times."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each variable."""

    @property
    def levels(self) -> tuple[float, ...]:
        """Probabilities of the intervals, in percent."""

    @property
    def means(self) -> Tensor:
        """(B, N, M)."""

    @property
    def medians(self) -> Tensor:
        """(B, N, M)."""

    @property
    def intervals(self) -> Tensor:
        """(num_levels, 2, B, N, M)."""

    @property
    def probs(self) -> dict[int, Tensor]:
        """Probabilities of symbols, (B, N, V), by the place of their variable."""

    def times(self) -> tuple[str, list[NDArray[Any]]]:
        """Name of the time, and the times ahead of each sequence."""

    def words(self, place: int) -> tuple[str, ...]:
        """The words of a variable that is a symbol."""


def fan(forecast: Drawable, canvas: Canvas = FILE) -> "list[Axes]":
    """One panel per sequence and variable, as many as there is room for, with the user's names and times."""
    num_sequences, _, width = forecast.means.shape
    total = num_sequences * width
    wanted = list(islice(product(range(num_sequences), range(width)), canvas.number(total)))
    panels = canvas.panels(len(wanted), height=1.8)
    name, times = forecast.times()
    for panel, (sequence, place) in zip(panels, wanted, strict=True):
        past = _past(forecast, sequence, name)
        if place in forecast.probs:
            _symbols(panel, forecast, sequence, place, times[sequence])
        else:
            _numbers(panel, forecast, sequence, place, past, times[sequence])
        parts = (panel_title(forecast.legend, sequence, num_sequences), title_of(forecast.data, place))
        finish(panel, ", ".join(part for part in parts if part), times[sequence])
    shown = f"{name} (the first {len(wanted)} of {total} panels)" if len(wanted) < total else name
    panels[-1].set_xlabel(shown, fontsize=TEXT)
    canvas.legend(panels)
    return panels


def _past(forecast: Drawable, sequence: int, name: str) -> NDArray[Any]:
    """The axis of the steps before: step numbers where the times ahead are."""
    length = int(forecast.data.lengths[sequence])
    return np.arange(1, length + 1) if name == "step" else axis_of(forecast.legend, sequence, length)


def _numbers(
    panel: "Axes", forecast: Drawable, sequence: int, place: int, past: NDArray[Any], ahead: NDArray[Any]
) -> None:
    shown = max(LEAST, BEFORE * len(ahead))
    x = observed_values(forecast.data, sequence)[:, place]
    draw_values(panel, past[-shown:], x[-shown:], columns_of(forecast.data)[place], "observed")
    order = sorted(range(len(forecast.levels)), key=lambda number: -forecast.levels[number])
    for number, strength in zip(order, np.linspace(0.2, 0.45, len(order)), strict=True):
        low, high = forecast.intervals[number, :, sequence, :, place].numpy()
        label = f"{forecast.levels[number]:g} % interval"
        if len(ahead) == 1:  # an area needs two points
            panel.vlines(ahead, low, high, color=AHEAD, alpha=strength, linewidth=6, label=label)
        else:
            panel.fill_between(ahead, low, high, color=AHEAD, alpha=strength, linewidth=0, label=label)
    mark = "o" if len(ahead) == 1 else None
    medians = forecast.medians[sequence, :, place].numpy()
    panel.plot(ahead, medians, color=AHEAD, linestyle="--", marker=mark, label="median")
    panel.margins(x=0.02 if len(ahead) == 1 else 0)


def _symbols(panel: "Axes", forecast: Drawable, sequence: int, place: int, ahead: NDArray[Any]) -> None:
    probs, words = _few(forecast.probs[place], forecast.words(place))
    if len(ahead) == 1:
        panel.bar(words, probs[sequence, 0], color=[look.color for look in looks(len(words))])
        panel.set_ylim(0, 1)
    else:
        stack(panel, edges_of(ahead), probs[sequence], words)
    panel.set_ylabel("probability", fontsize=SMALL)


def _few(probs: Tensor, words: tuple[str, ...]) -> tuple[NDArray[Any], list[str]]:
    """Probabilities (B, N, V) of at most `FEW` words: the most probable ones in their order, then all others as one."""
    array = probs.double().numpy()
    if len(words) <= FEW:
        return array, list(words)
    chosen = np.sort(np.argsort(-array.mean(axis=(0, 1)), kind="stable")[: FEW - 1])
    others = 1 - array[..., chosen].sum(axis=-1, keepdims=True)
    names = [repr(words[place])[1:-1] if words[place].strip() else "space" for place in chosen]
    return np.concatenate([array[..., chosen], others.clip(min=0)], axis=-1), [
        *names,
        f"{len(words) - len(chosen)} others",
    ]
