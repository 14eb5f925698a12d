"""Expectation-maximisation: the loop, for every model whose E and M steps are exact.

    E: expected statistics of the hidden states under p(z_{1:T} | x_{1:T})
    M: the parameters that make these statistics most likely

The steps of a kind of model are in a module of their own: `baum_welch` for finitely many states, `gaussian_em` for the
linear-Gaussian state-space model.
"""

import time
from collections.abc import Collection
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from pgm_rnn.checks import check_counts
from pgm_rnn.inference.baum_welch import BaumWelch
from pgm_rnn.inference.forward_backward import FiniteStateModel
from pgm_rnn.inference.gaussian_em import GaussianEm, TrainableLinearModel, is_trainable
from pgm_rnn.sequences import Sequences, as_sequences

StoppedBy = Literal["num_iterations", "tolerance", "interrupt"]


class Steps(Protocol):
    """E and M steps of R starts side by side, on their own copies of a model's parameters."""

    def expect(self) -> Tensor:
        """Log likelihood of the training data under each start's present parameters, (R,), nats; the E-step."""

    def maximise(self) -> None:
        """Replace the parameters of every start by those of the M-step after the last `expect`."""

    def validate(self) -> Tensor | None:
        """Log likelihood of the validation data under each start's present parameters, (R,), nats; None without."""

    def adopt(self, start: int) -> None:
        """Write one start's present parameters into the model."""


class Restarts(NamedTuple):
    """How the starts compare at the end.

    Attributes:
        log_likelihoods: of the training data under each start's last parameters, (R,), nats.
        valid_log_likelihoods: of the validation data, (R,), nats; None if there were none.
        chosen: the start whose parameters the model has; 0 began at the model's own.
    """

    log_likelihoods: Tensor
    valid_log_likelihoods: Tensor | None
    chosen: int


class EmFit(NamedTuple):
    """Result of `fit`.

    Attributes:
        model: the model that was given, with its new parameters.
        log_likelihoods: of the chosen start, the sum over sequences of log p(x_{1:T}), nats, before each iteration and
            after the last.
        restarts: how the starts compare.
        stopped_by: "num_iterations", "tolerance" or "interrupt".
        seconds: wall-clock time.
    """

    model: FiniteStateModel | TrainableLinearModel
    log_likelihoods: Tensor
    restarts: Restarts
    stopped_by: StoppedBy
    seconds: float


@torch.no_grad()
def fit(
    model: FiniteStateModel | TrainableLinearModel,
    x: Sequences | Tensor,
    lengths: Tensor | None = None,
    *,
    valid: Sequences | Tensor | None = None,
    num_iterations: int = 100,
    tolerance: float = 1e-6,
    num_restarts: int = 1,
    seed: int = 0,
    frozen: Collection[str] = (),
    pseudo_count: float = 0.0,
    pseudo_observations: float = 0.0,
    inputs: Tensor | None = None,
    progress: bool = True,
) -> EmFit:
    """Raise the likelihood of a model's parameters by EM, in place.

    What never decreases beyond rounding is the log likelihood, plus pseudo_count times the sum of the log
    probabilities, plus pseudo_observations times the sum over states of the mean of log p(x | z = k) over the data.
    The model changes when the fit ends or is interrupted.

    Args:
        model: an `HMM` or a `LinearGaussianSSM`.
        x: a padded batch, or observations (batch, T, *event); for a `LinearGaussianSSM` NaN where one is missing.
        lengths: (batch,) if x is a tensor with padding.
        valid: sequences that choose among the starts; without them, the training data do.
        num_iterations: at most.
        tolerance: stop when an iteration gains less than this in every start, nats per step.
        num_restarts: starts that run side by side, at as many times the memory. The first is the model's own
            parameters, the others are random parameters near the data (`random_starts`). Finite states only.
        seed: of the random starts.
        frozen: parts of the model that stay as they are, bit for bit: "initial", "transition" or "emission"; for a
            `LinearGaussianSSM` the names of its constructor, such as "emission_matrix".
        pseudo_count: added to every expected count of a first state, a transition, a symbol or a value of a bit; for
            models with finitely many states.
        pseudo_observations: how many observations, spread like all of the data, are added to those of every state,
            which draws the laws of rare states towards the common one; for models with finitely many states.
        inputs: (batch, T, input_dim) for a model with inputs.
        progress: a bar on a terminal.

    Raises:
        TypeError, ValueError: a model or observations that do not fit, or options out of range.
        ImpossibleSequenceError: observations that the model gives probability zero.
    """
    check_counts(num_iterations=num_iterations, num_restarts=num_restarts)
    _check_not_negative(tolerance=tolerance, pseudo_count=pseudo_count, pseudo_observations=pseudo_observations)
    start, data = time.perf_counter(), as_sequences(x, lengths)
    held_out = None if valid is None else as_sequences(valid)
    steps: Steps
    if is_trainable(model):
        _check_one_start(num_restarts, pseudo_count, pseudo_observations)
        steps = GaussianEm(model, data, held_out, inputs=inputs, frozen=frozen)
    else:
        if inputs is not None:
            raise ValueError("expected no inputs, for the model takes none, got some; drop them")
        steps = BaumWelch(
            model,
            data,
            held_out,
            frozen=frozen,
            pseudo_count=pseudo_count,
            pseudo_observations=pseudo_observations,
            num_restarts=num_restarts,
            seed=seed,
        )
    history, stopped_by = _climb(steps, num_iterations, tolerance, data.num_steps, progress)
    restarts = _compared(history[-1], steps.validate())
    steps.adopt(restarts.chosen)
    return EmFit(model, history[:, restarts.chosen], restarts, stopped_by, time.perf_counter() - start)


def _check_not_negative(**options: float) -> None:
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(f"expected {name} to be at least 0, got {value}")


def _check_one_start(num_restarts: int, pseudo_count: float, pseudo_observations: float) -> None:
    if num_restarts > 1 or pseudo_count > 0 or pseudo_observations > 0:
        raise ValueError(
            f"expected num_restarts=1 and no pseudo-counts for a linear-Gaussian model, got {num_restarts}, "
            f"{pseudo_count} and {pseudo_observations}; they are for finitely many states"
        )


def _climb(
    steps: Steps, num_iterations: int, tolerance: float, num_steps: int, progress: bool
) -> tuple[Tensor, StoppedBy]:
    """Iterate until nothing is gained; the log likelihoods before each iteration and after the last, (n, R)."""
    history: list[Tensor] = []
    stopped_by: StoppedBy = "num_iterations"
    bar = tqdm(range(num_iterations), unit="iteration", disable=None if progress else True, leave=False)
    try:
        for _ in bar:
            history.append(steps.expect())
            bar.set_postfix(nats=f"{-float(history[-1].max()) / num_steps:.4f}")
            if len(history) > 1 and not bool((history[-1] - history[-2] >= tolerance * num_steps).any()):
                stopped_by = "tolerance"
                break
            steps.maximise()
    except KeyboardInterrupt:
        stopped_by = "interrupt"
    if stopped_by != "tolerance":
        history.append(steps.expect())
    return torch.stack(history).cpu(), stopped_by


def _compared(train: Tensor, valid: Tensor | None) -> Restarts:
    """The best start by validation where there is one, and by training among equals."""
    score = train if valid is None else valid.cpu()
    best = score == score.max()
    chosen = int(train.where(best, -torch.inf).argmax())
    return Restarts(train, None if valid is None else score, chosen)
