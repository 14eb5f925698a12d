# %% [markdown] assignment="em-counts" minutes="120"
# # EM on counts of earthquakes, and the number of states
#
# **Goals.** You derive the two steps of EM for a hidden Markov model with Poisson observations, you check that the
# likelihood never falls, and you choose the number of states by a criterion that counts parameters rightly.
# **Time:** 120 minutes.
#
# $$z_1 \sim \pi, \qquad p(z_t = j \mid z_{t-1} = i) = A_{ij}, \qquad x_t \mid z_t = k \sim \mathrm{Poisson}(\lambda_k).$$
#
# The data are the numbers of major earthquakes (magnitude 7 and more) in the world per year from 1900 to 2006, counted
# by the US Geological Survey. They were taken from an example of hmmlearn (BSD licence). Zucchini and MacDonald analyse
# this series in *Hidden Markov Models for Time Series*. Use NumPy and SciPy, and no ready-made engine.

# %%
import numpy as np
from scipy.special import gammaln

from pgm_rnn.teaching import check_close, student_rng

# %% [markdown]
# ## Your instance
#
# Your data are a window of the series. Your model is a start for EM, drawn for you.


# %%
def make_instance(rng):
    """A window of 70 to 90 years, and parameters of a model with two states."""
    earthquakes = [
        *(13, 14, 8, 10, 16, 26, 32, 27, 18, 32, 36, 24, 22, 23, 22, 18, 25, 21, 21, 14, 8, 11, 14, 23, 18, 17, 19),
        *(20, 22, 19, 13, 26, 13, 14, 22, 24, 21, 22, 26, 21, 23, 24, 27, 41, 31, 27, 35, 26, 28, 36, 39, 21, 17, 22),
        *(17, 19, 15, 34, 10, 15, 22, 18, 15, 20, 15, 22, 19, 16, 30, 27, 29, 23, 20, 16, 21, 21, 25, 16, 18, 15, 18),
        *(14, 10, 15, 8, 15, 6, 11, 8, 7, 18, 16, 13, 12, 13, 20, 15, 16, 12, 18, 15, 16, 13, 15, 16, 11, 11),
    ]
    num_years = int(rng.integers(70, 91))
    first = int(rng.integers(0, len(earthquakes) - num_years + 1))
    stay = rng.uniform(0.6, 0.9, size=2)
    return {
        "first_year": 1900 + first,
        "counts": np.array(earthquakes[first : first + num_years]),
        "initial": rng.dirichlet([3.0, 3.0]),
        "transition": np.array([[stay[0], 1 - stay[0]], [1 - stay[1], stay[1]]]),
        "rates": np.array([rng.uniform(10, 16), rng.uniform(22, 30)]),
    }


# %%
NAME = ""
instance = make_instance(student_rng("em-counts", NAME))
counts = instance["counts"]
start = [instance[name] for name in ("initial", "transition", "rates")]

# %% [markdown]
# ## 1. Log probabilities of counts
#
# $\log p(x_t \mid z_t = k) = x_t \log \lambda_k - \lambda_k - \log x_t!$ for all steps and states. `gammaln(n + 1)` is
# $\log n!$ without overflow.


# %% part="log-emission"
def log_emission(counts, rates):
    """Log probabilities (T, K) of counts (T,) under rates (K,)."""
    ### BEGIN SOLUTION
    counts = np.asarray(counts)[:, None]
    return counts * np.log(rates) - rates - gammaln(counts + 1)
    ### END SOLUTION


# %% check="log-emission"
some = np.arange(200)
check_close(np.exp(log_emission(some, np.array([5.0, 20.0]))).sum(0), [1.0, 1.0], what="sums of the probabilities")

# %% hidden="reference"
import itertools

import torch

from pgm_rnn.emissions import Poisson
from pgm_rnn.inference import em, forward_backward
from pgm_rnn.models import HMM


def hmm_of(initial, transition, rates):
    """The package's model with these parameters."""
    table = Poisson().table(torch.tensor(rates))
    return HMM(torch.tensor(initial), torch.tensor(transition), table)


def exact(counts, initial, transition, rates):
    """Smoothed probabilities (T, K), expected numbers of transitions (K, K) and the log likelihood, by the engine."""
    smoothed = forward_backward.smooth(hmm_of(initial, transition, rates), torch.tensor(counts)[None])
    pairs = smoothed.pairwise_probs[0].sum(0)
    return (
        smoothed.smoothed_probs[0].detach().numpy(),
        pairs.detach().numpy(),
        float(smoothed.log_marginal_likelihood[0].detach()),
    )


