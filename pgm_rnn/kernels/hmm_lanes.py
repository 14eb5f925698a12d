"""The forward and backward recursions of several sequences with few states, eight sequences side by side.

They serve log p(x_{1:T}) and its gradients on the CPU where all sequences share one dense transition table
(`hmm_losses`). A loop over few states is too short for a processor's vectors; one over sequences is not.
"""

from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels.hmm_losses import is_dense, largest_future
from pgm_rnn.kernels.hmm_tables import two_axes
from pgm_rnn.kernels.threads import num_threads, run_compiled

LANES = 8
"""Number of sequences side by side, as in `lanes_compiled`, which imports numba."""
SMALL = 12
"""Number of states below which one sequence alone takes as long as eight side by side."""
LARGEST = 64
"""Largest number of states for which sequences are taken side by side. All three were measured."""


class Lanes(NamedTuple):
    """Result of the forward recursion as the backward one needs it: (G, T, K, 8) for G groups of sequences, flat.

    Attributes:
        emission: p(x_t | z_t) up to one factor per step.
        filtered: p(z_t | x_{1:t}).
        scale: c_t up to the same factor, (G, T, 8), flat.
    """

    emission: Tensor
    filtered: Tensor
    scale: Tensor


def suits(initial: Tensor, transition: Tensor, log_emission: Tensor) -> bool:
    """Whether sequences are best taken side by side, for arguments as in `pgm_rnn.kernels.hmm`."""
    batch, _, num_states = log_emission.shape
    if transition.shape[:-2].numel() != 1 or log_emission.device.type != "cpu" or num_states > LARGEST:
        return False
    several = batch >= (2 if num_states < SMALL else LANES * num_threads())
    return several and is_dense(initial, transition)


def forward(
    initial: Tensor, transition: Tensor, log_emission: Tensor, lengths: Tensor, keep_steps: bool
) -> tuple[Tensor, Lanes]:
    """log p(x_{1:T}), (B,), nats: Rabiner (1989), eq. (103); the `Lanes` have no meaning unless steps are kept."""
    batch, num_steps, num_states = log_emission.shape
    size = -(-batch // LANES) * (num_steps if keep_steps else 1) * LANES
    emission, filtered = log_emission.new_empty(size * num_states), log_emission.new_empty(size * num_states)
    lanes, value = Lanes(emission, filtered, log_emission.new_empty(size)), torch.empty(batch, dtype=torch.float64)
    tables = two_axes(initial), transition.reshape(num_states, num_states)
    tiny = torch.finfo(log_emission.dtype).tiny ** 0.75
    run_compiled(_module().forward, *tables, log_emission.flatten(), lengths, *lanes, value, tiny)
    return value.to(log_emission.dtype), lanes


def expected_counts(
    transition: Tensor, lengths: Tensor, lanes: Lanes, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`hmm.expected_counts` after `forward`."""
    batch, num_states = len(lengths), transition.shape[-1]
    num_groups = -(-batch // LANES)
    smoothed = weights.new_empty(batch, lanes.scale.numel() // (LANES * num_groups), num_states)
    first, counts = weights.new_empty(batch, num_states), weights.new_zeros(num_groups, num_states, num_states)
    transposed = transition.reshape(num_states, num_states).mT.contiguous()
    found = smoothed.flatten(), first, counts
    run_compiled(_module().backward, transposed, *lanes, lengths, weights, *found, largest_future(weights.dtype))
    return first, counts.sum(0).reshape(transition.shape), smoothed


@cache
def _module() -> ModuleType:
    from pgm_rnn.kernels import hmm_lanes_compiled

    return hmm_lanes_compiled
