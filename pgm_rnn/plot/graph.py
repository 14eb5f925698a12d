"""The directed graph of a model, read from its Pyro program, unrolled over a few steps or folded into one slice."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgm_rnn.report.canvas import canvas_on
from pgm_rnn.report.graph_pictures import draw_graphs
from pgm_rnn.report.graphs import Model, graphs_of, title_of
from pgm_rnn.sequence_model import Memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def graph(
    model: "Model | Mapping[str, Model]",
    *,
    num_steps: int = 3,
    folded: bool = False,
    memory: Memory = "deterministic",
    axes: Any = None,
) -> "list[Axes]":
    """Draw the graph of a model's Pyro program: time to the right, one row per variable, plates as rectangles.

    Observations are grey; Delta nodes are double squares, and the arrows into them are blue. With `WithPriors` the
    parameters stand outside of the plate of sequences.

    Args:
        model: any model with first="model", with or without priors; or several by their titles, beside each other.
        num_steps: T, the number of steps.
        folded: whether one slice stands for all steps, with dashed arrows to the next one.
        memory: "sampled" shows the hidden states as the latent variables that Pyro can be shown.
        axes: matplotlib axes, one for each model; None for a new figure.

    Returns:
        The axes, one for each model.

    Raises:
        TypeError: something else than models.
        ValueError: a model that conditions on x_1, num_steps below 1, or no model.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> (panel,) = graph(HMM.random(num_states=2, num_symbols=3, seed=0), num_steps=2)
        >>> panel.get_title()
        'HMM'
    """
    models = model if isinstance(model, Mapping) else {title_of(model): model}
    if not models:
        raise ValueError("expected at least one model, got none")
    return draw_graphs(graphs_of(models, num_steps, folded=folded, memory=memory), canvas_on(axes))
