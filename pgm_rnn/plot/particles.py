"""The cloud of a particle filter: particles with weights, the ancestry of the last ones, and the sample size below."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.checks import check_counts
from pgm_rnn.inference.smc import Filtered
from pgm_rnn.legend import Legend
from pgm_rnn.report.canvas import SMALL, TEXT, canvas_on
from pgm_rnn.report.looks import AHEAD, INK
from pgm_rnn.report.time_axis import axis_of, axis_title, finish, panel_title
from pgm_rnn.sequences import Data, as_sequences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_PATHS = 100
"""Largest number of ancestral paths that are drawn, evenly spread over the particles."""
LARGEST, MOST, CROWDED = 60.0, 0.1, 50
"""Area of a particle that has at least the weight `MOST`, points squared, and the steps from which points shrink."""


def particles(
    filtered: Filtered,
    data: Data | None = None,
    *,
    sequence: int = 0,
    component: int = 0,
    last: int | None = 200,
    axes: Any = None,
) -> "list[Axes]":
    """Draw the particles of one sequence, with areas in proportion to their weights, above their effective sample size.

    Lines lead from the particles of the last step back to their ancestors.

    Args:
        filtered: the result of `smc.filter(..., keep="all")`.
        data: the sequences, for names, times and lengths; None for steps 1..T.
        sequence: number of the sequence, from 0.
        component: number of the state's entry, from 0.
        last: number of steps that are drawn, up to the last one, for more than some hundred have no room; None for all.
        axes: two matplotlib axes; None for a new figure.

    Returns:
        The axes of the cloud and of the sample size.

    Raises:
        TypeError: something else than a result of `smc.filter`.
        ValueError: a filter that kept only the last particles, no such sequence or component, or `last` below 1.
    """
    if not isinstance(filtered, Filtered):
        raise TypeError(f"expected a result of smc.filter, got {type(filtered).__name__}")
    if filtered.history is None:
        raise ValueError("expected a filter that keeps its history, got one that does not; use smc.filter(keep='all')")
    num_sequences, width = filtered.ess.shape[0], filtered.particles[0, 0].numel()
    _check("sequence", sequence, num_sequences)
    _check("component", component, width)
    batch = None if data is None else as_sequences(data)
    legend = None if batch is None else batch.legend
    length = filtered.ess.shape[1] if batch is None else int(batch.lengths[sequence])
    if last is not None:
        check_counts(last=last)
    part = slice(0 if last is None else max(0, length - last), length)
    values, weights = (found[part] for found in _cloud(filtered, sequence, component, length))
    times = axis_of(legend, sequence, length)[part]
    cloud, sizes = canvas_on(axes).panels(2, height=2.2)
    _draw_paths(cloud, times, values, filtered.history.ancestors[part, :, sequence])
    _draw_cloud(cloud, times, values, weights, finite=not filtered.particles.is_floating_point())
    cloud.set_ylabel("state" if width == 1 else f"state, component {component}", fontsize=TEXT)
    finish(cloud, _title(legend, sequence, num_sequences, values.shape[1], part), times)
    _draw_sizes(sizes, times, filtered, sequence, part)
    sizes.set_xlabel(axis_title(legend), fontsize=TEXT)
    cloud.set_xlim(sizes.get_xlim())
    return [cloud, sizes]


def _check(name: str, value: int, size: int) -> None:
    if not 0 <= value < size:
        raise ValueError(f"expected {name} in 0..{size - 1}, got {value}")


def _cloud(filtered: Filtered, sequence: int, component: int, length: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """One component of the particles of each step, and their normalised weights, (T, N) both."""
    assert filtered.history is not None  # checked by the caller
    z = filtered.history.z[:length, :, sequence]
    values = z.reshape(*z.shape[:2], -1)[..., component]
    weights = filtered.history.log_weights[:length, :, sequence].softmax(dim=1)
    return values.detach().cpu().double().numpy(), weights.detach().cpu().double().numpy()


def ancestral_places(ancestors: Tensor) -> NDArray[Any]:
    """Indices of the ancestors at each step of the particles of the last one, (T, N), from indices (T, N)."""
    parents = ancestors.detach().cpu().numpy()
    places = np.empty(parents.shape, dtype=np.int64)
    places[-1] = np.arange(parents.shape[1])
    for step in range(len(parents) - 1, 0, -1):
        places[step - 1] = parents[step][places[step]]
    return places


def _draw_cloud(
    panel: "Axes", times: NDArray[Any], values: NDArray[Any], weights: NDArray[Any], *, finite: bool
) -> None:
    """Points with areas in proportion to weights; of finitely many states, one point for all particles in a state."""
    from matplotlib.ticker import MaxNLocator

    if finite:
        places = np.arange(values.max() + 1)
        weights = np.stack([(weights * (values == place)).sum(axis=1) for place in places], axis=1)
        values = np.broadcast_to(places, weights.shape)
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    most = 1.0 if finite else MOST
    areas = LARGEST * min(1.0, CROWDED / len(times)) * np.minimum(weights / most, 1.0)
    steps = np.broadcast_to(times[:, None], values.shape)
    look: dict[str, Any] = {"color": INK, "linewidths": 0, "rasterized": True}
    panel.scatter(steps.ravel(), values.ravel(), areas.ravel(), alpha=0.8 if finite else 0.35, zorder=1.5, **look)


def _draw_paths(panel: "Axes", times: NDArray[Any], values: NDArray[Any], ancestors: Tensor) -> None:
    places = ancestral_places(ancestors)
    chosen = np.unique(np.linspace(0, places.shape[1] - 1, MAX_PATHS).round().astype(int))
    paths = np.take_along_axis(values, places[:, chosen], axis=1)
    panel.plot(times, paths, color=AHEAD, linewidth=0.7 * _thinner(times), alpha=0.5, zorder=2)


def _thinner(times: NDArray[Any]) -> float:
    """Part of a line's width and of a mark's size that leaves neighbouring steps apart."""
    return max(0.4, min(1.0, (2 * CROWDED / len(times)) ** 0.5))


def _draw_sizes(panel: "Axes", times: NDArray[Any], filtered: Filtered, sequence: int, part: slice) -> None:
    """The effective sample size, with a mark where a step began with resampling."""
    ess = filtered.ess[sequence, part].detach().cpu().double().numpy()
    again = filtered.resampled[sequence, part].cpu().numpy()
    size = _thinner(times)
    panel.plot(times, ess, color=INK, linewidth=1.4 * size)
    panel.plot(times[again], ess[again], color=AHEAD, linestyle="none", marker="^", markersize=3 * size)
    panel.set_ylim(0, 1.05 * filtered.particles.shape[0])
    panel.set_ylabel("ESS", fontsize=TEXT)
    finish(panel, "effective sample size; triangles where the step began with resampling", times)
    panel.title.set_fontsize(SMALL)


def _title(legend: Legend | None, sequence: int, num_sequences: int, num_particles: int, steps: slice) -> str:
    parts = [
        panel_title(legend, sequence, num_sequences),
        f"last {steps.stop - steps.start} of {steps.stop:,} steps" if steps.start else "",
        f"{num_particles:,} particles, area by weight; lines: ancestors of the last",
    ]
    return ", ".join(part for part in parts if part)
