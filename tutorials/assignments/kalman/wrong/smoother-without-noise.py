"""The prediction of the smoother forgets Q.

marks: smoother 4, numbers 5
"""


# %% part="smoother"
def smoother(means, covs, A, Q):
    """Smoothed means (T, D) and covariances (T, D, D) from the filtered ones."""
    means, covs = means.copy(), covs.copy()
    for t in range(len(means) - 2, -1, -1):
        predicted_mean, predicted_cov = A @ means[t], A @ covs[t] @ A.T
        gain = np.linalg.solve(predicted_cov, A @ covs[t]).T
        means[t] = means[t] + gain @ (means[t + 1] - predicted_mean)
        covs[t] = covs[t] + gain @ (covs[t + 1] - predicted_cov) @ gain.T
    return means, covs
