"""Scores of models with their standard errors, and the errors of the differences to the best one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pgm_rnn.report.canvas import TEXT, canvas_on
from pgm_rnn.report.comparison.result import Comparison
from pgm_rnn.report.looks import AHEAD, GREY, INK
from pgm_rnn.report.time_axis import finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scores = Mapping[str, tuple[float, float]]


class _Score(NamedTuple):
    """A model's score, and its difference to the best one's where that is known."""

    name: str
    value: float
    error: float
    difference: float = np.nan
    difference_error: float = np.nan


def compare(
    scores: "Scores | Any",
    *,
    value: str = "nats_per_step",
    error: str = "standard_error",
    difference: str = "behind",
    difference_error: str = "behind_error",
    higher_is_better: bool = False,
    unit: str = "nats per step",
    ax: Any = None,
) -> "Axes":
    """Draw one row per model, the best one first: its score ± its standard error, and the error of its difference.

    Scores on the same data rise and fall together, so their own errors (circles) say little about their order. The
    triangles do: they stand at the same score, with the standard error of the difference to the best model.

    Args:
        scores: a result of `pgm_rnn.compare` with one measure; (score, standard error) by the name of the model; or a
            DataFrame with these columns, whose names are in its column "model" or its index. Scores that cannot be
            ranked together must be cut from a table first.
        value: column of the scores.
        error: column of their standard errors.
        difference: column of the differences to the best model; a table without it has no triangles.
        difference_error: column of their standard errors.
        higher_is_better: whether the largest score is the best, as an expected log density is.
        unit: what the scores are, for the axis.
        ax: matplotlib axes; None for a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: neither a mapping nor a DataFrame.
        ValueError: no score, a table without the columns, or a model twice.
    """
    scores = scores.to_frame() if isinstance(scores, Comparison) else scores
    found = (
        _of_mapping(scores)
        if isinstance(scores, Mapping)
        else _of_table(scores, value, error, difference, difference_error)
    )
    _check(found)
    ranked = sorted(found, key=lambda score: -score.value if higher_is_better else score.value)
    canvas = canvas_on(ax)
    (panel,) = canvas.panels(1, alone=0.9 + 0.34 * len(ranked))
    rows = np.arange(len(ranked))
    values = np.array([score.value for score in ranked])
    panel.axvline(values[0], color=GREY, linestyle=":", linewidth=1)
    panel.errorbar(
        values,
        rows,
        xerr=_known([s.error for s in ranked]),
        fmt="o",
        color=INK,
        capsize=3,
        label="score ± standard error",
    )
    differing = [number for number, score in enumerate(ranked) if np.isfinite(score.difference_error)]
    if differing:
        panel.errorbar(
            values[differing],
            rows[differing] + 0.25,
            xerr=[ranked[number].difference_error for number in differing],
            fmt="^",
            markersize=5,
            color=AHEAD,
            capsize=3,
            label="± error of the difference to the best",
        )
    panel.set_yticks(list(rows), [score.name for score in ranked])
    panel.set_ylim(len(ranked) - 0.4, -0.6)
    panel.set_xlabel(f"{unit} ({'higher' if higher_is_better else 'lower'} is better)", fontsize=TEXT)
    finish(panel, "")
    canvas.legend([panel])
    return panel


def _of_mapping(scores: Scores) -> list[_Score]:
    return [_Score(name, float(part[0]), float(part[1])) for name, part in scores.items()]


def _of_table(table: Any, value: str, error: str, difference: str, difference_error: str) -> list[_Score]:
    if not hasattr(table, "columns") or not hasattr(table, "index"):
        raise TypeError(
            f"expected scores by name, {{name: (score, error)}}, or a DataFrame, got {type(table).__name__}"
        )
    missing = [name for name in (value, error) if name not in table.columns]
    if missing:
        raise ValueError(
            f"expected a column {missing[0]!r}, got {', '.join(map(str, table.columns))}; name the columns by value= "
            "and error="
        )
    names = table["model"] if "model" in table.columns else table.index
    unknown = [np.nan] * len(table)
    optional = [table[name] if name in table.columns else unknown for name in (difference, difference_error)]
    rows = zip(names, table[value], table[error], *optional, strict=True)
    return [_Score(str(name), *(float(number) for number in numbers)) for name, *numbers in rows]


def _check(scores: list[_Score]) -> None:
    if not scores:
        raise ValueError("expected at least one score, got none")
    names = [score.name for score in scores]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"expected each model once, got {twice[0]!r} {names.count(twice[0])} times; select one row per model first"
        )
    wrong = [score.name for score in scores if not np.isfinite(score.value)]
    if wrong:
        raise ValueError(f"expected finite scores, got NaN or infinity for {wrong[0]!r}; leave that model out")


def _known(errors: list[float]) -> list[float]:
    """Standard errors, 0 where one is not known."""
    return [error if np.isfinite(error) else 0.0 for error in errors]
