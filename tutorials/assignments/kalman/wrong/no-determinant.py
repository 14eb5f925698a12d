"""The log determinant is left out of the log likelihood.

marks: filter 16, extended 8, numbers 5
"""


# %% part="filter"
def kalman_filter(x, m, P, A, Q, C, R):
    """Means (T, D), covariances (T, D, D) and the log likelihood for observations x (T, M)."""
    means, covs, log_likelihood = [], [], 0.0
    for x_t in x:
        S, error = C @ P @ C.T + R, x_t - C @ m
        gain = np.linalg.solve(S, C @ P).T
        log_likelihood -= 0.5 * (error @ np.linalg.solve(S, error) + len(x_t) * np.log(2 * np.pi))
        means.append(m + gain @ error)
        covs.append(P - gain @ S @ gain.T)
        m, P = A @ means[-1], A @ covs[-1] @ A.T + Q
    return np.array(means), np.array(covs), log_likelihood
