"""The weight of the misprint: the transition density is left out, as if the proposal were the posterior.

marks: log-weight 0
"""


# %% part="log-weight"
def log_weight(z, z_old, x, phi, sigma, beta, m, s):
    def log_normal(value, mean, scale):
        return -0.5 * ((value - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)

    return log_normal(x, 0.0, beta * np.exp(z / 2)) - log_normal(z, m, s)
