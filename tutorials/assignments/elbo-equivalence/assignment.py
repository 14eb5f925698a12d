# %% [markdown] assignment="elbo-equivalence" minutes="120"
# # The ELBO: where it equals the log likelihood, and its gap
#
# **Goals.** You see that training an RNN by maximum likelihood is variational inference with a guide that has no choice,
# you compute an ELBO and its gap exactly for a small hidden Markov model, and you tighten the bound with several samples.
# **Time:** 120 minutes.
#
# For any law $q(z)$, with the evidence lower bound $\mathcal{L}(q) = E_q[\log p(x, z) - \log q(z)]$,
#
# $$\log p(x) = \mathcal{L}(q) + \mathrm{KL}\big(q(z) \,\|\, p(z \mid x)\big).$$
#
# In an RNN the states are a function of the observations, so the posterior is one point and the gap is zero
# (Sohl-Dickstein and Kingma, 2015). Use NumPy and SciPy.

# %%
import itertools

import numpy as np
from scipy.special import logsumexp

from pgm_rnn.teaching import check_close, student_rng

# %% [markdown]
# ## Your instance


# %%
def make_instance(rng):
    """Weights of an RNN with 4 hidden units and 3 symbols, an HMM with 3 states, and 6 symbols."""
    weights = {"W": rng.normal(size=(4, 4)), "V": rng.normal(size=(4, 3)), "b": rng.normal(size=4)}
    weights |= {"U": rng.normal(size=(3, 4)), "c": rng.normal(size=3), "h_1": rng.normal(size=4)}
    hmm = {"initial": rng.dirichlet(np.ones(3)), "transition": rng.dirichlet(np.ones(3), size=3)}
    hmm |= {"emission": rng.dirichlet(np.ones(3), size=3)}
    return {"rnn": weights, "hmm": hmm, "x": rng.integers(0, 3, size=6), "q": rng.dirichlet(np.ones(3), size=6)}


# %%
NAME = ""
instance = make_instance(student_rng("elbo-equivalence", NAME))
x, q, rnn = instance["x"], instance["q"], instance["rnn"]
hmm = instance["hmm"]["initial"], instance["hmm"]["transition"], instance["hmm"]["emission"]

# %% [markdown]
# ## 1. The log likelihood of an RNN
#
# $h_1$ is given, $h_{t+1} = \tanh(W h_t + V_{\cdot, x_t} + b)$, and $x_t \sim \mathrm{softmax}(U h_t + c)$. The state
# $h_t$ knows $x_1, \dots, x_{t-1}$ and not $x_t$.


# %% part="rnn"
def rnn_log_prob(x, W, V, b, U, c, h_1):
    """log p(x_{1:T}) of symbols x (T,), a number."""
    ### BEGIN SOLUTION
    h, total = h_1, 0.0
    for symbol in x:
        logits = U @ h + c
        total += logits[symbol] - logsumexp(logits)
        h = np.tanh(W @ h + V[:, symbol] + b)
    return total
    ### END SOLUTION


# %% check="rnn"
pairs = [rnn_log_prob(np.array(two), **rnn) for two in itertools.product(range(3), repeat=2)]
check_close(np.exp(pairs).sum(), 1.0, what="sum of the probabilities of all pairs of symbols")

# %% hidden="reference"
import torch

from pgm_rnn.inference import forward_backward
from pgm_rnn.models import HMM


def hmm_of(instance):
    """Initial probabilities, transition table and emission table."""
    return tuple(instance["hmm"][name] for name in ("initial", "transition", "emission"))


def log_evidence(instance):
    """log p(x) by the package's forward recursion."""
    model = HMM(*map(torch.tensor, hmm_of(instance)))
    return float(forward_backward.filter(model, torch.tensor(instance["x"])[None]).log_marginal_likelihood[0].detach())


def all_paths(num_steps=6):
    """All paths (3^T, T)."""
    import itertools

    return np.array(list(itertools.product(range(3), repeat=num_steps)))


def log_joints(instance, z, x=None):
    """log p(x, z) of paths z (N, T), by the definition."""
    initial, transition, emission = hmm_of(instance)
    x = instance["x"] if x is None else x
    moves = np.log(transition)[z[:, :-1], z[:, 1:]].sum(1)
    return np.log(initial)[z[:, 0]] + moves + np.log(emission)[z, x].sum(1)


def bounds(instance, q):
    """The ELBO of independent laws q (T, 3), by the sum over all paths."""
    z = all_paths(len(q))
    log_q = np.log(q)[np.arange(len(q)), z].sum(1)
    return float((np.exp(log_q) * (log_joints(instance, z) - log_q)).sum())


def rnn_definition(x, W, V, b, U, c, h_1):
    """log p(x), with probabilities instead of logits."""
    h, total = h_1, 0.0
    for symbol in x:
        scores = np.exp(U @ h + c)
        total += np.log(scores[symbol] / scores.sum())
        h = np.tanh(W @ h + V[:, symbol] + b)
    return total


