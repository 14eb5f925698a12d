"""The climb of EM: iterations until nothing is gained, and what is done about a start that falls.

No iteration of EM lowers its objective, so one that does, beyond rounding, shows a fault: of numbers near the end of
their range, or of a start outside the set that the M-step looks in. Such a start is put back to the parameters before
that iteration and rests. It is never called convergence.
"""

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

StoppedBy = Literal["num_iterations", "tolerance", "interrupt", "decrease"]


class Score(NamedTuple):
    """How good the present parameters of R starts are.

    Attributes:
        log_likelihood: of the training data, (R,), nats.
        objective: what an iteration never lowers: the log likelihood and what pseudo-counts and pseudo-observations
            add, (R,), nats.
        rounding: how far rounding may have moved the objective, (R,), nats.
    """

    log_likelihood: Tensor
    objective: Tensor
    rounding: Tensor


class Steps(Protocol):
    """E and M steps of R starts side by side, on their own copies of a model's parameters."""

    def expect(self) -> Score:
        """How good each start's present parameters are; the E-step."""

    def maximise(self) -> None:
        """Replace the parameters of every start that does not rest by those of the M-step after the last `expect`."""

    def put_back(self, fallen: Tensor) -> None:
        """Give the starts where `fallen` (R,) is true the parameters before the last `maximise`, and let them rest."""

    def validate(self) -> Tensor | None:
        """Log likelihood of the validation data under each start's present parameters, (R,), nats; None without."""

    def adopt(self, start: int) -> None:
        """Write one start's present parameters into the model."""

    def remarks(self, start: int) -> list[str]:
        """What a reader should know of one start's present parameters, a sentence each."""


class Fall(NamedTuple):
    """An iteration that lowered the objective.

    Attributes:
        iteration: which one, from 1.
        nats: by how much; NaN if it is no longer a number.
    """

    iteration: int
    nats: float


class Climbed(NamedTuple):
    """Result of `climb`.

    Attributes:
        log_likelihoods: before each iteration and after the last, (n, R), nats.
        falls: the starts that fell, by number.
        stopped_by: what ended the climb.
    """

    log_likelihoods: Tensor
    falls: dict[int, Fall]
    stopped_by: StoppedBy


class _Record:
    """The scores so far."""

    def __init__(self, steps: Steps, tolerance: float) -> None:
        self._steps, self._tolerance = steps, tolerance
        self._last: Score | None = None
        self.log_likelihoods: list[Tensor] = []
        self.falls: dict[int, Fall] = {}

    def add(self, score: Score) -> None:
        """Append a score; where it is lower than the last one, put the start back and keep the last one."""
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
    def settled(self) -> bool:
        """Whether the last iteration gained less than the tolerance in every start."""
        return len(self.log_likelihoods) > 1 and not bool((self.gains >= self._tolerance).any())


def climb(steps: Steps, num_iterations: int, tolerance: float, num_steps: int, progress: bool) -> Climbed:
    """Iterate until no start gains `tolerance` nats per step.

    Args:
        steps: of the model.
        num_iterations: at most.
        tolerance: in nats per step.
        num_steps: of the training data.
        progress: a bar on a terminal.
    """
    record, stopped_by = _Record(steps, tolerance * num_steps), "num_iterations"
    bar = tqdm(range(num_iterations), unit="iteration", disable=None if progress else True, leave=False)
    try:
        for _ in bar:
            record.add(steps.expect())
            bar.set_postfix(nats=f"{-float(record.log_likelihoods[-1].max()) / num_steps:.4f}")
            if record.settled:
                stopped_by = "tolerance"
                break
            steps.maximise()
    except KeyboardInterrupt:
        stopped_by = "interrupt"
    if stopped_by != "tolerance":
        record.add(steps.expect())
    return Climbed(torch.stack(record.log_likelihoods).cpu(), record.falls, stopped_by)  # type: ignore[arg-type]
