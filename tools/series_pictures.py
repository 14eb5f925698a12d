"""Pictures of a single series above what its trained model infers from it: regimes, components or volatility."""

from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pgm_rnn.data import Dataset
from pgm_rnn.inference import forward_backward, kalman, smc
from pgm_rnn.models import StochasticVolatility, StructuralSSM, SwitchingMeanAR
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequences import Sequences
from pgm_rnn.states import FiniteStates

PARTICLES, DRAWS = 1000, 200
"""Particles of the filter, and paths drawn backwards from it."""
LINE, BAND = "#1f4e79", "#c6d8ea"


def draw(model: SequenceModel, data: Dataset, file: Path) -> str:
    """Draw the picture, and say in a few words what it shows.

    Raises:
        TypeError: a model of another class.
    """
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    x = data.train.x[0]
    above.plot(range(1, len(x) + 1), x, color="black", linewidth=0.8)
    above.set_ylabel(f"x, {data.name}", fontsize=9)
    shows = _inferred(model, data.train, above, below)
    below.set_ylabel(shows, fontsize=9)
    below.set_xlabel("step", fontsize=9)
    for axes in (above, below):
        axes.tick_params(labelsize=8)
        axes.margins(x=0.01)
    figure.savefig(file, dpi=110)
    return shows


@torch.no_grad()
def _inferred(model: SequenceModel, data: Sequences, above: Axes, below: Axes) -> str:
    x = data.x
    if isinstance(model, SwitchingMeanAR):
        lowest = int(model.means.argmin())
        probs = model.regimes(forward_backward.smooth(model, x).smoothed_probs)[0, model.order :, lowest]
        steps = range(model.order + 1, x.shape[1] + 1)
        below.fill_between(steps, probs, color=LINE, step="mid")
        below.set_ylim(0, 1)
        return "p(low regime)"
    if isinstance(model, StructuralSSM):
        parts = kalman.decompose(model, x)
        _band(above, parts.means["level"][0], parts.sds["level"][0])
        _band(below, parts.means["seasonal"][0], parts.sds["seasonal"][0])
        return "season"
    if isinstance(model, StochasticVolatility):
        smoothed = smc.smooth(model, x, num_particles=PARTICLES, num_paths=DRAWS, seed=0)
        size = (smoothed.paths[:, 0, :, 0] / 2).exp()
        _band(below, size.mean(0), size.std(0))
        return "volatility"
    if isinstance(model.states, FiniteStates):
        probs = forward_backward.smooth(model, x, inputs=data.inputs).smoothed_probs[0]
        shades = [colormaps["Blues"](place) for place in torch.linspace(0.25, 0.9, model.states.num_states).tolist()]
        below.stackplot(
            range(1, len(probs) + 1), probs.T, labels=[str(k) for k in range(len(shades))], colors=shades, step="mid"
        )
        below.legend(title="state", fontsize=8, title_fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        below.set_ylim(0, 1)
        return "p(state)"
    raise TypeError(f"expected a model of a single series, got {type(model).__name__}")


def _band(axes: Axes, mean: Tensor, sd: Tensor) -> None:
    """A line within two standard deviations."""
    steps = range(1, len(mean) + 1)
    axes.fill_between(steps, mean - 2 * sd, mean + 2 * sd, color=BAND, linewidth=0)
    axes.plot(steps, mean, color=LINE, linewidth=1.2)
