"""Whether the data are those that a model was fitted to, which AIC and BIC need: the end of its fit tells.

The log likelihood at the end of a fit is that of its training data. Where the model gives the data at hand the same
one, to rounding, they are the same data.
"""

import math
from collections.abc import Mapping

from pgm_rnn.report.comparison.entries import Entry
from pgm_rnn.report.comparison.scores import Scores

KNOWN, OTHER, UNKNOWN = "known", "other", "unknown"
CLOSE = 1e-5
"""Largest relative difference of two log likelihoods of the same data, in float32."""


def fitted_to(entry: Entry, scores: Scores) -> str:
    """KNOWN if the model was fitted to the scored data, OTHER if not, UNKNOWN without a record of its fit."""
    if entry.trained is None:
        return UNKNOWN
    num_steps, nats = int(scores.steps.sum()), float(scores.nats.sum())
    same_size = entry.trained.num_steps in (None, num_steps)
    same = math.isclose(entry.trained.nats, nats, rel_tol=CLOSE, abs_tol=CLOSE * num_steps)
    return KNOWN if same_size and same else OTHER


def check_same_fits(fits: Mapping[str, str]) -> None:
    """Raise if some models were fitted to the scored data and others were not, which favours the former.

    Args:
        fits: KNOWN, OTHER or UNKNOWN by the name of the model.

    Raises:
        ValueError: there are both.
    """
    seen = next((name for name, found in fits.items() if found == KNOWN), None)
    unseen = next((name for name, found in fits.items() if found == OTHER), None)
    if seen is not None and unseen is not None:
        raise ValueError(
            f"expected models fitted to the same data, got {seen} fitted to these and {unseen} to others or to a part "
            "of these; fit both to the same ones, or compare refits by folds=5 (sequences) or origins=5 (one series)"
        )
