# %% [markdown] assignment="forward-backward" minutes="90"
# # Forward-backward and Viterbi
#
# **Goals.** You write the three recursions of a hidden Markov model, you keep them in the range of floating-point
# numbers on long sequences, and you say which hypothesis each of them needs. **Time:** 90 minutes.
#
# The model has states $z_t \in \{0, \dots, K-1\}$ and observations $x_t$:
#
# $$p(z_1 = k) = \pi_k, \qquad p(z_t = j \mid z_{t-1} = i) = A_{ij}, \qquad p(x_t \mid z_t = k) = \ell_{tk}.$$
#
# Each row of $A$ (`transition`) sums to one: rows are old states, columns are new ones. `likelihoods[t, k]` is
# $\ell_{tk}$, and the first state emits. Use NumPy. Do not use a ready-made engine: graded code cannot import one.

# %%
import numpy as np

from pgm_rnn.teaching import check_close, student_rng


# %% [markdown]
# ## Your instance
#
# Write your name as it is in the list of the course. Your model and your data are drawn from it, so your numbers differ
# from those of others.


# %%
def make_instance(rng):
    """A model with three states and four symbols, and sixty observations drawn from it."""
    num_states, num_symbols, num_steps = 3, 4, 60
    initial = rng.dirichlet(np.full(num_states, 2.0))
    transition = 0.6 * np.eye(num_states) + 0.4 * rng.dirichlet(np.ones(num_states), size=num_states)
    emission = rng.dirichlet(np.full(num_symbols, 0.7), size=num_states)
    z, x = rng.choice(num_states, p=initial), []
    for _ in range(num_steps):
        x.append(rng.choice(num_symbols, p=emission[z]))
        z = rng.choice(num_states, p=transition[z])
    return {"initial": initial, "transition": transition, "emission": emission, "x": np.array(x)}


# %%
NAME = ""
instance = make_instance(student_rng("forward-backward", NAME))
likelihoods = instance["emission"][:, instance["x"]].T  # (T, K)

# %% [markdown]
# ## 1. The forward recursion
#
# Filtered probabilities $p(z_t = k \mid x_{1:t})$ and the log likelihood $\log p(x_{1:T})$, in nats. Normalise at each
# step: the product of many probabilities is too small for a floating-point number.


# %% part="forward"
def forward(initial, transition, likelihoods):
    """Filtered probabilities (T, K), and the log likelihood, a number."""
    ### BEGIN SOLUTION
    filtered, log_likelihood, predicted = np.zeros(likelihoods.shape), 0.0, initial
    for t, likelihood in enumerate(likelihoods):
        joint = predicted * likelihood
        filtered[t] = joint / joint.sum()
        log_likelihood += np.log(joint.sum())
        predicted = filtered[t] @ transition
    return filtered, log_likelihood
    ### END SOLUTION


# %% check="forward"
filtered, log_likelihood = forward(instance["initial"], instance["transition"], likelihoods)
check_close(filtered.sum(1), np.ones(len(likelihoods)), what="sums of the filtered probabilities")
assert log_likelihood < 0, "the probability of sixty symbols is below one"

# %% hidden="reference"
import torch

from pgm_rnn.inference import forward_backward
from pgm_rnn.models import HMM


def likelihoods_of(case):
    """Likelihoods (T, K) of the observations of a case."""
    return case["emission"][:, case["x"]].T


def exact(case, function):
    """The result of one of the package's exact engines on a case."""
    hmm = HMM(*(torch.tensor(case[name]) for name in ("initial", "transition", "emission")))
    return getattr(forward_backward, function)(hmm, torch.tensor(case["x"])[None])


def filtered_of(case):
    """The exact filtered probabilities (T, K)."""
    return exact(case, "filter").filtered_probs[0].detach().numpy()


def smoothed_of(case):
    """The exact smoothed probabilities (T, K)."""
    return exact(case, "smooth").smoothed_probs[0].detach().numpy()


def log_likelihood_of(case):
    """The exact log likelihood."""
    return float(exact(case, "filter").log_marginal_likelihood[0].detach())


def longer(case, num_steps=3000):
    """The same model with many more observations."""
    return case | {"x": np.resize(case["x"], num_steps)}


def one_way(case):
    """The same model, whose states cannot be left downwards, starting in the first."""
    transition = np.triu(case["transition"])
    return case | {"transition": transition / transition.sum(1, keepdims=True), "initial": np.array([1.0, 0.0, 0.0])}


