"""The logarithm of the sum of the normalising constants, where the sum of their logarithms is asked for.

marks: forward 12, numbers 5
"""


# %% part="forward"
def forward(initial, transition, likelihoods):
    filtered, constants, predicted = np.zeros(likelihoods.shape), [], initial
    for t, likelihood in enumerate(likelihoods):
        joint = predicted * likelihood
        constants.append(joint.sum())
        filtered[t] = joint / joint.sum()
        predicted = filtered[t] @ transition
    return filtered, np.log(np.sum(constants))
