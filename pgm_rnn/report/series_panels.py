"""The values of one variable of one sequence on a panel: lines, counts as steps, symbols as dots with their words."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.legend import Column, Kind
from pgm_rnn.report.canvas import SMALL
from pgm_rnn.report.looks import INK
from pgm_rnn.sequences import Sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_WORDS = 12
"""Largest number of words on the axis of symbols; where there are more, every n-th is written."""
LINES = 5
"""Words that fit above each other on an inch."""


def columns_of(data: Sequences) -> tuple[Column, ...]:
    """The variables of a batch: those of its legend, or "1", "2", ...; whole numbers of no shape are symbols."""
    width = data.x[0, 0].numel()
    if data.legend is not None and len(data.legend.columns) == width:
        return data.legend.columns
    kind: Kind = "real" if data.x.is_floating_point() or data.x.dim() > 2 else "symbol"
    return tuple(Column(str(number), kind) for number in range(1, width + 1))


def title_of(data: Sequences, place: int) -> str:
    """The name of a variable with its unit; nothing for a single one without a name."""
    columns = columns_of(data)
    if data.legend is not None and columns is data.legend.columns:
        return columns[place].title
    return f"variable {columns[place].name}" if len(columns) > 1 else ""


def observed_values(data: Sequences, sequence: int) -> NDArray[Any]:
    """The values of a sequence as numbers (T_i, M), NaN where one is missing."""
    length = int(data.lengths[sequence])
    x = data.x[sequence, :length].detach().cpu().double().reshape(length, -1).numpy().copy()
    observed = data.mask[sequence, :length].reshape(length, -1).expand(length, x.shape[1])
    x[~observed.cpu().numpy()] = np.nan
    return x


def draw_values(panel: "Axes", times: NDArray[Any], values: NDArray[Any], column: Column, label: str) -> None:
    """Values (T,) of a column at their times, by its kind."""
    if column.kind == "symbol":
        panel.plot(times, values, linestyle="none", marker="o", markersize=2.5, color=INK, label=label)
        _words(panel, column, int(np.nanmax(values, initial=0)))
    elif column.kind in ("count", "binary"):
        panel.step(times, values, where="mid", linewidth=1.2, color=INK, label=label)
    else:
        mark = "o" if len(times) == 1 else None
        panel.plot(times, values, linewidth=1.2, marker=mark, color=INK, label=label)
    panel.margins(x=0)


def _words(panel: "Axes", column: Column, largest: int) -> None:
    """The words of symbols as ticks."""
    words = column.words or tuple(map(str, range(largest + 1)))
    figure: Any = panel.figure
    height = panel.get_position().height * figure.get_size_inches()[1]  # inches
    room = min(MAX_WORDS, max(2, int(height * LINES)))
    places = range(0, len(words), -(-len(words) // room))
    panel.set_yticks(list(places), [repr(words[k])[1:-1] if words[k].strip() else "space" for k in places])
    panel.set_ylim(-0.5, len(words) - 0.5)
    panel.tick_params(axis="y", labelsize=SMALL)
