"""Theorem 5 and the ELBO equivalence on real sequences, with an RNN fitted to them.

The claims' own instances are small enough to write every sequence's probability down; here the sequences are long and
the network is trained. Everything is measured in float64, and relative to one plus the largest log likelihood.
"""

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor

from pgm_rnn.claims.choe_2017.theorem_5 import Theorem5, trace_log_probs
from pgm_rnn.claims.claim import Claim, Result, conclude, rounding
from pgm_rnn.claims.instances import NoisyMemory
from pgm_rnn.claims.sohl_dickstein_2015.elbo_equivalence import ElboEquivalence, bound_residual, noise_gap
from pgm_rnn.claims.torch_recursion import log_likelihood
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded
from pgm_rnn.sequences import Sequences

NOISE = 0.05
"""Scale of the hidden states' noise in the controls."""


def check_on_data(
    rnn: RNN, data: Sequences, seed: int = 0, advance: Callable[[], object] = lambda: None
) -> list[Result]:
    """Results of the claims that one RNN and given sequences can bear witness to.

    Args:
        rnn: a fitted RNN.
        data: the sequences, each an instance.
        seed: of the controls' noise.
        advance: called after each claim, for a progress bar.
    """
    rnn = copy.deepcopy(rnn).double()
    x = data.x if rnn.family.needs_integers else data.x.double()
    measurements: list[tuple[Claim, Callable[[], float], Callable[[], float]]] = [
        (Theorem5(), lambda: _trace_residual(rnn, x, data.lengths), lambda: _noise_effect(rnn, x, data.lengths)),
        (
            ElboEquivalence(),
            lambda: bound_residual(rnn, x, data.lengths, num_draws=1),
            lambda: noise_gap(rnn, x, data.lengths, num_draws=4, noise=NOISE),
        ),
    ]
    tolerance = rounding(int(data.lengths.max()), rnn.cell.hidden_dim + rnn.cell.input_dim)
    results = []
    with seeded(seed, stream=4):
        for claim, residual, control in measurements:
            start = time.perf_counter()
            values = residual(), control()
            seconds = time.perf_counter() - start
            results.append(conclude(claim, len(data.lengths), values[0], tolerance, values[1], seconds))
            advance()
    return results


@torch.no_grad()
def _trace_residual(rnn: RNN, x: Tensor, lengths: Tensor) -> float:
    """The largest difference between the trace's and the recursion's log p(x_{2:L} | x_1)."""
    exact = log_likelihood(rnn, x, lengths, condition=True)
    return float((trace_log_probs(rnn, x, lengths) - exact).abs().max() / (1 + exact.abs().max()))


@torch.no_grad()
def _noise_effect(rnn: RNN, x: Tensor, lengths: Tensor) -> float:
    """The smallest such difference when the hidden states are noisy."""
    exact = log_likelihood(rnn, x, lengths, condition=True)
    with NoisyMemory(NOISE):
        noisy = trace_log_probs(rnn, x, lengths)
    return float((noisy - exact).abs().min() / (1 + exact.abs().max()))
