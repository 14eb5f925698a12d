"""Published estimates that trained entries are held against: on their cards, on the leaderboard, and in a test.

An entry that was fitted to a single series has no test set. It is right if its estimates are those of the publication,
up to the digits that were printed, or up to the published standard error where the data are not quite the same.
An input-driven chain is compared with what statsmodels 0.15.0 finds on the same data, up to a twentieth of its standard
errors: there the first state has the stationary law, here a free one.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from pgm_rnn.sequence_model import SequenceModel


class Estimate(NamedTuple):
    """One published number.

    Attributes:
        quantity: its name in words.
        published: the number.
        within: the largest difference from it that counts as agreement.
        parameter: the natural parameter that it is an estimate of, or a parameter; "" for the log likelihood.
        place: the entry of that parameter, its indices.
        source: where it was published.
    """

    quantity: str
    published: float
    within: float
    parameter: str
    place: tuple[int, ...]
    source: str


_HAMILTON = "Hamilton (1989), table 1"
_DRIVERS = "Durbin & Koopman (2012), sec. 8.2"
_POUND = "Durbin & Koopman (2001), ch. 14"
_MARKOV = "statsmodels 0.15.0, MarkovRegression"
_NEAR = 0.037 / 20
"""A twentieth of the smallest standard error that Hamilton gives. His search of 1989 stopped near the maximum; today's
programs find it, and agree on its log likelihood."""


def _regimes(*rows: tuple[str, float, str, tuple[int, ...]]) -> tuple[Estimate, ...]:
    return tuple(Estimate(words, value, _NEAR, name, place, _HAMILTON) for words, value, name, place in rows)


ESTIMATES: Mapping[str, tuple[Estimate, ...]] = {
    "switching-mean-ar-gnp": (
        *_regimes(
            ("mean growth in a recession", -0.3577, "means", (0,)),
            ("mean growth in an expansion", 1.1643, "means", (1,)),
            ("p(recession goes on)", 0.7550, "transition_probs", (0, 0)),
            ("p(expansion goes on)", 0.9049, "transition_probs", (1, 1)),
            ("a_1", 0.014, "coefficients", (0,)),
            ("a_2", -0.058, "coefficients", (1,)),
            ("a_3", -0.247, "coefficients", (2,)),
            ("a_4", -0.213, "coefficients", (3,)),
            ("standard deviation", 0.769, "scales", (0,)),
        ),
        Estimate("log likelihood", -181.2634, 1e-4, "", (), "statsmodels 0.15.0, MarkovAutoregression"),
    ),
    "structural-uk-drivers": (
        Estimate("variance of the irregular", 0.00341598, 3e-6, "irregular_variance", (), _DRIVERS),
        Estimate("variance of the level", 0.000935852, 1e-6, "level_variance", (), _DRIVERS),
        Estimate("variance of the season", 5.01096e-7, 5e-10, "seasonal_variance", (), _DRIVERS),
        Estimate(
            "log likelihood",
            192 * 0.9369063 - 6 * math.log(2 * math.pi),
            192 * 5e-8,
            "",
            (),
            "Commandeur & Koopman (2007), sec. 4.2: 0.9369063 per month, less 12/2 log 2 pi for the diffuse start",
        ),
    ),
    "input-hmm-uk-drivers": (
        Estimate("mean of state 0", 7.388837, 0.0073 / 20, "emission_laws.params", (0, 0), _MARKOV),
        Estimate("mean of state 1", 7.560180, 0.0098 / 20, "emission_laws.params", (1, 0), _MARKOV),
        Estimate("effect of the law, state 0", -0.223638, 0.0221 / 20, "emission_weight", (0, 0, 0), _MARKOV),
        Estimate("effect of the law, state 1", -0.268000, 0.0410 / 20, "emission_weight", (1, 0, 0), _MARKOV),
        Estimate("effect of sin_year, state 0", -0.114902, 0.0100 / 20, "emission_weight", (0, 0, 2), _MARKOV),
        Estimate("effect of sin_year, state 1", -0.087655, 0.0137 / 20, "emission_weight", (1, 0, 2), _MARKOV),
    ),
    "stochastic-volatility-pound-dollar": (
        Estimate("mean of the log variance", 2 * math.log(0.6338), 2 * 0.1033, "mean", (), _POUND),
        Estimate("persistence", 0.9731, 0.0131, "persistence", (), _POUND),
        Estimate("standard deviation of its noise", 0.1726, 0.0375, "scale", (), _POUND),
    ),
}
"""Published estimates, by the names of entries."""


def estimated(model: SequenceModel, info: Mapping[str, Any], estimate: Estimate) -> float:
    """The entry's own value of what was published."""
    if not estimate.parameter:
        score = info["scores"][0]
        return -float(score["nats_per_step"]) * int(score["num_steps"])
    natural = model.natural_parameters.get(estimate.parameter)
    values: Tensor = dict(model.named_parameters())[natural.raw if natural else estimate.parameter].detach()
    values = natural.read(values) if natural else values
    return float(values[estimate.place])


def agrees(ours: float, estimate: Estimate) -> bool:
    """Whether a value is the published one, as far as that was printed or determined."""
    return abs(ours - estimate.published) <= estimate.within


def shown(value: float) -> str:
    """A value with six significant digits."""
    return f"{value:.6g}"


def is_in_sample(info: Mapping[str, Any]) -> bool:
    """Whether the only score of a record is that of the one series to which the model was fitted."""
    scores = info["scores"]
    return [score["split"] for score in scores] == ["train"] and scores[0].get("num_sequences") == 1