# %% test="forward" points="6" says="with one observation, the filter is Bayes' rule"
first = {**instance, "x": instance["x"][:1]}
filtered, log_likelihood = call("forward", first["initial"], first["transition"], likelihoods_of(first), returns=2)
joint = first["initial"] * likelihoods_of(first)[0]
check_close(filtered, [joint / joint.sum()], what="filtered")
check_close(log_likelihood, np.log(joint.sum()), what="log_likelihood")

# %% test="forward" points="6" says="the filtered probabilities are wrong on your data"
filtered, _ = call("forward", instance["initial"], instance["transition"], likelihoods_of(instance), returns=2)
check_close(filtered, filtered_of(instance), what="filtered")

# %% test="forward" points="4" says="the log likelihood is wrong on your data"
_, value_ = call("forward", instance["initial"], instance["transition"], likelihoods_of(instance), returns=2)
check_close(value_, log_likelihood_of(instance), what="log_likelihood")

# %% test="forward" points="4" says="the log likelihood of 3000 steps is wrong: does a product of probabilities underflow?"
case = longer(instance)
_, value_ = call("forward", case["initial"], case["transition"], likelihoods_of(case), returns=2)
check_close(value_, log_likelihood_of(case), what="log_likelihood")

# %% [markdown]
# ## 2. The backward recursion
#
# Smoothed probabilities $p(z_t = k \mid x_{1:T})$ from the filtered ones. With the predicted probabilities
# $p(z_{t+1} = j \mid x_{1:t})$,
#
# $$p(z_t = i \mid x_{1:T}) = p(z_t = i \mid x_{1:t}) \sum_j A_{ij}
#   \frac{p(z_{t+1} = j \mid x_{1:T})}{p(z_{t+1} = j \mid x_{1:t})}.$$
#
# A state that cannot be reached has probability zero above and below: its term is zero.


# %% part="smooth"
def smooth(filtered, transition):
    """Smoothed probabilities (T, K) from the filtered ones (T, K)."""
    ### BEGIN SOLUTION
    smoothed = filtered.copy()
    for t in range(len(filtered) - 2, -1, -1):
        predicted = filtered[t] @ transition
        ratio = np.divide(smoothed[t + 1], predicted, out=np.zeros_like(predicted), where=predicted > 0)
        smoothed[t] = filtered[t] * (transition @ ratio)
    return smoothed
    ### END SOLUTION


# %% check="smooth"
smoothed = smooth(filtered, instance["transition"])
check_close(smoothed.sum(1), np.ones(len(likelihoods)), what="sums of the smoothed probabilities")

# %% test="smooth" points="4" says="at the last step, smoothed and filtered probabilities are the same"
filtered = filtered_of(instance)
check_close(numbers(call("smooth", filtered, instance["transition"]))[-1], filtered[-1], what="smoothed")
check_close(call("smooth", filtered[:1], instance["transition"]), filtered[:1], what="smoothed")

# %% test="smooth" points="8" says="the smoothed probabilities are wrong on your data"
check_close(call("smooth", filtered_of(instance), instance["transition"]), smoothed_of(instance), what="smoothed")

# %% test="smooth" points="4" says="the smoothed probabilities of 3000 steps are wrong"
case = longer(instance)
check_close(call("smooth", filtered_of(case), case["transition"]), smoothed_of(case), what="smoothed")

# %% test="smooth" points="4" says="states that cannot be reached give 0 / 0, which must count as zero"
case = one_way(instance)
check_close(call("smooth", filtered_of(case), case["transition"]), smoothed_of(case), atol=1e-7, what="smoothed")

# %% [markdown]
# ## 3. The most likely path
#
# Viterbi's recursion: $\arg\max_{z_{1:T}} \log p(z_{1:T}, x_{1:T})$ and that maximum. Add logarithms instead of
# multiplying, and remember for each state which state before it was the best.


# %% part="viterbi"
def viterbi(initial, transition, likelihoods):
    """The most likely states (T,), whole numbers, and log p(states, observations), a number."""
    ### BEGIN SOLUTION
    with np.errstate(divide="ignore"):
        log_initial, log_transition, log_likelihoods = np.log(initial), np.log(transition), np.log(likelihoods)
    best, back = log_initial + log_likelihoods[0], np.zeros(likelihoods.shape, dtype=int)
    for t in range(1, len(likelihoods)):
        scores = best[:, None] + log_transition  # (old, new)
        back[t] = scores.argmax(0)
        best = scores.max(0) + log_likelihoods[t]
    states = np.zeros(len(likelihoods), dtype=int)
    states[-1] = best.argmax()
    for t in range(len(likelihoods) - 1, 0, -1):
        states[t - 1] = back[t, states[t]]
    return states, best.max()
    ### END SOLUTION


