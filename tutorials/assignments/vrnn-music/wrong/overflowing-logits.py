"""Probabilities first, logarithms later: large logits give infinities.

marks: chord 6
"""


# %% part="chord"
def chord_log_prob(x, logits):
    """log p(x) (...) of x (..., 64), zeros and ones, under logits (..., 64)."""
    p = expit(logits)
    return (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(-1)
