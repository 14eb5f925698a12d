"""The entropy is subtracted, where it is added.

marks: elbo 6, numbers 5
"""


# %% part="elbo"
def elbo(q, x, initial, transition, emission):
    energy = q[0] @ np.log(initial) + (q * np.log(emission)[:, x].T).sum()
    energy += sum(before @ np.log(transition) @ after for before, after in itertools.pairwise(q))
    return energy + (q * np.log(np.where(q > 0, q, 1.0))).sum()
