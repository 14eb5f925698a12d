"""The concentrations, degrees of freedom and dispersions that `em.fit` searches, and what their limits mean."""

from dataclasses import replace

from pgm_rnn.emissions.natural import SOFTPLUS, Limits, Map

_EQUAL = (
    "the observations of such a state are all nearly equal there, and the likelihood has no bound; use fewer states, "
    "or leave such a column out"
)
_BOTH_ENDS = "nearly all observations of such a state lie at the ends of the range there; use another family"
GAMMA = Limits(
    1e-6,
    1e8,
    "the observations of such a state spread over very many powers of ten there; use another family",
    _EQUAL,
)
VON_MISES = Limits(
    1e-6, 1e8, "the angles of such a state are spread evenly there, so that its direction means nothing", _EQUAL
)
BETA = Limits(1e-6, 1e8, _BOTH_ENDS, _EQUAL)
STUDENT_T = Limits(
    0.1,
    1000.0,
    "nearly all observations of such a state have the same value there; use fewer states, or leave such a column out",
    "the observations of such a state have no heavier tails there than a normal law; use Gaussian",
)
NEGATIVE_BINOMIAL = Limits(
    1e-10,
    1e6,
    "the counts of such a state vary no more there than a Poisson law's; use Poisson",
    "nearly all counts of such a state are zero there, and the others are large; use ZeroInflated",
    near_least=1e3,
)


def positive_within(limits: Limits) -> Map:
    """Positive numbers that fits search within limits."""
    return replace(SOFTPLUS, limits=limits)
