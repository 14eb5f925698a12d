"""The points are n / N + u, where they should be (n + u) / N; those beyond 1 all choose the last particle.

marks: systematic 0, bootstrap-filter 10, numbers 5
"""


# %% part="systematic"
def systematic(weights, u):
    points = np.clip(np.arange(len(weights)) / len(weights) + u, 0, 1 - 1e-9)
    return np.minimum(np.searchsorted(np.cumsum(weights), points, side="right"), len(weights) - 1)
