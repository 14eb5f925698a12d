"""The logarithm of the sum of the weights: log S is forgotten, and the bound is none.

marks: iwae 0
"""


# %% part="iwae"
def iwae(log_weights):
    return logsumexp(log_weights)