def starts(counts, num_states):
    """Rates at quantiles of the counts, and chains that stay with probability 0.8; the start of part 6."""
    levels = (np.arange(num_states) + 0.5) / num_states
    stay, leave = (0.8, 0.2 / (num_states - 1)) if num_states > 1 else (1.0, 0.0)
    transition = np.full((num_states, num_states), leave)
    np.fill_diagonal(transition, stay)
    return np.full(num_states, 1 / num_states), transition, np.quantile(counts, levels)


def fitted(counts, num_states, num_iterations):
    """The log likelihood and the rates after so many iterations of the package's EM."""
    model = hmm_of(*starts(counts, num_states))
    em.fit(model, torch.tensor(counts)[None], num_iterations=num_iterations, tolerance=0.0, progress=False)
    filtered = forward_backward.filter(model, torch.tensor(counts)[None])
    laws = model.emission_table(torch.arange(num_states))
    return float(filtered.log_marginal_likelihood[0].detach()), laws.mean.detach().numpy().reshape(-1)


# %% test="log-emission" points="4" says="differences between states are wrong: they are x log(a / b) - (a - b)"
got = numbers(call("log_emission", counts := instance["counts"], instance["rates"]))
a, b = instance["rates"]
check_close(got[:, 0] - got[:, 1], counts * np.log(a / b) - (a - b), what="differences")

# %% test="log-emission" points="6" says="the log probabilities are wrong, or a factorial overflows at 0 or at 500"
from scipy.stats import poisson

some = np.array([0, 1, 7, 40, 500])
check_close(call("log_emission", some, instance["rates"]), poisson.logpmf(some[:, None], instance["rates"]))

# %% [markdown]
# ## 2. The E-step
#
# Smoothed probabilities $\gamma_{tk} = p(z_t = k \mid x_{1:T})$, expected numbers of transitions
# $\xi_{ij} = \sum_{t<T} p(z_t = i, z_{t+1} = j \mid x_{1:T})$, and the log likelihood. Work with logarithms or normalise
# at each step.


# %% part="e-step"
def e_step(counts, initial, transition, rates):
    """Smoothed probabilities (T, K), expected transitions (K, K) and the log likelihood."""
    ### BEGIN SOLUTION
    log_b = log_emission(counts, rates)
    shift = log_b.max(1)
    b = np.exp(log_b - shift[:, None])
    filtered, smoothed, sums = np.zeros(b.shape), np.zeros(b.shape), np.zeros(len(b))
    predicted = initial
    for t in range(len(b)):
        joint = predicted * b[t]
        sums[t] = joint.sum()
        filtered[t] = joint / sums[t]
        predicted = filtered[t] @ transition
    future, pairs = np.ones(len(initial)), np.zeros(transition.shape)
    smoothed[-1] = filtered[-1]
    for t in range(len(b) - 2, -1, -1):
        next_ = b[t + 1] * future / sums[t + 1]
        pairs += filtered[t][:, None] * transition * next_
        future = transition @ next_
        smoothed[t] = filtered[t] * future
    return smoothed, pairs, np.log(sums).sum() + shift.sum()
    ### END SOLUTION


# %% check="e-step"
smoothed, pairs, log_likelihood = e_step(counts, *start)
check_close(smoothed.sum(1), np.ones(len(counts)), what="sums of the smoothed probabilities")
check_close(pairs.sum(), len(counts) - 1, what="expected number of all transitions")

# %% test="e-step" points="8" says="the smoothed probabilities are wrong on your data"
start = instance["initial"], instance["transition"], instance["rates"]
smoothed, _, _ = call("e_step", instance["counts"], *start, returns=3)
check_close(smoothed, exact(instance["counts"], *start)[0], what="smoothed probabilities")

# %% test="e-step" points="6" says="the expected transitions are wrong on your data"
start = instance["initial"], instance["transition"], instance["rates"]
_, pairs, _ = call("e_step", instance["counts"], *start, returns=3)
check_close(pairs, exact(instance["counts"], *start)[1], what="expected transitions")

# %% test="e-step" points="4" says="the log likelihood is wrong on your data"
start = instance["initial"], instance["transition"], instance["rates"]
_, _, value_ = call("e_step", instance["counts"], *start, returns=3)
check_close(value_, exact(instance["counts"], *start)[2], what="log likelihood")

# %% test="e-step" points="4" says="five years and the sum over all 32 paths disagree, by the definition"
start, few = (instance["initial"], instance["transition"], instance["rates"]), instance["counts"][:5]
smoothed, pairs, _ = call("e_step", few, *start, returns=3)
gamma, xi = np.zeros((5, 2)), np.zeros((2, 2))
for path in itertools.product(range(2), repeat=5):
    weight = start[0][path[0]] * np.prod([start[1][i, j] for i, j in itertools.pairwise(path)])
    weight *= np.prod([start[2][k] ** float(x) * np.exp(-start[2][k]) for k, x in zip(path, few, strict=True)])
    for t, k in enumerate(path):
        gamma[t, k] += weight
    for i, j in itertools.pairwise(path):
        xi[i, j] += weight
