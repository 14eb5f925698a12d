"""A hidden Markov model of maximum likelihood from many short sequences, most of which are alike.

    loss = -sum_x c(x) log p(x_{1:T}) - a sum log(probabilities)        c(x): how often x was seen, a: pseudo-count

is the loss that Baum-Welch decreases, a sum over at most p^T different sequences. Their likelihoods are computed in one
tree, as in `histories`, and L-BFGS minimises the loss in logits. Baum-Welch (`pgm_rnn.inference.em`) reaches the same
optima, but needs thousands of iterations if the data say little about the states.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.experiments.lbfgs import Tensors, minimized
from pgm_rnn.models.hmm import HMM

NUM_ITERATIONS, MEMORY = 1000, 50
"""L-BFGS's largest number of iterations, and the number of past steps that it stores."""

PSEUDO_COUNT = 0.1
"""Pseudo-count that is added to every expected count."""

TOLERANCE = 1e-11
"""L-BFGS stops where an iteration gains less than this part of the loss."""


class Logits(NamedTuple):
    """A hidden Markov model in free numbers.

    Attributes:
        initial: log p(z_1) up to a constant, (m,).
        transition: log p(z_{t+1} | z_t) up to one for each row, (m, m).
        emission: log p(x_t | z_t) up to one for each row, (m, p).
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor

    def log_probs(self) -> "Logits":
        """The logarithms of the probabilities."""
        return Logits(*(table.log_softmax(-1) for table in self))

    def hmm(self) -> HMM:
        """The model."""
        return HMM(*(table.exp() for table in self.log_probs()))


def sequence_counts(x: Tensor, num_symbols: int) -> Tensor:
    """How often each sequence was seen, (p^T,) in the order of `all_sequences`, of sequences (N, T)."""
    places = num_symbols ** torch.arange(x.shape[1] - 1, -1, -1)
    return torch.bincount(x @ places, minlength=num_symbols ** x.shape[1])


def sequence_log_probs(log_probs: Logits, num_steps: int) -> Tensor:
    """log p(x_{1:T}) of every sequence, (p^T,) in the order of `all_sequences`; short ones, for nothing is rescaled."""
    initial, transition, emission = (table.exp() for table in log_probs)
    alpha = emission.mT * initial  # (p, m)
    for _ in range(num_steps - 1):
        alpha = ((alpha @ transition)[:, None] * emission.mT).flatten(0, 1)
    return alpha.sum(-1).log()


def fit_hmm(counts: Tensor, held_out: Tensor, num_steps: int, num_states: int, seeds: Sequence[int]) -> HMM:
    """The model of least loss from several starts, or an earlier iterate that is clearly better on held-out sequences.

    "Clearly" means by more than the standard error of the mean difference of log p(x_{1:T}): there are few held-out
    sequences, and among many models some always look a little better by chance.

    Args:
        counts: counts of the training sequences, (p^T,).
        held_out: counts of the held-out sequences, (p^T,).
        num_steps: T.
        num_states: m.
        seeds: seeds of the starts, which are Dirichlet(1) draws.
    """
    num_symbols = round(len(counts) ** (1 / num_steps))
    climbs = [_climb(counts, held_out, num_steps, HMM.random(num_states, num_symbols, seed=seed)) for seed in seeds]
    last = min(climbs, key=lambda climb: climb.loss).last
    early = min(climbs, key=lambda climb: climb.held_out_loss).early
    gain = sequence_log_probs(early.log_probs(), num_steps) - sequence_log_probs(last.log_probs(), num_steps)
    return (early if _is_clear(gain, held_out) else last).hmm()


def _is_clear(gain: Tensor, counts: Tensor) -> bool:
    """Whether the mean of values, so many of each, is above its standard error."""
    number = counts.sum()
    mean = (counts * gain).sum() / number
    variance = (counts * (gain - mean).square()).sum() / (number - 1)
    return bool(mean > (variance / number).sqrt())


class _Climb(NamedTuple):
    """The end of an L-BFGS run with its loss, and the best iterate on held-out sequences with its held-out loss."""

    last: Logits
    loss: float
    early: Logits
    held_out_loss: float


def _climb(counts: Tensor, held_out: Tensor, num_steps: int, first: HMM) -> _Climb:
    """L-BFGS from one start."""
    tables = (first.initial_probs, first.transition_probs, first.emission_probs)
    start = Logits(*(table.detach().log() for table in tables))
    seen: list[tuple[float, Logits]] = []

    def loss(leaves: Tensors) -> Tensor:
        log_probs = Logits(**leaves).log_probs()
        value = -(counts * sequence_log_probs(log_probs, num_steps)).sum()
        return (value - PSEUDO_COUNT * sum(table.sum() for table in log_probs)) / counts.sum()

    @torch.no_grad()
    def look(tensors: Tensors) -> None:
        logits = Logits(**tensors)
        value = -float((held_out * sequence_log_probs(logits.log_probs(), num_steps)).sum())
        if not seen or value < seen[0][0]:
            seen[:] = [(value, logits)]

    look(start._asdict())
    found = minimized(
        loss,
        start._asdict(),
        num_iterations=NUM_ITERATIONS,
        memory=MEMORY,
        gain=TOLERANCE,
        derivative=0.0,
        after=look,
    )
    held_out_loss, early = seen[0]
    return _Climb(Logits(**found.tensors), found.value, early, held_out_loss)
