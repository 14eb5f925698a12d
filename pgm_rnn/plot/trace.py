"""Draws of parameters: the distribution of each, and its course by chain."""

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.inference.mcmc import Posterior
from pgm_rnn.inference.pmmh import ParticlePosterior
from pgm_rnn.report.canvas import SMALL, TEXT, WIDTH, Canvas, canvas_on
from pgm_rnn.report.looks import GREY, looks
from pgm_rnn.report.time_axis import finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

BINS = 30
MAX_NUMBERS = 6
"""Largest number of rows of a new figure, one for each number that is a parameter or an entry of one."""


def trace(
    posterior: Posterior | ParticlePosterior, *, names: "Sequence[str] | None" = None, axes: Any = None
) -> "NDArray[Any]":
    """Draw the histogram and the course of every number of a posterior, with a line style for each chain.

    Args:
        posterior: the result of `mcmc.run` or `pmmh.run`.
        names: the parameters to show; None for all.
        axes: matplotlib axes (n, 2) for the first n numbers; None for a new figure of up to six.

    Returns:
        The axes, (n, 2): histograms, then courses.

    Raises:
        TypeError: something else than draws.
        ValueError: a name that the posterior does not have, or an odd number of axes.
    """
    if isinstance(posterior, ParticlePosterior):
        posterior = posterior.posterior
    if not isinstance(posterior, Posterior):
        raise TypeError(f"expected a result of mcmc.run or pmmh.run, got {type(posterior).__name__}")
    wrong = [name for name in names or () if name not in posterior.samples]
    if wrong:
        raise ValueError(f"expected names among {', '.join(posterior.samples)}, got {wrong[0]!r}")
    canvas = canvas_on(axes)
    room = MAX_NUMBERS if canvas.axes is None else len(canvas.axes) // 2
    found = list(islice(_numbers(posterior, names), room))
    panels = _pairs(canvas, len(found))
    for (left, right), (title, draws) in zip(panels, found, strict=True):
        _draw(left, right, title, draws)
    total = sum(draws[0, 0].numel() for name, draws in posterior.samples.items() if names is None or name in names)
    last = f"draw (the first {len(found)} of {total} numbers)" if len(found) < total else "draw"
    panels[-1, 1].set_xlabel(last, fontsize=TEXT)
    panels[-1, 0].set_xlabel("value", fontsize=TEXT)
    canvas.legend(list(panels[:1, 1]))
    return panels


def _numbers(posterior: Posterior, names: "Sequence[str] | None") -> "Iterator[tuple[str, NDArray[Any]]]":
    """Every number with its name, such as "loc[1, 0]", and its draws (num_chains, num_samples)."""
    for name, draws in posterior.samples.items():
        if names is not None and name not in names:
            continue
        array = draws.detach().cpu().double().numpy()
        for place in np.ndindex(array.shape[2:]):
            yield f"{name}[{', '.join(map(str, place))}]" if place else name, array[(slice(None), slice(None), *place)]


def _pairs(canvas: Canvas, num: int) -> "NDArray[Any]":
    """Axes (num, 2): of the caller, or each panel of a new figure beside its own."""
    if canvas.axes is not None:
        if len(canvas.axes) < 2 * num or num == 0:
            raise ValueError(f"expected axes in pairs, got {len(canvas.axes)}; make them by pyplot.subplots(n, 2)")
        return np.array(canvas.axes[: 2 * num], dtype=object).reshape(num, 2)
    from pgm_rnn.report.figures import paired

    return paired(num, width=WIDTH, height=1.5, shown=canvas.shown)


def _draw(left: "Axes", right: "Axes", title: str, draws: NDArray[Any]) -> None:
    bins = np.histogram_bin_edges(draws, BINS)
    for chain, (part, look) in enumerate(zip(draws, looks(len(draws)), strict=True)):
        left.hist(part, bins=list(bins), histtype="step", density=True, color=look.color, linestyle=look.dashes)
        right.plot(
            np.arange(1, len(part) + 1),
            part,
            color=look.color,
            linestyle=look.dashes,
            linewidth=0.8,
            label=f"chain {chain + 1}" if len(draws) > 1 else None,
        )
    mean = float(draws.mean())
    left.axvline(mean, color=GREY, linewidth=1, linestyle=":")
    finish(left, title)
    finish(right, "", np.arange(draws.shape[1]))
    left.set_yticks([])
    right.set_title(f"mean {mean:.3g}, sd {draws.std():.3g}", loc="right", fontsize=SMALL)
    right.margins(x=0)
