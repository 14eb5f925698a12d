"""The first state is predicted before it is updated, as if there were a state before the first.

marks: filter 0, extended 0, numbers 5
"""


# %% part="filter"
def kalman_filter(x, m, P, A, Q, C, R):
    """Means (T, D), covariances (T, D, D) and the log likelihood for observations x (T, M)."""
    means, covs, log_likelihood = [], [], 0.0
    for x_t in x:
        m, P = A @ m, A @ P @ A.T + Q
        S, error = C @ P @ C.T + R, x_t - C @ m
        gain = np.linalg.solve(S, C @ P).T
        log_likelihood -= 0.5 * (error @ np.linalg.solve(S, error) + np.linalg.slogdet(2 * np.pi * S)[1])
        means.append(m + gain @ error)
        covs.append(P - gain @ S @ gain.T)
        m, P = means[-1], covs[-1]
    return np.array(means), np.array(covs), log_likelihood
