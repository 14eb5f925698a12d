"""How often central intervals of forecasts hold what came, beside their nominal level.

    coverage(h, level) = share of origins o with x_{o+h} in the interval of p(x_{o+h} | x_{1:o}),   h = 1..H

Origins of a sequence are H steps apart, so that forecasts of the same horizon do not overlap, and are independent if
the model is right. Intervals of counts, and sets of the most likely symbols, hold whole values, so that their coverage
is at least the nominal level; they are only faulted where it is lower. An interval of a bit says nothing, so bits are
left out. The laws are those of `forecast`.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pgm_rnn.inference import kalman
from pgm_rnn.inference.kalman.kinds import is_linear
from pgm_rnn.randomness import derived_seed
from pgm_rnn.report.diagnostics.section import Section
from pgm_rnn.report.diagnostics.wording import LEVEL, Variables, listed, p_text
from pgm_rnn.report.forecasting import forecast
from pgm_rnn.report.forecasts import Forecast
from pgm_rnn.report.number_tables import Table
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.sequence_model.chains import as_vectors
from pgm_rnn.sequences import Sequences, length_mask, over_events

LEVELS = (50, 80, 90)
"""Nominal levels in percent."""
MOST_STEPS = 2**20
"""Largest number of steps before all forecasts together."""
GROUP = 2**18
"""Largest number of steps, padding included, before the forecasts that are made at a time."""
FEWEST = 5
"""Smallest number of forecasts from which a coverage is shown."""


class Covered(NamedTuple):
    """The coverage of one variable at one horizon by intervals of one level.

    Attributes:
        name: the variable.
        horizon: h, in steps.
        level: the nominal level, in percent.
        hits: number of forecasts whose interval held what came.
        size: number of forecasts.
        whole: whether the interval holds whole values, so that its coverage may be above the level.
    """

    name: str
    horizon: int
    level: int
    hits: int
    size: int
    whole: bool

    @property
    def share(self) -> float:
        """The coverage, NaN for too few forecasts."""
        return self.hits / self.size if self.size >= FEWEST else math.nan

    @property
    def error(self) -> float:
        """Binomial standard error of a coverage at the nominal level."""
        nominal = self.level / 100
        return math.sqrt(nominal * (1 - nominal) / self.size) if self.size >= FEWEST else math.nan

    @property
    def p_value(self) -> float:
        """Exact binomial probability of a coverage at least as far from the level, below it for whole values."""
        from scipy import stats

        if self.size < FEWEST:
            return 1.0
        side: Any = "less" if self.whole else "two-sided"
        return float(stats.binomtest(self.hits, self.size, self.level / 100, side).pvalue)


def coverage(
    model: SequenceModel,
    data: Sequences,
    variables: Variables,
    num_steps: int,
    num_origins: int,
    options: dict[str, Any],
) -> Section | None:
    """The section of coverage; None where the sequences are too short for `FEWEST` forecasts.

    Args:
        model: any model.
        data: checked data.
        variables: names and kinds of the entries.
        num_steps: H.
        num_origins: largest number of origins, spread evenly over those that there are.
        options: the arguments `num_samples`, `num_particles` and `seed` of `forecast`.
    """
    sequence, origin = origins(model, data, num_steps, num_origins)
    if len(origin) < FEWEST:
        return None
    how, counts = "", list[list[Covered]]()
    for number, part in enumerate(torch.arange(len(origin)).split(max(1, GROUP // int(origin.max())))):
        before, came, u = _parted(data, sequence[part], origin[part], num_steps)
        before = before._replace(legend=variables.legend)
        own = options | {"seed": derived_seed(options["seed"], 23 + number)}  # draws of groups are independent
        ahead = forecast(model, before, num_steps, levels=LEVELS, future_inputs=u, **own)
        how, counts = ahead.how, [*counts, list(_counted(ahead, came, variables))]
    each = [_joined(parts) for parts in zip(*counts, strict=True)]
    found = [each[first : first + len(LEVELS)] for first in range(0, len(each), len(LEVELS))]
    rows = tuple(f"{row[0].name}, {row[0].horizon} ahead" for row in found)
    columns = (*(f"{level} %" for level in LEVELS), "forecasts")
    values = tuple((*(100 * c.share for c in row), float(row[0].size)) for row in found)
    errors = tuple((*(100 * c.error for c in row), math.nan) for row in found)
    table = Table("coverage", "coverage of forecasts, in percent", "variable", rows, columns, values, errors)
    worst = tuple(sorted(range(len(found)), key=lambda row: min(c.p_value for c in found[row])))
    return Section(
        table, _note(how, variables), f"coverage of forecasts 1 to {num_steps} ahead", _findings(each), worst
    )


def with_intervals(variables: Variables) -> list[int]:
    """The places of the variables that are no bits."""
    return [m for m, kind in enumerate(variables.kinds) if kind != "binary"]


def origins(model: Any, data: Sequences, num_steps: int, num_origins: int) -> tuple[Tensor, Tensor]:
    """Sequences and numbers of steps before the forecasts, each (n,), `num_steps` apart and counted from the ends.

    A diffuse start must be determined by the steps before. Of long sequences there are fewer, with at most
    `MOST_STEPS` steps before them in all.
    """
    able = length_mask(data.lengths, data.x.shape[1])  # whether step t + 1 can be forecast from x_{1:t}, at place t
    if is_linear(model) and getattr(model, "diffuse", None) is not None:
        able = able & kalman.filter(model, data).predicted_covs.isfinite().all(-1).all(-1)
    found = [
        (sequence, origin)
        for sequence, length in enumerate(data.lengths.tolist())
        for origin in range(length - num_steps, 0, -num_steps)
        if bool(able[sequence, origin])
    ]
    kept = _spread(found, num_origins)
    total = sum(origin for _, origin in kept)
    if total > MOST_STEPS:  # each forecast filters all steps before it
        kept = _spread(found, max(FEWEST, len(kept) * MOST_STEPS // total))
    sequence, origin = torch.tensor(kept, dtype=torch.int64).reshape(-1, 2).unbind(-1)
    return sequence.to(data.x.device), origin.to(data.x.device)


def _spread(origins: list[tuple[int, int]], num: int) -> list[tuple[int, int]]:
    """As many origins as asked for, spread evenly over all of them."""
    places = torch.linspace(0, len(origins) - 1, min(num, len(origins))).round().long()
    return [origins[place] for place in places.tolist()]


def _parted(
    data: Sequences, sequence: Tensor, origin: Tensor, num_steps: int
) -> tuple[Sequences, Tensor, Tensor | None]:
    """The steps before each origin, what came after as (n, H, M) with NaN where it is missing, and its inputs."""
    steps = origin[:, None] + torch.arange(num_steps, device=origin.device)  # (n, H)
    rows = sequence[:, None]
    x = as_vectors(data.x[rows, steps]).double()
    there = over_events(data.mask, data.x)[rows, steps]
    came = x.where(as_vectors(there) if there.dim() > 1 else there, torch.nan)
    longest = int(origin.max())
    inputs, observed = (None if part is None else part[sequence, :longest] for part in (data.inputs, data.observed))
    before = Sequences(data.x[sequence, :longest], origin, inputs=inputs, mask=observed)
    return before, came, None if data.inputs is None else data.inputs[rows, steps]


def _counted(ahead: Forecast, came: Tensor, variables: Variables) -> Iterator[Covered]:
    """The coverages by variable, horizon and level, in this order."""
    came = came.cpu()
    for m in with_intervals(variables):
        name = variables.names[m]
        seen, whole = came[..., m].isfinite(), variables.kinds[m] != "real"
        held = [_held(ahead, place, came[..., m], m) & seen for place in range(len(LEVELS))]
        for h in range(came.shape[1]):
            for level, hits in zip(LEVELS, held, strict=True):
                yield Covered(name, h + 1, level, int(hits[:, h].sum()), int(seen[:, h].sum()), whole)


def _held(ahead: Forecast, place: int, came: Tensor, m: int) -> Tensor:
    """Whether the intervals of the level at this place, or the most likely symbols, hold what came, (n, H)."""
    if m in ahead.probs:
        probs, own = ahead.probs[m], came.nan_to_num().long()[..., None]
        likelier = (probs * (probs > probs.gather(-1, own))).sum(-1)
        return likelier < ahead.levels[place] / 100  # the set grows by likelihood until it has the level
    lower, upper = ahead.intervals[place].cpu()[..., m]
    return (lower <= came) & (came <= upper)


def _joined(parts: tuple[Covered, ...]) -> Covered:
    """The coverage by all groups of forecasts."""
    return parts[0]._replace(hits=sum(c.hits for c in parts), size=sum(c.size for c in parts))


def _note(how: str, variables: Variables) -> str:
    whole = any(kind != "real" for kind in variables.kinds)
    more = ". Of counts and symbols the coverage may be higher than the level" if whole else ""
    return f"from {how}. ± binomial standard error; a right model covers what the column says{more}"


def _findings(each: list[Covered]) -> tuple[str, ...]:
    num_tests = sum(c.size >= FEWEST for c in each)
    wrong = sorted((c for c in each if c.p_value < LEVEL / max(1, num_tests)), key=lambda c: c.p_value)
    narrow = [c for c in wrong if c.share < c.level / 100]
    wide = [c for c in wrong if c.share > c.level / 100]
    found = [("narrow", "do not rely on them", narrow), ("wide", "they are safe, but say less than they could", wide)]
    return tuple(_sentence(word, remedy, kept) for word, remedy, kept in found if kept)


def _sentence(word: str, remedy: str, kept: list[Covered]) -> str:
    names, worst = [c.name for c in kept], kept[0]
    of_worst = "" if len({*names}) == 1 else f" of {worst.name}"
    return (
        f"{listed(names)}: intervals of forecasts are too {word} ({worst.level} % intervals hold {worst.share:.0%} of "
        f"{worst.size} values{of_worst} {worst.horizon} ahead, {p_text(worst.p_value)}); {remedy}, and mend what the "
        "one-step residuals show first"
    )
