"""KL(p || q) in place of KL(q || p).

marks: gap 4, numbers 5
"""


# %% part="gap"
def gap(q, x, initial, transition, emission):
    paths = np.array(list(itertools.product(range(q.shape[1]), repeat=len(q))))
    log_posterior = log_joint(paths, x, initial, transition, emission)
    log_posterior = log_posterior - logsumexp(log_posterior)
    log_q = np.log(q)[np.arange(len(q)), paths].sum(1)
    return (np.exp(log_posterior) * (log_posterior - log_q)).sum()
