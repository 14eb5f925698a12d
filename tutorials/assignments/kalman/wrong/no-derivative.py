"""The covariance is predicted by A in place of the Jacobian: the derivative of tanh is forgotten.

marks: extended 4
"""


# %% part="extended"
def extended_filter(x, m, P, A, Q, C, R):
    """Filtered means (T, D) and the approximate log likelihood."""
    means, log_likelihood = [], 0.0
    for x_t in x:
        one, covs, log_p = kalman_filter(x_t[None], m, P, A, Q, C, R)
        log_likelihood += log_p
        means.append(one[0])
        m = np.tanh(A @ one[0])
        F = A
        P = F @ covs[0] @ F.T + Q
    return np.array(means), log_likelihood