def posterior(instance):
    """p(z_t | x) (T, 3), by the package."""
    model = HMM(*map(torch.tensor, hmm_of(instance)))
    return forward_backward.smooth(model, torch.tensor(instance["x"])[None]).smoothed_probs[0].detach().numpy()


# %% test="rnn" points="5" says="one symbol: log softmax(U h_1 + c)"
weights = [instance["rnn"][name] for name in ("W", "V", "b", "U", "c", "h_1")]
one = instance["x"][:1]
check_close(call("rnn_log_prob", one, *weights), rnn_definition(one, **instance["rnn"]))

# %% test="rnn" points="9" says="the log likelihood is wrong on your data: h_t may not know x_t"
weights = [instance["rnn"][name] for name in ("W", "V", "b", "U", "c", "h_1")]
check_close(call("rnn_log_prob", instance["x"], *weights), rnn_definition(instance["x"], **instance["rnn"]))

# %% [markdown]
# ## 2. The log joint density of a hidden Markov model
#
# $\log p(x, z) = \log \pi_{z_1} + \sum_{t=2}^T \log A_{z_{t-1} z_t} + \sum_{t=1}^T \log B_{z_t x_t}$ for many paths at
# once. The first state emits.


# %% part="log-joint"
def log_joint(z, x, initial, transition, emission):
    """log p(x, z) (N,) of paths z (N, T) and symbols x (T,)."""
    ### BEGIN SOLUTION
    with np.errstate(divide="ignore"):
        first = np.log(initial)[z[:, 0]]
        moves = np.log(transition)[z[:, :-1], z[:, 1:]].sum(1)
        return first + moves + np.log(emission)[z, x].sum(1)
    ### END SOLUTION


# %% check="log-joint"
one_step = log_joint(np.array([[0], [1], [2]]), x[:1], *hmm)
check_close(np.exp(one_step).sum(), hmm[0] @ hmm[2][:, x[0]], what="p(x_1)")

# %% test="log-joint" points="4" says="one step: log p(z_1) + log p(x_1 | z_1); the first state emits"
z = np.array([[0], [2]])
check_close(call("log_joint", z, instance["x"][:1], *hmm_of(instance)), log_joints(instance, z, instance["x"][:1]))

# %% test="log-joint" points="8" says="the log joint densities of all 729 paths are wrong"
z = all_paths()
check_close(call("log_joint", z, instance["x"], *hmm_of(instance)), log_joints(instance, z))

# %% [markdown]
# ## 3. The ELBO of independent laws
#
# Under $q(z) = \prod_t q_t(z_t)$ all expectations are sums over one or two states: do not sum over paths. A term
# $0 \log 0$ is zero, so a $q$ of zeros and ones is allowed.


# %% part="elbo"
def elbo(q, x, initial, transition, emission):
    """The ELBO, in nats, of independent laws q (T, K) of the states."""
    ### BEGIN SOLUTION
    energy = q[0] @ np.log(initial) + (q * np.log(emission)[:, x].T).sum()
    energy += sum(before @ np.log(transition) @ after for before, after in itertools.pairwise(q))
    entropy = -(q * np.log(np.where(q > 0, q, 1.0))).sum()
    return energy + entropy
    ### END SOLUTION


# %% check="elbo"
paths = np.array(list(itertools.product(range(3), repeat=6)))
assert elbo(q, x, *hmm) <= logsumexp(log_joint(paths, x, *hmm)), "the ELBO is a lower bound of log p(x)"

# %% test="elbo" points="8" says="the ELBO of your q is wrong: it is the sum over all paths of q (log p(x, z) - log q)"
check_close(call("elbo", instance["q"], instance["x"], *hmm_of(instance)), bounds(instance, instance["q"]))

# %% test="elbo" points="6" says="a q of zeros and ones has no entropy: its ELBO is log p(x, z) of that path"
path = np.array([0, 2, 1, 1, 0, 2])
got = call("elbo", np.eye(3)[path], instance["x"], *hmm_of(instance))
check_close(got, log_joints(instance, path[None])[0])

# %% test="elbo" points="4" says="with equal rows of the transition table the best independent laws leave no gap"
equal = {**instance["hmm"], "transition": np.tile(instance["hmm"]["initial"], (3, 1))}
case = {**instance, "hmm": equal}
check_close(call("elbo", posterior(case), case["x"], *hmm_of(case)), log_evidence(case))

# %% [markdown]
# ## 4. The gap
#
# $\mathrm{KL}(q \,\|\, p(z \mid x))$ by the sum over all paths, with the posterior $p(z \mid x)$ of whole paths. Do not
# compute it as $\log p(x) - \mathcal{L}(q)$: that is the check.


# %% part="gap"
def gap(q, x, initial, transition, emission):
    """KL(q || p(z | x)), in nats, of independent laws q (T, K) with positive entries."""
    ### BEGIN SOLUTION
    paths = np.array(list(itertools.product(range(q.shape[1]), repeat=len(q))))
    log_posterior = log_joint(paths, x, initial, transition, emission)
    log_posterior = log_posterior - logsumexp(log_posterior)
    log_q = np.log(q)[np.arange(len(q)), paths].sum(1)
    return (np.exp(log_q) * (log_q - log_posterior)).sum()
    ### END SOLUTION


