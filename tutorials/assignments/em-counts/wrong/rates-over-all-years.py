"""The weighted sum of the counts is divided by the number of years, not by the sum of the weights.

marks: m-step 9, fit 4, numbers 0
"""


# %% part="m-step"
def m_step(counts, smoothed, pairs):
    rates = (smoothed * np.asarray(counts)[:, None]).sum(0) / len(counts)
    return smoothed[0], pairs / pairs.sum(1, keepdims=True), rates
