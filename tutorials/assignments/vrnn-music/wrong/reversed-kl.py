"""KL(p || q) in place of KL(q || p).

marks: kl 4, elbo 0, numbers 5
"""


# %% part="kl"
def kl(mean_q, scale_q, mean_p, scale_p):
    """KL(q || p) (...) of Gaussians with independent entries, each argument (..., D)."""
    ratio, distance = scale_p / scale_q, (mean_q - mean_p) / scale_q
    return (0.5 * (ratio**2 + distance**2 - 1) - np.log(ratio)).sum(-1)
