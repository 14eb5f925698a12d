"""The mean over all entries of the table, padding among them.

marks: average 3
"""


# %% part="average"
def nats_per_step(bounds, lengths):
    """The negative mean bound per step, from bounds (N, T) by step and the lengths (N,) of the pieces."""
    return -np.mean(bounds)
