"""Pictures of forecasts: the end of each series, then medians with bands, or probabilities of symbols as areas."""

from itertools import islice, product
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.legend import Legend
from pgm_rnn.report.figures import INK, stacked
from pgm_rnn.report.time_axis import MAX_PANELS, axis_of, finish, panel_title
from pgm_rnn.sequences import Sequences

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEFORE = 4
"""Steps of the past that are shown for every step ahead; at least `LEAST`."""
LEAST = 40
MAX_NAMES = 20
"""Largest number of words that are named beside the panels."""
AHEAD = "#c2571a"


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


def fan(forecast: Drawable) -> "Figure":
    """One panel per sequence and variable, at most `MAX_PANELS`, with the user's names and times."""
    num_sequences, _, width = forecast.means.shape
    wanted = list(islice(product(range(num_sequences), range(width)), MAX_PANELS))
    figure, panels = stacked(
        len(wanted), width=8, height=1.8 if len(wanted) > 1 else 3.0, same_steps=False, same_values=False
    )
    name, times = forecast.times()
    for panel, (sequence, place) in zip(panels, wanted, strict=True):
        past = _past(forecast, sequence, name)
        if place in forecast.probs:
            _symbols(panel, forecast, sequence, place, times[sequence])
        else:
            _numbers(panel, forecast, sequence, place, past, times[sequence])
        parts = (panel_title(forecast.legend, sequence, num_sequences), _title(forecast, place))
        finish(panel, ", ".join(part for part in parts if part), times[sequence])
    panels[-1].set_xlabel(name, fontsize=9)
    named = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if len(named) <= MAX_NAMES:
        figure.legend([*named.values()], [*named], loc="outside right upper", fontsize=8, frameon=False)
    if num_sequences * width > len(wanted):
        figure.suptitle(f"the first {len(wanted)} of {num_sequences * width} panels", fontsize=9)
    return figure


def _past(forecast: Drawable, sequence: int, name: str) -> NDArray[Any]:
    """The axis of the steps before: step numbers where the times ahead are."""
    length = int(forecast.data.lengths[sequence])
    return np.arange(1, length + 1) if name == "step" else axis_of(forecast.legend, sequence, length)


def _numbers(
    panel: Any, forecast: Drawable, sequence: int, place: int, past: NDArray[Any], ahead: NDArray[Any]
) -> None:
    shown = max(LEAST, BEFORE * len(ahead))
    x = forecast.data.x[sequence, : len(past)].double().reshape(len(past), -1)[:, place].numpy().copy()
    observed = forecast.data.mask[sequence, : len(past)].reshape(len(past), -1)
    x[~observed.expand(len(past), forecast.means.shape[-1])[:, place].numpy()] = np.nan
    panel.plot(past[-shown:], x[-shown:], color=INK, linewidth=1, label="observed")
    order = sorted(range(len(forecast.levels)), key=lambda number: -forecast.levels[number])
    for number, strength in zip(order, np.linspace(0.2, 0.45, len(order)), strict=True):
        low, high = forecast.intervals[number, :, sequence, :, place].numpy()
        label = f"{forecast.levels[number]:g} %"
        panel.fill_between(ahead, low, high, color=AHEAD, alpha=strength, linewidth=0, label=label)
    mark = "o" if len(ahead) == 1 else None
    panel.plot(ahead, forecast.medians[sequence, :, place].numpy(), color=AHEAD, marker=mark, label="median")
    panel.margins(x=0)


def _symbols(panel: Any, forecast: Drawable, sequence: int, place: int, ahead: NDArray[Any]) -> None:
    import matplotlib

    probs, words = forecast.probs[place][sequence].numpy(), forecast.words(place)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, len(words)))
    if len(ahead) == 1:  # an area needs two points
        panel.bar(words, probs[0], color=colours)
    else:
        panel.stackplot(ahead, probs.T, labels=words, colors=colours, linewidth=0)
        panel.margins(x=0)
    panel.set_ylim(0, 1)
    panel.set_ylabel("probability", fontsize=8)


def _title(forecast: Drawable, place: int) -> str:
    """The name of a variable with its unit; nothing for a single one without a name."""
    if forecast.legend is not None and len(forecast.legend.columns) == len(forecast.names):
        return forecast.legend.columns[place].title
    return f"variable {forecast.names[place]}" if len(forecast.names) > 1 else ""
