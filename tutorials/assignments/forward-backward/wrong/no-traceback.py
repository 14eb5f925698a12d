"""Viterbi without tracing back: the best state of each step by itself, which need not make a possible path.

marks: viterbi 8, numbers 6
"""


# %% part="viterbi"
def viterbi(initial, transition, likelihoods):
    with np.errstate(divide="ignore"):
        log_initial, log_transition, log_likelihoods = np.log(initial), np.log(transition), np.log(likelihoods)
    best = log_initial + log_likelihoods[0]
    states = [best.argmax()]
    for t in range(1, len(likelihoods)):
        best = (best[:, None] + log_transition).max(0) + log_likelihoods[t]
        states.append(best.argmax())
    return np.array(states), best.max()
