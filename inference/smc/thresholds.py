"""What compiled filters are told, and what they report: when to resample, and which sequences were lost."""

import math

import torch
from torch import Tensor

from pgm_rnn.kernels.particle_runs import INFINITE, NAN
from pgm_rnn.particles import DegenerateWeightsError, Options

_FOUND = {NAN: "NaN weights", INFINITE: "infinite weights"}


def least_size(options: Options) -> float:
    """The effective sample size at which, and below which, to resample: below any for never, infinite for always."""
    threshold = options.ess_threshold * options.num_particles
    return {0.0: -1.0, 1.0: math.inf}.get(float(options.ess_threshold), threshold)


def check_lost(lost: Tensor, options: Options) -> None:
    """Raise for the first step at which a sequence had no weights to go on with.

    Args:
        lost: the first such step of each sequence, from 1, or 0, and the kind of its weights, (B, 2).
        options: the filter's options.

    Raises:
        DegenerateWeightsError: a weight is NaN or infinite or, unless degenerate="-inf", all are zero.
    """
    steps, kinds = lost.unbind(1)
    wrong = (steps > 0) & ((kinds > 0) | (options.degenerate == "raise"))
    if bool(wrong.any()):
        sequence = int(steps.where(wrong, torch.iinfo(steps.dtype).max).argmin())
        raise DegenerateWeightsError(sequence, int(steps[sequence]), _FOUND.get(int(kinds[sequence])))
