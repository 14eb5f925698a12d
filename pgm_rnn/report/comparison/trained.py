"""Whether the data are those that a model was fitted to, which AIC and BIC need: the end of its fit tells.

The log likelihood at the end of a fit is that of its training data. Where the model gives the data at hand the same
one, to rounding, they are the same data.
"""

import math

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
