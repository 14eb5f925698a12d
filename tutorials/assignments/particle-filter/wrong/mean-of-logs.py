"""The mean of the logarithms of the weights, where the logarithm of their mean is due.

marks: bootstrap-filter 4, numbers 5
"""


# %% part="bootstrap-filter"
def bootstrap_filter(x, phi, sigma, beta, normals, uniforms, threshold):
    """The estimate of log p(x_{1:T}), filtered means (T,), and effective sample sizes (T,)."""
    num_steps, num_particles = normals.shape
    log_likelihood, means, sizes = 0.0, np.zeros(num_steps), np.zeros(num_steps)
    log_w = np.zeros(num_particles)
    z = None
    for t in range(num_steps):
        z = normals[t] * sigma / np.sqrt(1 - phi**2) if z is None else phi * z + sigma * normals[t]
        scale = beta * np.exp(z / 2)
        log_w = log_w - 0.5 * (x[t] / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
        weights = normalize(log_w)[0]
        log_likelihood += np.mean(-0.5 * (x[t] / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi))
        means[t], sizes[t] = weights @ z, ess(weights)
        if sizes[t] < threshold * num_particles:
            z, log_w = z[systematic(weights, uniforms[t])], np.zeros(num_particles)
    return log_likelihood, means, sizes
