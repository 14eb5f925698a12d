"""The memory reads a symbol before it is predicted: the "likelihood" is too good, and no likelihood.

marks: rnn 0
"""


# %% part="rnn"
def rnn_log_prob(x, W, V, b, U, c, h_1):
    h, total = h_1, 0.0
    for symbol in x:
        h = np.tanh(W @ h + V[:, symbol] + b)
        logits = U @ h + c
        total += logits[symbol] - logsumexp(logits)
    return total
