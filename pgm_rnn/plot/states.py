"""Series with their latent states: bands of the most likely states behind them, or the states' means below them."""

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.plot.image import MANY, draw_image
from pgm_rnn.plot.sources import states_of
from pgm_rnn.report.canvas import MAX_PANELS, TEXT, Canvas, canvas_on
from pgm_rnn.report.looks import FEW, looks
from pgm_rnn.report.series_panels import columns_of, draw_values, observed_values, title_of
from pgm_rnn.report.state_pictures import MOST_HATCHED, are_apart, bands, colour_bar
from pgm_rnn.report.states_of_data import States
from pgm_rnn.report.time_axis import axis_of, axis_title, edges_of, finish, panel_title
from pgm_rnn.sequences import Data, Sequences, as_sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRIP = (1.01, 1.09)
"""Height of the band above an image, in parts of the panel."""


def states(
    source: object,
    data: Data,
    *,
    engine: str = "auto",
    num_particles: int = 1000,
    seed: int | None = 0,
    axes: Any = None,
) -> "list[Axes]":
    """Draw series with bands of their most likely states, or above panels with the means of their states.

    Finitely many states are bands behind each variable's series; where there is no most likely path, the most probable
    state of each step takes its place. Of other states, a panel below each sequence has the means ± 2 standard
    deviations. More than four variables are one image.

    Args:
        source: a result of `pgm_rnn.infer`, `forward_backward` or `kalman` on the data, or a model.
        data: the sequences, as any `Data`.
        engine: for a model, as for `pgm_rnn.infer`.
        num_particles: for a model, as for `pgm_rnn.infer`.
        seed: for a model, as for `pgm_rnn.infer`.
        axes: one or several matplotlib axes; None for a new figure of up to six panels.

    Returns:
        The axes that are used, from the first sequence on.

    Raises:
        TypeError: a source of another type.
        ValueError: data that do not belong to the result.
    """
    batch, canvas = as_sequences(data), canvas_on(axes)
    inferred = states_of(source, batch, engine, num_particles, seed)
    path = _path(inferred)
    width = len(columns_of(batch))
    parts: list[int | str] = ["all"] if width > MANY else list(range(width))
    parts += [] if path is not None else _parts_of_means(inferred, canvas.number(MAX_PANELS) - len(parts))
    wanted = [(sequence, part) for sequence in range(len(batch.lengths)) for part in parts]
    wanted = wanted[: canvas.number(len(wanted))]
    panels = canvas.panels(len(wanted), height=1.6)
    for panel, (sequence, part) in zip(panels, wanted, strict=True):
        _draw(panel, batch, inferred, path, sequence, part)
    shown = sum(1 for _ in groupby(wanted, itemgetter(0)))
    panels[-1].set_xlabel(axis_title(inferred.legend, shown, len(batch.lengths)), fontsize=TEXT)
    _name_states(canvas, panels, inferred, path)
    return panels


def _means_of(inferred: States) -> "tuple[str, Tensor, Tensor]":
    """The name of the best law of states that are vectors, its means and its standard deviations."""
    law = "smoothed" if inferred.smoothed_means is not None else "filtered"
    return law, getattr(inferred, f"{law}_means"), getattr(inferred, f"{law}_sds")


def _parts_of_means(inferred: States, room: int) -> list[str]:
    """One panel for all components, or for each that would look flat beside the others, if there is room for them."""
    centre = _means_of(inferred)[1]
    if len(centre) > 1 or centre.shape[-1] > room or not are_apart(centre[0, : int(inferred.lengths[0])]):
        return ["states"]
    return [f"component {number}" for number in range(centre.shape[-1])]


def _path(inferred: States) -> Tensor | None:
    """The state of each step (B, T) if there are finitely many."""
    probs = inferred.filtered_probs if inferred.smoothed_probs is None else inferred.smoothed_probs
    if inferred.most_likely_states is not None or probs is None:
        return inferred.most_likely_states
    return probs.argmax(-1)


def _draw(
    panel: "Axes", data: Sequences, inferred: States, path: Tensor | None, sequence: int, part: int | str
) -> None:
    length = int(data.lengths[sequence])
    times = axis_of(inferred.legend, sequence, length)
    titles = [panel_title(inferred.legend, sequence, len(data.lengths))]
    if isinstance(part, str) and part != "all":
        law, centre, spread = _means_of(inferred)
        width, component = centre.shape[-1], part.removeprefix("component ")
        chosen = slice(int(component), int(component) + 1) if component != part else slice(0, width)
        means, sds = centre[sequence, :length, chosen], spread[sequence, :length, chosen]
        bands(panel, times, means, sds, colors=None if component == part else width, first=chosen.start)
        titles.append(f"{'state' if component == part else part}, {law} mean ± 2 sd")
    elif isinstance(part, int):
        draw_values(panel, times, observed_values(data, sequence)[:, part], columns_of(data)[part], "observed")
        titles.append(title_of(data, part))
    else:
        draw_image(panel, edges_of(times), observed_values(data, sequence), columns_of(data))
    if path is not None:
        steps = path[sequence, :length].cpu().numpy()
        _bands_of(panel, edges_of(times), steps, _num_states(inferred), STRIP if part == "all" else (0.0, 1.0))
    finish(panel, ", ".join(title for title in titles if title), times)
    if part == "all":
        panel.set_title(panel.get_title(loc="left"), loc="left", fontsize=TEXT, pad=12)


def _bands_of(
    panel: "Axes", edges: NDArray[Any], path: NDArray[Any], num_states: int, heights: tuple[float, float]
) -> None:
    """A band for each state, over the steps at which it is the path's, between two heights of the panel."""
    import matplotlib

    ends, visited = edges.repeat(2)[1:-1], path.repeat(2)
    strength = 0.35 if heights == (0.0, 1.0) else 1.0
    with matplotlib.rc_context({"hatch.color": "white", "hatch.linewidth": 0.5}):
        for k, look in enumerate(looks(num_states)):
            panel.fill_between(
                ends,
                *heights,
                where=list(visited == k),
                transform=panel.get_xaxis_transform(),
                facecolor=look.color,
                edgecolor="white",
                hatch=look.hatch if len(path) <= MOST_HATCHED else None,
                alpha=strength,
                linewidth=0,
                label=f"state {k}" if num_states <= FEW else None,
                clip_on=strength < 1,
                zorder=0,
            )


def _num_states(inferred: States) -> int:
    probs = inferred.filtered_probs if inferred.smoothed_probs is None else inferred.smoothed_probs
    assert probs is not None  # there is a path of states
    return int(probs.shape[-1])


def _name_states(canvas: Canvas, panels: "list[Axes]", inferred: States, path: Tensor | None) -> None:
    if path is not None and _num_states(inferred) > FEW:
        colour_bar(panels, _num_states(inferred), "state")
    canvas.legend(panels)
