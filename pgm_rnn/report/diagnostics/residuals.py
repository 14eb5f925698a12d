"""Residuals and PIT values of one-step predictions, and tests of them.

    u_t = F(x_t^- | x_{1:t-1}) + v_t (F(x_t | x_{1:t-1}) - F(x_t^- | x_{1:t-1})),   v_t uniform,   s_t = Phi^{-1}(u_t)

If the model is right, the u_t of a variable are independent and uniform, and the normal scores s_t standard normal. For
real numbers F has no jumps and v_t plays no part; for counts, bits and symbols this is the randomised PIT of Czado,
Gneiting & Held (2009), sec. 2.1, with v_t from a seed. Tests: uniformity of the u_t (Kolmogorov & Smirnov),
correlation over time of the s_t and of their squares (Ljung & Box).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pgm_rnn.randomness import seeded
from pgm_rnn.report.diagnostics.one_step import OneStep
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.diagnostics.series_tests import Tested, autocorrelations, ljung_box, uniformity
from pgm_rnn.report.diagnostics.wording import LEVEL, Variables, listed, p_text, verb
from pgm_rnn.report.number_tables import Table

COLUMNS = (
    "values",
    "mean residual",
    "sd residual",
    "score mean",
    "score sd",
    "PIT distance",
    "p uniform",
    "lag 1",
    "p lags",
    "p squares",
)
FEW = 30
"""Number of values below which the tests see gross faults only."""
_FARTHEST = 1e-16
"""PIT values are kept this far from 0 and 1, so that scores are finite."""


def pit_values(found: OneStep, seed: int | None) -> Tensor:
    """u, (B, T, M), NaN where there is no observation."""
    with seeded(seed, stream=21):
        v = torch.rand(found.upto.shape, dtype=found.upto.dtype)
    return found.below + v.to(found.upto.device) * (found.upto - found.below)


def normal_scores(pit: Tensor) -> Tensor:
    """s = Phi^{-1}(u), (B, T, M); at most about 8.2 in size."""
    return torch.special.ndtri(pit.clamp(_FARTHEST, 1 - _FARTHEST))


class Numbers(NamedTuple):
    """The numbers of one variable.

    Attributes:
        name: its name.
        mean_residual: mean of x_t - E(x_t | x_{1:t-1}); NaN for symbols.
        sd_residual: their standard deviation.
        mean: mean of the scores.
        sd: their standard deviation.
        lag_1: their autocorrelation over one step.
        uniform: the test of the PIT.
        lags: the test of the scores.
        squares: the test of their squares.
    """

    name: str
    mean_residual: float
    sd_residual: float
    mean: float
    sd: float
    lag_1: float
    uniform: Tested
    lags: Tested
    squares: Tested

    @property
    def row(self) -> tuple[float, ...]:
        """The numbers in the order of `COLUMNS`."""
        moments = (self.mean_residual, self.sd_residual, self.mean, self.sd)
        of_pit = (self.uniform.statistic, self.uniform.p_value)
        return (self.uniform.size, *moments, *of_pit, self.lag_1, self.lags.p_value, self.squares.p_value)

    @property
    def least_p(self) -> float:
        """The smallest p-value; 1 where there is none."""
        each = (test.p_value for test in (self.uniform, self.lags, self.squares))
        return min((p for p in each if not math.isnan(p)), default=1.0)


def residuals(found: OneStep, pit: Tensor, variables: Variables, num_lags: int) -> Section:
    """The section of one-step residuals.

    Args:
        found: the one-step laws.
        pit: the result of `pit_values`.
        variables: names and kinds of the entries.
        num_lags: largest distance of the tests of correlation, in steps.
    """
    scores, errors, u = (part.cpu().numpy() for part in (normal_scores(pit), found.residuals, pit))
    each = [
        _numbers(name, errors[..., m], scores[..., m], u[..., m], num_lags) for m, name in enumerate(variables.names)
    ]
    rows = tuple(numbers.row for numbers in each)
    table = Table("residuals", "one-step residuals and PIT", "variable", variables.names, COLUMNS, rows)
    worst = tuple(sorted(range(len(each)), key=lambda m: each[m].least_p))
    return Section(table, _note(found, each, variables, num_lags), "one-step residuals and PIT", _findings(each), worst)


def _note(found: OneStep, each: list[Numbers], variables: Variables, num_lags: int) -> str:
    randomised = any(kind != "real" for kind in variables.kinds)
    kind = "; PIT of whole values randomised with a seed" if randomised else ""
    few = min(numbers.uniform.size for numbers in each)
    weak = f"; with {few} values the tests see gross faults only" if few < FEW else ""
    return (
        f"from {found.how}{kind}. A right model has scores of mean 0 and sd 1; p below {LEVEL / len(each):.1g} is a "
        f"finding (uniform by Kolmogorov and Smirnov, lags 1 to {num_lags} by Ljung and Box){weak}"
    )


def _numbers(
    name: str, errors: NDArray[np.float64], scores: NDArray[np.float64], pit: NDArray[np.float64], num_lags: int
) -> Numbers:
    kept, known = scores[np.isfinite(scores)], errors[np.isfinite(errors)]
    lags = min(num_lags, scores.shape[1] - 1)
    return Numbers(
        name=name,
        mean_residual=_of(np.mean, known),
        sd_residual=_of(np.std, known),
        mean=_of(np.mean, kept),
        sd=_of(np.std, kept),
        lag_1=float(autocorrelations(scores, 1)[0][0]) if scores.shape[1] > 1 else math.nan,
        uniform=uniformity(pit),
        lags=ljung_box(scores, lags),
        squares=ljung_box(scores**2, lags),
    )


def _of(moment: Callable[[NDArray[np.float64]], np.floating[Any]], values: NDArray[np.float64]) -> float:
    """A moment of values; NaN of none."""
    return float(moment(values)) if len(values) else math.nan


def _findings(each: list[Numbers]) -> tuple[str, ...]:
    """One sentence per kind of fault, with the variables that have it."""
    level, by_kind = LEVEL / len(each), dict[str, list[Numbers]]()
    for numbers in each:
        if numbers.uniform.p_value < level:
            by_kind.setdefault(_shape(numbers), []).append(numbers)
        if numbers.lags.p_value < level:
            by_kind.setdefault("correlated", []).append(numbers)
        elif numbers.squares.p_value < level:
            by_kind.setdefault("changing", []).append(numbers)
    return tuple(_sentence(kind, found) for kind, found in by_kind.items())


def _shape(numbers: Numbers) -> str:
    """How PIT values that are not uniform differ most from it."""
    shift, spread = abs(numbers.mean), abs(math.log(max(numbers.sd, _FARTHEST)))
    if max(shift, spread) < _CLEAR:
        return "shape"
    if shift > spread:
        return "low" if numbers.mean > 0 else "high"
    return "narrow" if numbers.sd > 1 else "wide"


_CLEAR = 0.05
"""Shift of the scores' mean, or of the logarithm of their sd, below which neither is named as the fault."""