check_close(smoothed, gamma / gamma[0].sum(), what="smoothed probabilities")
check_close(pairs, 4 * xi / xi.sum(), what="expected transitions")

# %% [markdown]
# ## 3. The M-step
#
# The parameters that maximise the expected log joint density: shares of expected transitions, and means of the counts
# weighted by the smoothed probabilities.


# %% part="m-step"
def m_step(counts, smoothed, pairs):
    """Initial probabilities (K,), transition table (K, K) and rates (K,)."""
    ### BEGIN SOLUTION
    rates = (smoothed * np.asarray(counts)[:, None]).sum(0) / smoothed.sum(0)
    return smoothed[0], pairs / pairs.sum(1, keepdims=True), rates
    ### END SOLUTION


# %% check="m-step"
new_initial, new_transition, new_rates = m_step(counts, smoothed, pairs)
check_close(new_transition.sum(1), [1.0, 1.0], what="sums of the rows of the transition table")

# %% test="m-step" points="4" says="the initial probabilities are the smoothed ones of the first step"
smoothed, pairs, _ = exact(instance["counts"], instance["initial"], instance["transition"], instance["rates"])
initial, _, _ = call("m_step", instance["counts"], smoothed, pairs, returns=3)
check_close(initial, smoothed[0], what="initial probabilities")

# %% test="m-step" points="5" says="the transition table is wrong: each row is a share of the transitions from one state"
smoothed, pairs, _ = exact(instance["counts"], instance["initial"], instance["transition"], instance["rates"])
_, transition, _ = call("m_step", instance["counts"], smoothed, pairs, returns=3)
check_close(transition, [row / row.sum() for row in pairs], what="transition table")

# %% test="m-step" points="5" says="the rates are wrong: they are weighted means of the counts"
smoothed, pairs, _ = exact(instance["counts"], instance["initial"], instance["transition"], instance["rates"])
_, _, rates = call("m_step", instance["counts"], smoothed, pairs, returns=3)
check_close(rates, [np.average(instance["counts"], weights=column) for column in smoothed.T], what="rates")

# %% [markdown]
# ## 4. EM
#
# Repeat both steps. Return the parameters, and the log likelihood that each E-step found: the first of them is that of
# the start.


# %% part="fit"
def fit(counts, initial, transition, rates, num_iterations):
    """Initial probabilities, transition table, rates, and the log likelihoods (num_iterations,)."""
    ### BEGIN SOLUTION
    found = []
    for _ in range(num_iterations):
        smoothed, pairs, log_likelihood = e_step(counts, initial, transition, rates)
        initial, transition, rates = m_step(counts, smoothed, pairs)
        found.append(log_likelihood)
    return initial, transition, rates, np.array(found)
    ### END SOLUTION


# %% check="fit"
log_likelihoods = fit(counts, *start, 20)[-1]
assert (np.diff(log_likelihoods) > -1e-8).all(), "EM never lowers the likelihood"

# %% test="fit" points="4" says="the log likelihood falls, or there is not one per iteration"
start = instance["initial"], instance["transition"], instance["rates"]
found = numbers(call("fit", instance["counts"], *start, 15, returns=4)[3], "log likelihoods")
assert found.shape == (15,), "expected 15 log likelihoods"
assert (np.diff(found) > -1e-8).all() and found[-1] > found[0], "the log likelihood must rise"

# %% test="fit" points="4" says="the first log likelihood is not that of the start"
start = instance["initial"], instance["transition"], instance["rates"]
found = numbers(call("fit", instance["counts"], *start, 3, returns=4)[3], "log likelihoods")
check_close(found[0], exact(instance["counts"], *start)[2], what="first log likelihood")

# %% test="fit" points="6" says="the rates after 30 iterations are wrong"
start = instance["initial"], instance["transition"], instance["rates"]
model = hmm_of(*start)
em.fit(model, torch.tensor(instance["counts"])[None], num_iterations=30, tolerance=0.0, progress=False)
expected = model.emission_table(torch.arange(2)).mean.detach().numpy().reshape(-1)
check_close(call("fit", instance["counts"], *start, 30, returns=4)[2], expected, rtol=1e-4, what="rates")

# %% [markdown]
# ## 5. The number of states
#
# $\mathrm{BIC} = -2 \log p(x_{1:T}) + d \log T$ with $d$ free parameters; the smallest is the best. A row of
# probabilities has one free parameter fewer than it has entries.


