"""The joint probabilities are returned in place of the filtered ones; they underflow after some hundred steps.

marks: forward 4, numbers 5
"""


# %% part="forward"
def forward(initial, transition, likelihoods):
    alpha = np.zeros(likelihoods.shape)
    alpha[0] = initial * likelihoods[0]
    for t in range(1, len(likelihoods)):
        alpha[t] = (alpha[t - 1] @ transition) * likelihoods[t]
    return alpha, np.log(alpha[-1].sum())
