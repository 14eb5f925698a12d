"""Theorem 5 and the ELBO equivalence on real sequences, with an RNN fitted to them.

The claims' own instances are small enough to write every sequence's probability down; here the sequences are long and
the network is trained. Everything is measured in float64, and relative to one plus the largest log likelihood.
"""

import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pgm_rnn.claims.choe_2017.theorem_5 import Theorem5, trace_log_probs
from pgm_rnn.claims.claim import Claim, Result, conclude, largest, rounding, smallest
from pgm_rnn.claims.instances import NoisyMemory
from pgm_rnn.claims.sohl_dickstein_2015.elbo_equivalence import ElboEquivalence, bound_residual, noise_gap
from pgm_rnn.claims.torch_recursion import log_likelihood
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded
from pgm_rnn.sequences import Sequences

Measure = Callable[[RNN, Tensor, Tensor], float]

NOISE = 0.05
"""Scale of the hidden states' noise in the controls."""


CHUNK = 20
"""Number of sequences measured at a time: the trace of a piano piece of 1800 steps is long."""


def num_chunks(data: Sequences) -> int:
    """Number of times that `check_on_data` calls `advance` for each of its two claims."""
    return -(-len(data.lengths) // CHUNK)


def check_on_data(
    rnn: RNN, data: Sequences, seed: int = 0, advance: Callable[[], object] = lambda: None
) -> list[Result]:
    """Results of the claims that can be checked with one RNN and given sequences.

    Args:
        rnn: a fitted RNN.
        data: the sequences; each of them is an instance.
        seed: random seed for the controls' noise.
        advance: function called after each chunk of sequences of each claim, for a progress bar.
    """
    rnn = copy.deepcopy(rnn).double()
    chunks = [data.select(index) for index in data.lengths.argsort().split(CHUNK)]
    tolerance = rounding(int(data.lengths.max()), rnn.cell.hidden_dim + rnn.cell.input_dim)
    measures: list[tuple[Claim, Measure, Measure]] = [
        (Theorem5(), _trace_residual, _noise_effect),
        (ElboEquivalence(), partial(bound_residual, num_draws=1), partial(noise_gap, num_draws=4, noise=NOISE)),
    ]
    results = []
    with seeded(seed, stream=4):
        for claim, measure, control in measures:
            start, values = time.perf_counter(), []
            for chunk in chunks:
                x = chunk.x if rnn.family.needs_integers else chunk.x.double()
                values.append((measure(rnn, x, chunk.lengths), control(rnn, x, chunk.lengths)))
                advance()
            residuals, controls = zip(*values, strict=True)
            seconds = time.perf_counter() - start
            results.append(
                conclude(claim, len(data.lengths), largest(residuals), tolerance, smallest(controls), seconds)
            )
    return results


@torch.no_grad()
def _trace_residual(rnn: RNN, x: Tensor, lengths: Tensor) -> float:
    """The largest difference between the trace's and the recursion's log p(x_{2:L} | x_1)."""
    exact = log_likelihood(rnn, x, lengths, condition=True)
    return float((trace_log_probs(rnn, x, lengths) - exact).abs().max() / (1 + exact.abs().max()))


def _noise_effect(rnn: RNN, x: Tensor, lengths: Tensor) -> float:
    """The smallest difference when the hidden states are noisy."""
    with NoisyMemory(NOISE):
        return _trace_residual(rnn, x, lengths)
