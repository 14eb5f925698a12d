"""The memory is advanced before the decoder reads it, so it knows the chord that is to be predicted.

marks: elbo 8, numbers 5
"""


# %% part="elbo"
def vrnn_elbo(x, noise, weights):
    """The ELBO, in nats, and the divergences (T,) of a piece x (T, 64) with noise (T, 3)."""
    h, total, divergences = weights["h_1"], 0.0, []
    for x_t, e_t in zip(x, noise, strict=True):
        both = np.concatenate([x_t, h])
        mean, scale = weights["A_q"] @ both, np.exp(weights["B_q"] @ both)
        z = mean + scale * e_t
        divergences.append(kl(mean, scale, weights["A_p"] @ h, np.exp(weights["B_p"] @ h)))
        h = np.tanh(weights["U"] @ x_t + weights["V"] @ z + weights["W"] @ h)
        logits = weights["D"] @ np.concatenate([z, h]) + weights["d"]
        total += chord_log_prob(x_t, logits) - divergences[-1]
    return total, np.array(divergences)
