"""The columns of the transition table sum to one, where its rows must.

marks: m-step 9, fit 8, numbers 3
"""


# %% part="m-step"
def m_step(counts, smoothed, pairs):
    rates = (smoothed * np.asarray(counts)[:, None]).sum(0) / smoothed.sum(0)
    return smoothed[0], pairs / pairs.sum(0, keepdims=True), rates
