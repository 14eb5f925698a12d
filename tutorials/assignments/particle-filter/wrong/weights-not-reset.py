"""Particles are resampled, and keep their old weights: each of these counts twice.

marks: bootstrap-filter 10, numbers 2
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
        before = normalize(log_w)[1]
        log_w = log_w - 0.5 * (x[t] / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
        weights, after = normalize(log_w)
        log_likelihood += after - before
        means[t], sizes[t] = weights @ z, ess(weights)
        if sizes[t] < threshold * num_particles:
            z, log_w = z[systematic(weights, uniforms[t])], log_w
    return log_likelihood, means, sizes
