"""Weights are exponentiated as they are: small ones become 0, and 0 / 0 follows.

marks: normalize 6
"""


# %% part="normalize"
def normalize(log_weights):
    weights = np.exp(log_weights)
    return weights / weights.sum(), np.log(weights.mean())
