"""The expected transitions leave out the probability of the next count.

marks: e-step 12, fit 8, numbers 3
"""


# %% part="e-step"
def e_step(counts, initial, transition, rates):
    log_b = log_emission(counts, rates)
    shift = log_b.max(1)
    b = np.exp(log_b - shift[:, None])
    filtered, smoothed, sums = np.zeros(b.shape), np.zeros(b.shape), np.zeros(len(b))
    predicted = initial
    for t in range(len(b)):
        joint = predicted * b[t]
        sums[t] = joint.sum()
        filtered[t] = joint / sums[t]
        predicted = filtered[t] @ transition
    future, pairs = np.ones(len(initial)), np.zeros(transition.shape)
    smoothed[-1] = filtered[-1]
    for t in range(len(b) - 2, -1, -1):
        next_ = b[t + 1] * future / sums[t + 1]
        joint = filtered[t][:, None] * transition * future
        pairs += joint / joint.sum()
        future = transition @ next_
        smoothed[t] = filtered[t] * future
    return smoothed, pairs, np.log(sums).sum() + shift.sum()