# %% check="viterbi"
states, log_prob = viterbi(instance["initial"], instance["transition"], likelihoods)
assert len(states) == len(likelihoods), "one state per observation"
assert log_prob < log_likelihood, "one path cannot be more likely than all paths together"


# %% hidden="paths"
def path_log_prob(case, states):
    """log p(states, x) of a path, by the definition."""
    states = numbers(states, "states").astype(int)
    if states.shape != case["x"].shape or not ((states >= 0) & (states < 3)).all():
        raise AssertionError("states: expected one whole number from 0 to 2 per observation")
    with np.errstate(divide="ignore"):
        first = np.log(case["initial"][states[0]])
        moves = np.log(case["transition"][states[:-1], states[1:]]).sum()
        return first + moves + np.log(case["emission"][states, case["x"]]).sum()


def best_log_prob(case):
    """log p of the best path, by the package's engine."""
    return float(exact(case, "most_likely_states").log_prob[0])


# %% test="viterbi" points="8" says="the log probability of the best path is wrong on your data"
_, value_ = call("viterbi", instance["initial"], instance["transition"], likelihoods_of(instance), returns=2)
check_close(value_, best_log_prob(instance), what="log_prob")

# %% test="viterbi" points="6" says="the path is not the most likely one: it must be traced back from the end"
states, _ = call("viterbi", instance["initial"], instance["transition"], likelihoods_of(instance), returns=2)
check_close(path_log_prob(instance, states), best_log_prob(instance), what="log probability of your path")

# %% test="viterbi" points="6" says="3000 steps, and states that cannot be reached: path or log probability is wrong"
case = longer(one_way(instance))
states, value_ = call("viterbi", case["initial"], case["transition"], likelihoods_of(case), returns=2)
check_close(value_, best_log_prob(case), what="log_prob")
check_close(path_log_prob(case, states), best_log_prob(case), what="log probability of your path")

# %% [markdown]
# ## 4. Your numbers
#
# Fill in the dictionary for your instance: the log likelihood of your 60 observations, the smoothed probability of state
# 0 at the 30th observation (`t = 29`), and the number of steps at which the most likely path changes its state.

# %% part="numbers"
### BEGIN SOLUTION
filtered, log_likelihood = forward(instance["initial"], instance["transition"], likelihoods)
states, _ = viterbi(instance["initial"], instance["transition"], likelihoods)
answers = {
    "log_likelihood": log_likelihood,
    "state_0_at_29": smooth(filtered, instance["transition"])[29, 0],
    "changes": int((np.diff(states) != 0).sum()),
}
### END SOLUTION

# %% check="numbers"
assert set(answers) == {"log_likelihood", "state_0_at_29", "changes"}, "these are the names of the three answers"

# %% test="numbers" points="3" says="log_likelihood is not that of your instance"
check_close(value("answers")["log_likelihood"], log_likelihood_of(instance), rtol=1e-5, what="log_likelihood")

# %% test="numbers" points="3" says="state_0_at_29 is not that of your instance"
check_close(value("answers")["state_0_at_29"], smoothed_of(instance)[29, 0], atol=1e-4, what="state_0_at_29")

# %% test="numbers" points="2" says="changes is not that of your instance"
best = exact(instance, "most_likely_states").states[0].numpy()
check_close(value("answers")["changes"], (np.diff(best) != 0).sum(), what="changes")

# %% [markdown] question="second-order" points="6"
# **Question 1.** Somebody draws data from a chain of *second* order, $p(z_t \mid z_{t-1}, z_{t-2})$, and compares your
# filter with the sum over all paths. The filter is wrong. Which hypothesis of the recursion does this control break, in
# which line of your `forward` is it used, and how would you change the states so that your code is right again?

# %% [markdown] rubric="second-order"
# - 2 points: the Markov property, $z_t \perp z_{1:t-2} \mid z_{t-1}$, fails.
# - 2 points: it is used where the next prediction is the filtered probability times the transition table.
# - 2 points: take the pair $(z_{t-1}, z_t)$ as the state, $K^2$ states; the table has zeros where pairs do not meet.

# %% [markdown] question="shuffled" points="6"
# **Question 2.** The observations are shuffled, and the log likelihood is computed again: for your model it changes, for
# a model whose rows of `transition` all equal `initial` it does not. Which property does the shuffling test, what does
# the second model say about $x_{1:T}$, and would you see the difference in the filtered probabilities of the last step?

# %% [markdown] rubric="shuffled"
# - 2 points: the order carries information: the observations are dependent in time and not exchangeable.
# - 2 points: with equal rows the states are independent and identically distributed, and so are the observations.
# - 2 points: with equal rows the last filtered probability depends on the last observation alone, so it changes only if
#   another observation comes last; in the other model it depends on all observations and their order.
