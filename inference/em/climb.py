"""The loop of EM: iterations until the objective stops rising, and the treatment of starts whose objective falls.

No iteration of EM lowers its objective, so one that lowers it by more than rounding shows a fault: numbers near the end
of their range, or a start outside the set that the M-step searches. Such a start returns to the parameters before that
iteration and stops there. That is never reported as convergence.
"""

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

StoppedBy = Literal["num_iterations", "tolerance", "interrupt", "decrease"]


class Score(NamedTuple):
    """The objective of R starts at their present parameters.

    Attributes:
        log_likelihood: log likelihood of the training data, (R,), nats.
        objective: the quantity that no iteration lowers: the log likelihood plus the terms of pseudo-counts and
            pseudo-observations, (R,), nats.
        rounding: how far rounding may have moved the objective, (R,), nats.
    """

    log_likelihood: Tensor
    objective: Tensor
    rounding: Tensor


class Steps(Protocol):
    """E and M steps of R starts side by side, on their own copies of a model's parameters."""

    def expect(self) -> Score:
        """E-step: the score of each start's present parameters."""

    def maximise(self) -> None:
        """M-step after the last `expect`, in every start that has not stopped."""

    def put_back(self, fallen: Tensor) -> None:
        """Restore the parameters before the last `maximise` in starts where `fallen` (R,) is true, and stop these."""

    def validate(self) -> Tensor | None:
        """Log likelihood of the validation data under each start's present parameters, (R,), nats; None without."""

    def adopt(self, start: int) -> None:
        """Write one start's present parameters into the model."""

    def remarks(self, start: int) -> list[str]:
        """Sentences that warn about one start's present parameters."""


class Fall(NamedTuple):
    """An iteration that lowered the objective.

    Attributes:
        iteration: its number, from 1.
        nats: the decrease; NaN if the objective is no longer a number.
    """

    iteration: int
    nats: float


class Climbed(NamedTuple):
    """Result of `climb`.

    Attributes:
        log_likelihoods: before each iteration and after the last, (n, R), nats.
        falls: the falls, by the number of the start.
        settled: starts whose last iteration gained less than the tolerance, (R,), bool.
        stopped_by: the reason why the loop ended, as in `EmFit`, but of all starts together.
    """

    log_likelihoods: Tensor
    falls: dict[int, Fall]
    settled: Tensor
    stopped_by: StoppedBy

    def stopped_by_of(self, start: int) -> StoppedBy:
        """Why a start's climb ended; one that had converged did not run out of iterations while others went on."""
        if start in self.falls:
            return "decrease"
        return "tolerance" if self.stopped_by == "num_iterations" and bool(self.settled[start]) else self.stopped_by


class _Record:
    """The scores so far."""

    def __init__(self, steps: Steps, tolerance: float) -> None:
        self._steps, self._tolerance = steps, tolerance
        self._last: Score | None = None
        self.log_likelihoods: list[Tensor] = []
        self.falls: dict[int, Fall] = {}

    def add(self, score: Score) -> None:
        """Append a score; if a start's score is lower than the last one, restore that start and keep the last score.

        Raises:
            ValueError: the first score is NaN.
        """
        if self._last is None:
            if bool(score.log_likelihood[0].isnan()):
                raise ValueError(
                    "expected a log likelihood that is a number, got NaN under the parameters that EM starts from; "
                    "check them for NaN and for scales that are too small or too large"
                )
            score = score._replace(objective=score.objective.nan_to_num(nan=-torch.inf))
            self.gains = torch.full_like(score.objective, torch.inf)
            self._resting = torch.zeros_like(self.gains) > 0
        else:
            score = self._kept(self._last, score)
        self._last = score
        self.log_likelihoods.append(score.log_likelihood)

    def _kept(self, last: Score, score: Score) -> Score:
        gains = (score.objective - last.objective).where(score.objective != last.objective, 0.0)
        fallen = ~(gains >= -torch.maximum(score.rounding, last.rounding))
        self._resting = self._resting | fallen
        self.gains = gains.where(~self._resting, -torch.inf)
        if not bool(fallen.any()):
            return score
        self._steps.put_back(fallen)
        for start in fallen.nonzero()[:, 0].tolist():
            self.falls.setdefault(start, Fall(len(self.log_likelihoods), -float(gains[start])))
        return Score(*(old.where(fallen, new) for old, new in zip(last, score, strict=True)))

    @property
    def settled(self) -> Tensor:
        """Starts in which the last iteration gained less than the tolerance, (R,), bool."""
        return ~(self.gains >= self._tolerance)  # the gains are infinite before the first iteration


def climb(steps: Steps, num_iterations: int, tolerance: float, num_steps: int, progress: bool) -> Climbed:
    """Iterate until no start gains `tolerance` nats per step.

    Args:
        steps: the model's E and M steps.
        num_iterations: the largest number of iterations.
        tolerance: the smallest gain per iteration, in nats per step.
        num_steps: number of steps in the training data.
        progress: whether to show a progress bar on a terminal.
    """
    record, stopped_by = _Record(steps, tolerance * num_steps), "num_iterations"
    bar = tqdm(range(num_iterations), unit="iteration", disable=None if progress else True, leave=False)
    try:
        for _ in bar:
            record.add(steps.expect())
            bar.set_postfix(nats=f"{-float(record.log_likelihoods[-1].max()) / num_steps:.4f}")
            if bool(record.settled.all()):
                stopped_by = "tolerance"
                break
            steps.maximise()
    except KeyboardInterrupt:
        stopped_by = "interrupt"
    if stopped_by != "tolerance":
        record.add(steps.expect())
    return Climbed(torch.stack(record.log_likelihoods).cpu(), record.falls, record.settled.cpu(), stopped_by)  # type: ignore[arg-type]