def _sentence(kind: str, found: list[Numbers]) -> str:
    found = sorted(found, key=lambda n: (n.lags if kind == "correlated" else n.uniform).p_value)
    worst, names = found[0], [numbers.name for numbers in found]
    who, have = listed(names), verb(names, "has", "have")
    of_worst = f" for {worst.name}" if len(names) > 1 else ""
    p = p_text(worst.uniform.p_value)
    spread = f"normal scores with standard deviation {worst.sd:.2f}{of_worst} instead of 1, {p}"
    shift = f"normal scores with mean {worst.mean:+.2f}{of_worst} instead of 0, {p}"
    return {
        "narrow": f"{who}: one-step predictions are too narrow ({spread}); the data vary more than the model "
        "allows: use more states, a family with heavier tails, or let the fit change the noise",
        "wide": f"{who}: one-step predictions are too wide ({spread}); the model claims more noise than these data "
        "have: fit it again, let the fit change the noise, or use more states or a memory, which explain more",
        "low": f"{who}: one-step predictions are too low on average ({shift}); look for a trend or another level in "
        "these data, add inputs, or fit again",
        "high": f"{who}: one-step predictions are too high on average ({shift}); look for a trend or another level in "
        "these data, add inputs, or fit again",
        "shape": f"{who} {have} one-step predictions of another shape than the data (PIT up to "
        f"{worst.uniform.statistic:.2f} from uniform{of_worst}, {p}); use more states or another family",
        "correlated": f"{who}: one-step errors are correlated over time (lag 1: {worst.lag_1:+.2f}{of_worst}, "
        f"{p_text(worst.lags.p_value)}); the model forgets something: use more states, more lags or a memory",
        "changing": f"{who}: large one-step errors come in clusters (squares, {p_text(worst.squares.p_value)}); use "
        "states with their own variances, or stochastic volatility",
    }[kind]
