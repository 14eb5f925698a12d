"""The backward step looks at the filtered probability of the next step, where the smoothed one is due.

marks: smooth 4, numbers 5
"""


# %% part="smooth"
def smooth(filtered, transition):
    smoothed = filtered.copy()
    for t in range(len(filtered) - 2, -1, -1):
        predicted = filtered[t] @ transition
        ratio = np.divide(filtered[t + 1], predicted, out=np.zeros_like(predicted), where=predicted > 0)
        smoothed[t] = filtered[t] * (transition @ ratio)
    return smoothed
