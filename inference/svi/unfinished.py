"""Whether a fit by gradient steps ran out of epochs while its objective was still rising.

    gain  = N times the fall of the loss over the last quarter of the epochs, along a straight line       in nats
    ahead = gain r / (1 - r),   r = gain / the gain of the quarter before;   infinite for r >= 1

The gains of a fit that converges shrink geometrically, and `ahead` is the sum of those to come (Aitken's rule). The log
likelihood of p parameters at its maximum is on average p/2 nats above that of the true ones (Wilks, 1938): a fit with
both numbers above p/2 is further from the maximum than estimation itself leaves the maximum from the truth. The loss of
a converged fit scatters with Adam's steps, so a gain must also exceed three standard deviations of the loss about the
line. A learning rate that decays to zero hides what remains, and then nothing is said.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference.at_limits import FitWarning
from pgm_rnn.inference.svi.goals import Goal
from pgm_rnn.inference.svi.plan import Epoch

FEWEST = 5
"""Smallest number of epochs in a quarter: fewer do not tell a rise from scatter."""
_DEVIATIONS = 3


class UnfinishedWarning(FitWarning):
    """A fit by gradient steps ended at `num_epochs` while its objective was still rising."""


class Rise(NamedTuple):
    """How an objective ended; both numbers are 0 if it did not rise.

    Attributes:
        gain: its rise over the last quarter of the epochs.
        ahead: its rise in the epochs to come, if gains go on to shrink as they did.
    """

    gain: float
    ahead: float


def of_fit(goal: Goal, history: Sequence[Epoch], stopped_by: str) -> list[str]:
    """A sentence if the fit ended at `num_epochs` while its objective was still rising, by the validation data if any.

    Args:
        goal: the model and its training data.
        history: one entry per epoch.
        stopped_by: why the fit ended.
    """
    judged = goal.num_valid is not None
    losses = [entry.valid_nats_per_step if judged else entry.train_nats_per_step for entry in history]
    num_units = goal.num_units(torch.arange(len(goal.train.lengths)))
    num_parameters = sum(parameter.numel() for parameter in goal.model.parameters() if parameter.requires_grad)
    gain, ahead = rise([math.inf if loss is None else loss for loss in losses])
    if stopped_by != "num_epochs" or not num_units * min(gain, ahead) > num_parameters / 2:
        return []
    of = f" of the validation data, for as many {goal.unit}s as in training," if judged else ""
    return [
        f"the log likelihood{of} was still rising when the fit ended: it gained {num_units * gain:.3g} nats in the "
        f"last {len(losses) // 4} of {len(losses)} epochs, and {num_parameters / 2:g} are within the error of "
        "estimation; use more epochs, a larger learning rate, or a start nearer to the data"
    ]


def rise(losses: Sequence[float]) -> Rise:
    """How the objective, minus the loss, ended.

    Args:
        losses: one per epoch.
    """
    size = len(losses) // 4
    before, last = torch.tensor(losses[len(losses) - 2 * size :], dtype=torch.float64).reshape(2, size)
    if size < FEWEST or not bool(last.isfinite().all()):
        return Rise(0.0, 0.0)
    gain, scatter = _line(last)
    if not gain > _DEVIATIONS * scatter:
        return Rise(0.0, 0.0)
    earlier, _ = _line(before)
    return Rise(gain, gain**2 / (earlier - gain) if earlier > gain else math.inf)


def _line(losses: Tensor) -> tuple[float, float]:
    """The fall of losses (n,) along a straight line, and their standard deviation about it."""
    epochs = torch.arange(len(losses), dtype=torch.float64) - (len(losses) - 1) / 2
    slope = (epochs @ losses) / (epochs @ epochs)
    scatter = (losses - losses.mean() - slope * epochs).square().sum().div(len(losses) - 2).sqrt()
    return -float(slope) * len(losses), float(scatter)
