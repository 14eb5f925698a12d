"""Forecasts of sequences in the user's words: means, medians and central intervals, or probabilities of symbols."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pgm_rnn.checks import by_keyword, check_counts
from pgm_rnn.emissions import Categorical
from pgm_rnn.inference.kalman.kinds import is_linear
from pgm_rnn.legend import Legend
from pgm_rnn.report.fitted import counted
from pgm_rnn.report.forecasts import Forecast
from pgm_rnn.report.laws_ahead import Ahead, draws_of, of_draws, of_mixture, of_moments
from pgm_rnn.report.material import in_dtype_of
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.observations import checked
from pgm_rnn.sequence_model.tables import has_tables
from pgm_rnn.sequences import Sequences, as_sequences


@by_keyword
@torch.no_grad()
def forecast(
    model: SequenceModel,
    data: Sequences | Tensor,
    num_steps: int,
    *,
    levels: Sequence[float] = (50, 90),
    num_samples: int = 2000,
    seed: int | None = 0,
    num_particles: int = 1000,
    future_inputs: Tensor | None = None,
) -> Forecast:
    """Means, medians and central intervals of each variable in the steps that follow each sequence.

    They are exact for linear Gaussian states, and for finitely many states without memory and inputs whose observations
    are symbols, normal, bits or counts; from draws for every other model. Symbols have probabilities instead.

    Args:
        model: any model.
        data: a batch, or observations (B, T, *event); NaN where one is missing.
        num_steps: number of steps to forecast, N.
        levels: probabilities of the intervals, in percent.
        num_samples: draws per sequence, where draws are needed.
        seed: makes the draws reproducible; None uses torch's global generator.
        num_particles: particles of the filter, for a model without an exact one.
        future_inputs: (B, N, input_dim), for a model with inputs.

    Returns:
        Its `to_frame()` is a table with the ids, times and names of the data, its `write(path)` a file.

    Raises:
        TypeError, ValueError: observations that do not fit the model, counts below 1, or a level outside 0..100.

    Example:
        >>> from pgm_rnn.models import HMM
        >>> hmm = HMM.random(num_states=2, num_symbols=3, seed=0)
        >>> ahead = forecast(hmm, hmm.sample(num_sequences=2, num_steps=4, seed=0), num_steps=5)
        >>> ahead.how, ahead.probs[0].shape, len(ahead.to_frame())
        ('the exact mixture over 2 states', torch.Size([2, 5, 3]), 30)
    """
    check_counts(num_steps=num_steps, num_samples=num_samples, num_particles=num_particles)
    kept = checked_levels(levels)
    points = [0.5, *(0.5 + sign * level / 200 for level in kept for sign in (-1, 1))]
    batch = checked(model, in_dtype_of(model, as_sequences(data)))
    how, ahead = _ahead(model, batch, num_steps, points, num_samples, num_particles, seed, future_inputs)
    median, ends = ahead.quantiles[0], ahead.quantiles[1:]
    intervals = ends.reshape(len(kept), 2, *ends.shape[1:])
    return Forecast(how, kept, ahead.means, median, intervals, ahead.probs, batch)


def checked_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Levels that differ, in the order given.

    Raises:
        ValueError: none, one outside 0..100, or one twice.
    """
    kept = tuple(float(level) for level in levels)
    wrong = [level for level in kept if not (math.isfinite(level) and 0 < level < 100)]
    if wrong or not kept or len({*kept}) < len(kept):
        got = f"{wrong[0]:g}" if wrong else ", ".join(f"{level:g}" for level in kept) or "none"
        raise ValueError(f"expected different levels between 0 and 100 in percent, such as 50 and 90, got {got}")
    return kept


def _ahead(
    model: SequenceModel,
    data: Sequences,
    num_steps: int,
    points: Sequence[float],
    num_samples: int,
    num_particles: int,
    seed: int | None,
    future: Tensor | None,
) -> tuple[str, Ahead]:
    """How the laws were computed, and the laws."""
    if is_linear(model) and getattr(model, "initial_memory", None) is None:
        return "the exact moments of the Kalman filter", of_moments(model, data, num_steps, points, future)
    if has_tables(model) and model.initial_memory is None and model.input_dim is None:
        found = of_mixture(model, data, num_steps, points)
        if found is not None:
            return f"the exact mixture over {counted(model.states.num_states, 'state')}", found  # type: ignore[union-attr]
    draw = draws_of(model, num_steps, num_samples, num_particles, seed, future)
    symbols, whole = _symbols(model, data.legend), not model.family.continuous
    how = f"{num_samples:,} draws" + ("" if model.exact else f" after {num_particles:,} particles")
    return how, of_draws(draw, data, points, symbols, whole)


def _symbols(model: SequenceModel, legend: Legend | None) -> dict[int, int]:
    """The number of symbols of each entry of x that is one, by its place."""
    if isinstance(model.family, Categorical):
        return {0: model.family.num_symbols}
    if legend is None or len(legend.columns) != max(1, model.family.event_shape.numel()):
        return {}
    return {place: len(column.words) for place, column in enumerate(legend.columns) if column.kind == "symbol"}
