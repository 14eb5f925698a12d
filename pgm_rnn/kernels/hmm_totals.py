"""log p(x_{1:T}) of single long sequences with few states, where nothing but the value is asked for.

It serves dense chains on the CPU (`hmm_losses`) with one table of transitions d <= p(j | i). A step leaves at least d
of the sum of the beliefs, so that float64 loses no state in the steps between two divisions.
"""

import math

import torch
from torch import Tensor

from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.hmm_losses import is_dense
from pgm_rnn.kernels.hmm_tables import two_axes
from pgm_rnn.kernels.threads import run_compiled

LARGEST = 16
"""Largest number of states, as far as it was measured to be faster."""
MOST_STEPS = 16
"""Steps between divisions at most."""
DIGITS = 280
"""How far the sum of the beliefs may fall between divisions, in powers of ten."""


def suits(initial: Tensor, transition: Tensor, log_emission: Tensor) -> bool:
    """Whether arguments as in `pgm_rnn.kernels.hmm` are of this kind."""
    here = transition.shape[:-2].numel() == 1 and log_emission.device.type == "cpu"
    return here and log_emission.shape[2] <= LARGEST and is_dense(initial, transition)


def log_marginal_likelihood(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor
) -> Tensor | None:
    """log p(x_{1:T}), (B,), nats: Rabiner (1989), eq. (103); None where a sequence has another than a finite one."""
    num_states = log_emission.shape[2]
    padding = -num_states % LANES
    table = torch.nn.functional.pad(transition.reshape(num_states, num_states).double(), (0, padding))
    fall = max(1.0, -math.log10(float(transition.amin())))
    every = max(1, min(MOST_STEPS, int(DIGITS / fall)))
    value = torch.empty(len(lengths), dtype=torch.float64)
    _run(two_axes(initial).double(), table, log_emission, lengths, every, value)
    return value.to(log_emission.dtype) if bool(value.isfinite().all()) else None


def _run(*arguments: Tensor | int) -> None:
    from pgm_rnn.kernels import hmm_totals_compiled

    run_compiled(hmm_totals_compiled.totals, *arguments)
