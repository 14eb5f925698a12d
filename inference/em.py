"""Expectation-maximisation for models with finitely many states: Baum-Welch, for every emission.

    E: expected counts of first states, transitions and observations under p(z_{1:T} | x_{1:T})
    M: the parameters that make these counts most likely, with Dirichlet pseudo-counts where they are asked for

Source: Vidal (2024), "Parameter learning via EM algorithm".
"""

import time
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from pgm_rnn.checks import check_counts
from pgm_rnn.inference.forward_backward import FiniteStateModel, check_possible, checked
from pgm_rnn.inference.weighted_estimates import estimate
from pgm_rnn.kernels import hmm
from pgm_rnn.sequences import Sequences, as_sequences, length_mask


class EmFit(NamedTuple):
    """Result of `fit`.

    Attributes:
        model: the model that was given, with its new parameters.
        log_likelihoods: sum over sequences of log p(x_{1:T}), nats, before each iteration and after the last.
        stopped_by: "num_iterations", "tolerance" or "interrupt".
        seconds: wall-clock time.
    """

    model: FiniteStateModel
    log_likelihoods: Tensor
    stopped_by: Literal["num_iterations", "tolerance", "interrupt"]
    seconds: float


class _Counts(NamedTuple):
    """Expected counts under the posterior, and the log likelihood on the way to them."""

    first: Tensor
    transitions: Tensor
    states: Tensor
    log_likelihood: float


@torch.no_grad()
def fit(
    model: FiniteStateModel,
    x: Sequences | Tensor,
    lengths: Tensor | None = None,
    *,
    num_iterations: int = 100,
    tolerance: float = 1e-6,
    pseudo_count: float = 0.0,
    progress: bool = True,
) -> EmFit:
    """Raise the likelihood of a model's parameters by EM, in place.

    Without pseudo-counts the log likelihood never decreases beyond rounding; with them, the log likelihood plus
    pseudo_count times the sum of the log probabilities does not.

    Args:
        model: an `HMM`.
        x: a padded batch, or observations (batch, T, *event).
        lengths: (batch,) if x is a tensor with padding.
        num_iterations: at most.
        tolerance: stop when an iteration gains less than this, nats per step.
        pseudo_count: added to every expected count of a first state, a transition, a symbol or a value of a bit.
        progress: a bar on a terminal.

    Raises:
        TypeError, ValueError: a model or observations that do not fit, or options out of range.
        ImpossibleSequenceError: observations that the model gives probability zero.
    """
    check_counts(num_iterations=num_iterations)
    if not pseudo_count >= 0 or not tolerance >= 0:
        raise ValueError(f"expected pseudo_count and tolerance to be at least 0, got {pseudo_count} and {tolerance}")
    start, data = time.perf_counter(), as_sequences(x, lengths)
    observations, steps = checked(model, data.x, data.lengths)
    log_likelihoods: list[float] = []
    stopped_by: Literal["num_iterations", "tolerance", "interrupt"] = "num_iterations"
    bar = tqdm(range(num_iterations), unit="iteration", disable=None if progress else True, leave=False)
    try:
        for _ in bar:
            counts = _expected_counts(model, observations, steps)
            log_likelihoods.append(counts.log_likelihood)
            bar.set_postfix(nats=f"{-counts.log_likelihood / int(steps.sum()):.4f}")
            if len(log_likelihoods) > 1 and log_likelihoods[-1] - log_likelihoods[-2] < tolerance * int(steps.sum()):
                stopped_by = "tolerance"
                break
            _maximise(model, observations, steps, counts, pseudo_count)
    except KeyboardInterrupt:
        stopped_by = "interrupt"
    if stopped_by != "tolerance":
        log_likelihoods.append(_expected_counts(model, observations, steps).log_likelihood)
    seconds = time.perf_counter() - start
    return EmFit(model, torch.tensor(log_likelihoods, dtype=torch.float64), stopped_by, seconds)


def _expected_counts(model: FiniteStateModel, x: Tensor, lengths: Tensor) -> _Counts:
    transition = model.transition_probs
    forward = hmm.forward(model.initial_probs, transition, model.emission_log_probs(x), lengths)
    check_possible(forward.log_normalizers, "start from parameters that allow it")
    _, counts, smoothed = hmm.expected_counts(transition, lengths, forward, transition.new_ones(len(lengths)))
    return _Counts(smoothed[:, 0].sum(0), counts * transition, smoothed, float(forward.log_normalizers.double().sum()))


def _maximise(model: FiniteStateModel, x: Tensor, lengths: Tensor, counts: _Counts, pseudo_count: float) -> None:
    mask = length_mask(lengths, x.shape[1])
    table = estimate(model.emission_table.family, x[mask], counts.states[mask], pseudo_count)
    model.set_probs(
        _normalised(counts.first + pseudo_count), _normalised(counts.transitions + pseudo_count), table.params
    )


def _normalised(counts: Tensor) -> Tensor:
    """Rows divided by their sums; a row without any count becomes uniform, for no data speak of it."""
    totals = counts.sum(-1, keepdim=True)
    return (counts / totals).where(totals > 0, 1 / counts.shape[-1])
