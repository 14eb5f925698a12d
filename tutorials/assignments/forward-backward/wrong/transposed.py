"""The table is read by columns: p(old | new) in place of p(new | old).

marks: forward 6, numbers 2
"""


# %% part="forward"
def forward(initial, transition, likelihoods):
    filtered, log_likelihood, predicted = np.zeros(likelihoods.shape), 0.0, initial
    for t, likelihood in enumerate(likelihoods):
        joint = predicted * likelihood
        filtered[t] = joint / joint.sum()
        log_likelihood += np.log(joint.sum())
        predicted = transition @ filtered[t]
    return filtered, log_likelihood
