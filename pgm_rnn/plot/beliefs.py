"""Filtered or smoothed laws of latent states over time."""

from typing import TYPE_CHECKING, Any

from pgm_rnn.plot.sources import states_of
from pgm_rnn.report.canvas import canvas_on
from pgm_rnn.sequences import Data

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def beliefs(
    source: object,
    data: Data | None = None,
    *,
    which: str | None = None,
    engine: str = "auto",
    num_particles: int = 1000,
    seed: int | None = 0,
    axes: Any = None,
) -> "list[Axes]":
    """Draw p(z_t | x_{1:t}) or p(z_t | x_{1:T}): stacked areas of probabilities, or means with bands.

    Args:
        source: a result of `pgm_rnn.infer`, `forward_backward` or `kalman`, or a model with `data`.
        data: the sequences, for a model, or for names and times that the result lacks.
        which: "filtered" or "smoothed"; None for smoothed where there is such a law.
        engine: for a model, as for `pgm_rnn.infer`.
        num_particles: for a model, as for `pgm_rnn.infer`.
        seed: for a model, as for `pgm_rnn.infer`.
        axes: one or several matplotlib axes, one for each sequence; None for a new figure of up to six sequences.

    Returns:
        The axes, one for each sequence that is shown.

    Raises:
        TypeError: a source of another type.
        ValueError: a model without data, or a law that the engine did not give.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> (panel,) = beliefs(hmm, hmm.sample(num_sequences=1, num_steps=9, seed=0))
        >>> panel.get_ylabel()
        'smoothed probability'
    """
    return states_of(source, data, engine, num_particles, seed).draw(which, canvas_on(axes))
