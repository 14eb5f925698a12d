"""Every entry counts as a parameter, those that the others determine too.

marks: bic 0, numbers 5
"""


# %% part="bic"
def bic(log_likelihood, num_states, num_steps):
    num_free = num_states + num_states**2 + num_states
    return -2 * log_likelihood + num_free * np.log(num_steps)