# %% check="gap"
assert gap(q, x, *hmm) >= 0, "a Kullback-Leibler divergence is not negative"

# %% test="gap" points="8" says="the gap is not log p(x) minus the ELBO"
got = call("gap", instance["q"], instance["x"], *hmm_of(instance))
check_close(got, log_evidence(instance) - bounds(instance, instance["q"]))

# %% test="gap" points="4" says="with equal rows of the transition table and q the posterior, the gap is zero"
case = {**instance, "hmm": {**instance["hmm"], "transition": np.tile(instance["hmm"]["initial"], (3, 1))}}
check_close(call("gap", posterior(case), case["x"], *hmm_of(case)), 0.0, atol=1e-8)

# %% [markdown]
# ## 5. Several samples
#
# From log weights $\log w_s = \log p(x, z^{(s)}) - \log q(z^{(s)})$ of $S$ samples: $\log \frac1S \sum_s w_s$, the
# importance-weighted bound. Log weights may be as small as $-10^4$.


# %% part="iwae"
def iwae(log_weights):
    """The importance-weighted bound of log weights (S,), a number."""
    ### BEGIN SOLUTION
    return logsumexp(log_weights) - np.log(len(log_weights))
    ### END SOLUTION


# %% check="iwae"
check_close(iwae(np.array([-3.0, -3.0])), -3.0, what="bound of equal weights")

# %% test="iwae" points="6" says="the bound is the log of the mean of the weights"
some = np.log(np.array([0.2, 1.5, 0.7]))
check_close(call("iwae", some), np.log(0.8))
check_close(call("iwae", some[:1]), np.log(0.2))

# %% test="iwae" points="4" says="log weights of -5000 must not underflow"
check_close(call("iwae", np.array([-5000.0, -5000.0, -5001.0])), -5000 + np.log((2 + np.exp(-1)) / 3), rtol=1e-9)

# %% [markdown]
# ## 6. Your numbers
#
# For your model and data: $\log p(x)$, the ELBO of the product of the smoothed probabilities
# $q_t(k) = p(z_t = k \mid x)$, and its gap.

# %% part="numbers"
### BEGIN SOLUTION
paths = np.array(list(itertools.product(range(3), repeat=6)))
log_p = logsumexp(log_joint(paths, x, *hmm))
weights = np.exp(log_joint(paths, x, *hmm) - log_p)
smoothed = np.array([[weights[paths[:, t] == k].sum() for k in range(3)] for t in range(6)])
answers = {"log_p": log_p, "elbo": elbo(smoothed, x, *hmm), "gap": gap(smoothed, x, *hmm)}
### END SOLUTION

# %% check="numbers"
assert set(answers) == {"log_p", "elbo", "gap"}, "these are the names of the three answers"

# %% test="numbers" points="2" says="log_p is not that of your instance"
check_close(value("answers")["log_p"], log_evidence(instance), rtol=1e-5)

# %% test="numbers" points="3" says="elbo is not that of your instance"
check_close(value("answers")["elbo"], bounds(instance, posterior(instance)), rtol=1e-4)

# %% test="numbers" points="3" says="gap is not that of your instance"
expected = log_evidence(instance) - bounds(instance, posterior(instance))
check_close(value("answers")["gap"], expected, rtol=1e-3, atol=1e-5)

# %% [markdown] question="noise" points="7"
# **Question 1.** A control: noise is added to the states of the RNN, $h_{t+1} = \tanh(\cdot) + \varepsilon_t$, and the
# guide still puts all its mass on the path without noise. Which hypothesis of the equivalence does this control break,
# what becomes of the ELBO with a continuous posterior, and which guide would close the gap?

# %% [markdown] rubric="noise"
# - 3 points: determinism: the posterior of the states given x is no longer one point, so $q = p(h \mid x)$ fails.
# - 2 points: a point mass has no density with respect to the Gaussian law: KL is infinite, the ELBO is minus infinity (a
#   guide with small width has a large finite gap).
# - 2 points: the exact posterior of the states, which conditions on the future as well (smoothing, not filtering).

# %% [markdown] question="correlated" points="7"
# **Question 2.** The laws $q_t = p(z_t \mid x)$ are each right, and the gap is not zero; with equal rows of the transition
# table it is. Which hypothesis does the second case satisfy and the first not, is another product of laws better, and what
# is the smallest change of $q$ that closes the gap in the first case?

# %% [markdown] rubric="correlated"
# - 3 points: independence of the states given x; the marginals alone do not make the joint posterior.
# - 2 points: yes in general: the product of the marginals does not minimise KL(q || p); coordinate ascent finds a better one.
# - 2 points: a Markov chain $q(z_1) \prod q(z_t \mid z_{t-1})$, which is the form of the posterior.