# %% part="bic"
def bic(log_likelihood, num_states, num_steps):
    """The criterion of a Poisson HMM with this log likelihood."""
    ### BEGIN SOLUTION
    num_free = (num_states - 1) + num_states * (num_states - 1) + num_states
    return -2 * log_likelihood + num_free * np.log(num_steps)
    ### END SOLUTION


# %% check="bic"
assert bic(-300.0, 3, 100) > bic(-300.0, 2, 100), "more parameters for nothing are worse"

# %% test="bic" points="3" says="a model with one state has one free parameter, its rate"
check_close(call("bic", -312.5, 1, 90), 625 + np.log(90), what="criterion")

# %% test="bic" points="5" says="the criterion is wrong for two or four states: count the free parameters"
check_close(call("bic", -300.0, 2, 80), 600 + 5 * np.log(80), what="criterion of two states")
check_close(call("bic", -290.0, 4, 107), 580 + 19 * np.log(107), what="criterion of four states")

# %% [markdown]
# ## 6. Your numbers
#
# Fit models with 1, 2 and 3 states to your data, 100 iterations each, from this start: rates at quantiles of the counts,
# equal initial probabilities, and a chain that stays with probability 0.8. Fill in the log likelihood with two states
# (that of your fitted parameters), the smaller of its two rates, and the number of states with the smallest criterion.


# %%
def start_of(counts, num_states):
    """The start for a number of states."""
    rates = np.quantile(counts, (np.arange(num_states) + 0.5) / num_states)
    transition = np.full((num_states, num_states), 0.2 / max(num_states - 1, 1))
    np.fill_diagonal(transition, 0.8 if num_states > 1 else 1.0)
    return np.full(num_states, 1 / num_states), transition, rates


# %% part="numbers"
### BEGIN SOLUTION
fits = {num_states: fit(counts, *start_of(counts, num_states), 100) for num_states in (1, 2, 3)}
likelihoods = {num_states: e_step(counts, *found[:3])[2] for num_states, found in fits.items()}
answers = {
    "log_likelihood": likelihoods[2],
    "smaller_rate": fits[2][2].min(),
    "num_states": min(fits, key=lambda num_states: bic(likelihoods[num_states], num_states, len(counts))),
}
### END SOLUTION

# %% check="numbers"
assert set(answers) == {"log_likelihood", "smaller_rate", "num_states"}, "these are the names of the three answers"

# %% test="numbers" points="3" says="log_likelihood is not that of your data"
check_close(value("answers")["log_likelihood"], fitted(instance["counts"], 2, 100)[0], atol=0.01, what="log_likelihood")

# %% test="numbers" points="2" says="smaller_rate is not that of your data"
check_close(
    value("answers")["smaller_rate"], fitted(instance["counts"], 2, 100)[1].min(), atol=0.02, what="smaller_rate"
)

# %% test="numbers" points="3" says="num_states is not the best for your data"
counts = instance["counts"]
criteria = [
    -2 * fitted(counts, k, 100)[0] + (k * k + k - 1) * np.log(len(counts)) for k in (1, 2, 3)
]  # (k - 1) + k (k - 1) + k
check_close(value("answers")["num_states"], 1 + int(np.argmin(criteria)), what="num_states")

# %% [markdown] question="overdispersion" points="7"
# **Question 1.** A control: independent counts are drawn from one negative binomial distribution, whose variance is twice
# its mean, and your code chooses two states or more. Which hypothesis of the model does this control break? What do the
# fitted states mean then, and what in the smoothed probabilities or in the data would show that there are no regimes?

# %% [markdown] rubric="overdispersion"
# - 3 points: the counts given a state are not Poisson (variance equal to the mean); the states take up the extra variance.
# - 2 points: the states mean large and small counts, and no regime lasts: the rows of the transition table are alike.
# - 2 points: the smoothed states jump from year to year, the autocorrelation of the counts is near zero, or shuffled data
#   give the same likelihood.

# %% [markdown] question="starts" points="7"
# **Question 2.** From a start with equal rates and equal rows, EM stays where it is; from other starts it ends at several
# likelihoods. What does the theorem on EM promise, which of these two observations contradicts it, and which hypothesis of
# "the maximum-likelihood fit with BIC" fails when you compare numbers of states from one start each?

# %% [markdown] rubric="starts"
# - 3 points: the likelihood never falls; the limit is a stationary point, and nothing says that it is the global maximum.
# - 2 points: neither contradicts it: the symmetric start is a stationary point already (a saddle), the others are local
#   maxima.
# - 2 points: BIC compares maxima; with one start each, the larger model may be compared at a lower, local maximum.
