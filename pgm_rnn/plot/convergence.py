"""The record of a fit: the log likelihood of EM with its restarts, or the losses of gradient steps."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgm_rnn.inference.em import EmFit
from pgm_rnn.inference.svi import Fit
from pgm_rnn.report.canvas import TEXT, canvas_on
from pgm_rnn.report.looks import AHEAD, GREY, INK
from pgm_rnn.report.time_axis import finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPAN, LEAST = 20.0, 1.0
"""The axis of EM's record shows at most `SPAN` times the range of its second half, but at least `LEAST` nats."""


def convergence(fit: EmFit | Fit, *, axes: Any = None) -> "list[Axes]":
    """Draw a fit's record.

    EM: the log likelihood of the chosen start before each iteration and after the last, in nats; with restarts, a
    second panel with the last log likelihood of each start, highest first. Gradient steps: training and validation loss
    in nats per step by epoch, and the epoch whose parameters were kept.

    Args:
        fit: the result of `em.fit` or `svi.fit`.
        axes: one matplotlib axes, or two for EM with restarts; None for a new figure.

    Returns:
        The axes that are used.

    Raises:
        TypeError: something else than a fit.
        ValueError: a fit without an epoch.
    """
    if isinstance(fit, EmFit):
        return _of_em(fit, axes)
    if isinstance(fit, Fit):
        return _of_gradient_steps(fit, axes)
    raise TypeError(f"expected a result of em.fit or svi.fit, got {type(fit).__name__}")


def _of_em(fit: EmFit, axes: Any) -> "list[Axes]":
    values = fit.log_likelihoods.detach().cpu().double().numpy()
    ends = fit.restarts.log_likelihoods.detach().cpu().double().numpy()
    panels = canvas_on(axes).panels(2 if len(ends) > 1 else 1, height=2.2)
    panels[0].plot(np.arange(len(values)), values, color=INK, marker="o", markersize=2.5, linewidth=1.4)
    _look_closely(panels[0], values)
    panels[0].set_xlabel("iteration", fontsize=TEXT)
    panels[0].set_ylabel("log likelihood, nats", fontsize=TEXT)
    title = f"start {fit.restarts.chosen}: {fit.num_iterations} iterations, ended by {fit.stopped_by}"
    finish(panels[0], title, np.arange(len(values)))
    if len(ends) > 1:
        _draw_ends(panels[1], ends, fit.restarts.chosen, validated=fit.restarts.valid_log_likelihoods is not None)
    return panels


def _look_closely(panel: "Axes", values: NDArray[Any]) -> None:
    """Leave out the first values where they would hide the rest, but never magnify differences far below a nat."""
    top = float(values.max())
    room = max(SPAN * (top - float(values[len(values) // 2 :].min())), LEAST)
    if top - float(values.min()) > room:
        panel.set_ylim(top - room, top + 0.05 * room)
    elif top - float(values.min()) < LEAST:
        panel.set_ylim(top - LEAST, top + 0.05 * LEAST)
    panel.ticklabel_format(axis="y", useOffset=False)


def _draw_ends(panel: "Axes", ends: NDArray[Any], chosen: int, *, validated: bool) -> None:
    order = np.argsort(-ends, kind="stable")
    places = np.arange(1, len(ends) + 1)
    panel.plot(places, ends[order], color=INK, linestyle="none", marker="o", markersize=5)
    place = int(np.flatnonzero(order == chosen)[0])
    panel.plot(places[place], ends[chosen], color=AHEAD, linestyle="none", marker="D", markersize=8, zorder=3)
    panel.set_xticks(list(places), [str(start) for start in order])
    panel.set_xlabel("start", fontsize=TEXT)
    panel.set_ylabel("log likelihood, nats", fontsize=TEXT)
    panel.ticklabel_format(axis="y", useOffset=False)
    if np.ptp(ends) < LEAST:
        panel.set_ylim(ends.max() - LEAST, ends.max() + 0.05 * LEAST)
    by = "validation data" if validated else "likelihood"
    finish(panel, f"last value of each start; diamond: chosen by {by}")


def _of_gradient_steps(fit: Fit, axes: Any) -> "list[Axes]":
    if not fit.history:
        raise ValueError("expected a fit with at least one epoch, got none")
    canvas = canvas_on(axes)
    (panel,) = canvas.panels(1)
    epochs = np.array([epoch.epoch for epoch in fit.history])
    train = [epoch.train_nats_per_step for epoch in fit.history]
    valid = [epoch.valid_nats_per_step for epoch in fit.history]
    mark = "o" if len(epochs) == 1 else None
    panel.plot(epochs, train, color=INK, linewidth=1.4, marker=mark, label="training")
    if all(value is not None for value in valid):
        numbers = np.array(valid, dtype=float)
        panel.plot(epochs, numbers, color=AHEAD, linewidth=1.4, linestyle="--", marker=mark, label="validation")
    if fit.best_epoch > 0:
        panel.axvline(fit.best_epoch, color=GREY, linestyle=":", linewidth=1.2, label=f"kept: epoch {fit.best_epoch}")
    canvas.name([panel], "epoch", f"{_objective(fit)}, nats per step")
    finish(panel, f"ended by {fit.stopped_by}", epochs)
    canvas.legend([panel])
    return [panel]


def _objective(fit: Fit) -> str:
    return "-log p(x)" if fit.objective == "mle" else f"-{fit.objective.upper()}"
