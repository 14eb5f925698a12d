# %% [markdown] assignment="particle-filter" minutes="120"
# # A particle filter and its weights
#
# **Goals.** You write a bootstrap particle filter, you keep its weights in range, you resample with little noise, and you
# check the estimate of the likelihood against an exact value. **Time:** 120 minutes.
#
# The model is stochastic volatility. The state moves slowly, and the observation is noise whose size follows it:
#
# $$z_1 \sim N\!\left(0, \tfrac{\sigma^2}{1 - \phi^2}\right), \qquad z_t = \phi z_{t-1} + \sigma e_t, \qquad
#   x_t \mid z_t \sim N(0, \beta^2 e^{z_t}), \qquad e_t \sim N(0, 1).$$
#
# Random numbers are arguments of your functions, so that your results can be compared. Use NumPy.

# %%
import numpy as np

from pgm_rnn.teaching import check_close, student_rng

# %% [markdown]
# ## Your instance


# %%
def make_instance(rng):
    """Parameters of a model, 50 observations drawn from it, and random numbers for 4000 particles."""
    phi, sigma, beta = rng.uniform(0.85, 0.95), rng.uniform(0.4, 0.6), rng.uniform(0.5, 1.5)
    z, x = rng.normal() * sigma / np.sqrt(1 - phi**2), []
    for _ in range(50):
        x.append(beta * np.exp(z / 2) * rng.normal())
        z = phi * z + sigma * rng.normal()
    seed = int(rng.integers(2**31))
    return {"phi": phi, "sigma": sigma, "beta": beta, "x": np.array(x), "seed": seed}


# %%
NAME = ""
instance = make_instance(student_rng("particle-filter", NAME))
x, model = instance["x"], (instance["phi"], instance["sigma"], instance["beta"])
noise = np.random.default_rng(instance["seed"])
normals, uniforms = noise.normal(size=(50, 4000)), noise.uniform(size=50)

# %% [markdown]
# ## 1. Weights
#
# Weights come as logarithms, which may be as small as $-10^4$. Return the weights that sum to one, and the logarithm of
# the mean of the unnormalised weights.


# %% part="normalize"
def normalize(log_weights):
    """Weights (N,) that sum to one, and log(mean(exp(log_weights))), a number."""
    ### BEGIN SOLUTION
    largest = log_weights.max()
    weights = np.exp(log_weights - largest)
    return weights / weights.sum(), largest + np.log(weights.mean())
    ### END SOLUTION


# %% check="normalize"
weights, log_mean = normalize(np.log(np.array([1.0, 3.0])))
check_close(weights, [0.25, 0.75], what="weights")

# %% test="normalize" points="6" says="weights or log mean are wrong for ordinary weights"
some = np.log(np.array([0.5, 2.0, 0.1, 4.0]))
weights, log_mean = call("normalize", some, returns=2)
check_close(weights, np.exp(some) / np.exp(some).sum(), what="weights")
check_close(log_mean, np.log(np.exp(some).mean()), what="log mean")

# %% test="normalize" points="6" says="log weights of -5000 must give the same weights as those of 0, and a finite log mean"
some = np.log(np.array([0.5, 2.0, 0.1, 4.0]))
weights, log_mean = call("normalize", some - 5000.0, returns=2)
check_close(weights, np.exp(some) / np.exp(some).sum(), what="weights")
check_close(log_mean, np.log(np.exp(some).mean()) - 5000.0, rtol=1e-10, what="log mean")

# %% [markdown]
# ## 2. The effective sample size
#
# $1 / \sum_n w_n^2$ of normalised weights: between 1 and $N$.


# %% part="ess"
def ess(weights):
    """The effective sample size of normalised weights (N,)."""
    ### BEGIN SOLUTION
    return 1 / (weights**2).sum()
    ### END SOLUTION


# %% check="ess"
check_close(ess(np.full(8, 1 / 8)), 8.0, what="effective sample size of equal weights")

# %% test="ess" points="6" says="the effective sample size is wrong: equal weights give N, one weight gives 1"
check_close(call("ess", np.full(10, 0.1)), 10.0)
check_close(call("ess", np.array([0.0, 1.0, 0.0])), 1.0)
check_close(call("ess", np.array([0.5, 0.25, 0.25])), 8 / 3)

# %% [markdown]
# ## 3. Systematic resampling
#
# One uniform number $u \in [0, 1)$ gives $N$ points $(n + u) / N$, $n = 0, \dots, N - 1$. Particle $i$ is chosen once for
# each point in its part of the unit interval, whose parts are as long as the weights.


# %% part="systematic"
def systematic(weights, u):
    """Numbers (N,) of the particles that are chosen, from normalised weights (N,) and one uniform number."""
    ### BEGIN SOLUTION
    points = (np.arange(len(weights)) + u) / len(weights)
    edges = np.cumsum(weights)
    return np.searchsorted(edges / edges[-1], points, side="right")
    ### END SOLUTION


# %% check="systematic"
assert list(systematic(np.array([0.5, 0.5]), 0.3)) == [0, 1], "each of two equal particles is chosen once"

# %% hidden="reference"
from scipy.special import logsumexp
from scipy.stats import norm


def grid(case, num_points=900):
    """Exact log likelihood and filtered means (T,) by the forward recursion on a fine grid of states."""
    phi, sigma, beta, x = case["phi"], case["sigma"], case["beta"], case["x"]
    spread = sigma / np.sqrt(1 - phi**2)
    z = np.linspace(-7 * spread, 7 * spread, num_points)
    moves = norm.pdf(z[None], phi * z[:, None], sigma)
    moves /= moves.sum(1, keepdims=True)
    predicted, log_likelihood, means = norm.pdf(z, 0, spread), 0.0, []
    predicted /= predicted.sum()
    for x_t in x:
        joint = predicted * norm.pdf(x_t, 0, beta * np.exp(z / 2))
        log_likelihood += np.log(joint.sum())
        means.append((joint * z).sum() / joint.sum())
        predicted = (joint / joint.sum()) @ moves
    return log_likelihood, np.array(means)


def noises(case, num_particles=4000, num_steps=50, seed=3):
    """Normal and uniform numbers."""
    rng = np.random.default_rng([case["seed"], seed])
    return rng.normal(size=(num_steps, num_particles)), rng.uniform(size=num_steps)


def run(call, case, num_steps=50, num_particles=4000, threshold=0.5, seed=3):
    """What the student's filter returns."""
    normals, uniforms = noises(case, num_particles, num_steps, seed)
    parameters = case["phi"], case["sigma"], case["beta"]
    return call("bootstrap_filter", case["x"][:num_steps], *parameters, normals, uniforms, threshold, returns=3)


def paths(case, normals):
    """States (T, N) of the prior that these normal numbers make."""
    z = [normals[0] * case["sigma"] / np.sqrt(1 - case["phi"] ** 2)]
    for e in normals[1:]:
        z.append(case["phi"] * z[-1] + case["sigma"] * e)
    return np.array(z)


def log_densities(case, z, num_steps):
    """log p(x_t | z_t) (T, N)."""
    return norm.logpdf(case["x"][:num_steps, None], 0, case["beta"] * np.exp(z / 2))


# %% test="systematic" points="6" says="particle i must be chosen N w_i times, rounded down or up"
rng = np.random.default_rng(instance["seed"])
for _ in range(5):
    weights = rng.dirichlet(np.full(20, 0.5))
    chosen = np.bincount(numbers(call("systematic", weights, rng.uniform())).astype(int), minlength=20)
    assert chosen.shape == (20,) and chosen.sum() == 20, "expected 20 numbers of particles"
    assert (np.abs(chosen - 20 * weights) < 1).all(), "a particle was chosen too often or too rarely"

# %% test="systematic" points="6" says="the mean number of choices over all u is not N w_i: the points are (n + u) / N"
weights = np.random.default_rng(instance["seed"]).dirichlet(np.ones(5))
grid_of_u = (np.arange(200) + 0.5) / 200
chosen = [np.bincount(numbers(call("systematic", weights, u)).astype(int), minlength=5) for u in grid_of_u]
check_close(np.mean(chosen, axis=0), 5 * weights, atol=0.02, what="mean number of choices")

# %% test="systematic" points="4" says="particles without weight are never chosen, and weights may sum to slightly less than one"
weights = np.array([0.0, 0.3, 0.0, 0.7, 0.0])
for u in (0.0, 0.5, 0.999999):
    assert set(numbers(call("systematic", weights, u)).astype(int)) == {1, 3}, "expected particles 1 and 3 alone"
chosen = numbers(call("systematic", np.full(3, (1 - 1e-9) / 3), 1 - 1e-10))
check_close(chosen, [0, 1, 2], what="choices")

# %% [markdown]
# ## 4. A weight for any proposal
#
# A particle moves by a proposal $q(z_t \mid z_{t-1}, x_t) = N(m, s^2)$ instead of the transition. Its weight is
# multiplied by the ratio of the joint density $p(x_t \mid z_t)\, p(z_t \mid z_{t-1})$ to the proposal density.


# %% part="log-weight"
def log_weight(z, z_old, x, phi, sigma, beta, m, s):
    """The logarithm (N,) of that ratio, for states z and z_old (N,), an observation x, and m (N,) and s, a number."""

    def log_normal(value, mean, scale):
        return -0.5 * ((value - mean) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)

    ### BEGIN SOLUTION
    log_emission = log_normal(x, 0.0, beta * np.exp(z / 2))
    return log_emission + log_normal(z, phi * z_old, sigma) - log_normal(z, m, s)
    ### END SOLUTION


# %% check="log-weight"
z_old = np.array([0.1, -0.4])
same = log_weight(z_old, z_old, 0.3, 0.9, 0.5, 1.0, 0.9 * z_old, 0.5)
check_close(
    same, -0.5 * 0.09 / np.exp(z_old) - z_old / 2 - 0.5 * np.log(2 * np.pi), what="weight of the bootstrap filter"
)

# %% test="log-weight" points="4" says="with the transition as the proposal the weight is p(x | z)"
z_old, z = np.array([0.2, -1.0, 0.7]), np.array([0.0, -0.5, 1.1])
parameters = instance["phi"], instance["sigma"], instance["beta"]
got = call("log_weight", z, z_old, 0.8, *parameters, instance["phi"] * z_old, instance["sigma"])
check_close(got, norm.logpdf(0.8, 0, instance["beta"] * np.exp(z / 2)))

# %% test="log-weight" points="8" says="the weight is wrong for another proposal: p(x | z) p(z | z_old) / q(z)"
z_old, z, m = np.array([0.2, -1.0, 0.7]), np.array([0.0, -0.5, 1.1]), np.array([0.1, -0.3, 0.9])
parameters = instance["phi"], instance["sigma"], instance["beta"]
expected = norm.logpdf(0.8, 0, instance["beta"] * np.exp(z / 2)) - norm.logpdf(z, m, 0.7)
expected += norm.logpdf(z, instance["phi"] * z_old, instance["sigma"])
check_close(call("log_weight", z, z_old, 0.8, *parameters, m, 0.7), expected)

# %% [markdown]
# ## 5. The bootstrap filter
#
# Particle $n$ moves by `normals[t, n]`; its weight is multiplied by $p(x_t \mid z_t)$. At each step the log likelihood
# grows by the logarithm of the weighted mean of the new factors, where the old weights are normalised. Then, if the
# effective sample size is below `threshold` times $N$, resample with `uniforms[t]`. After that all weights are equal.
# Filtered means and effective sample sizes are those before resampling.


# %% part="bootstrap-filter"
def bootstrap_filter(x, phi, sigma, beta, normals, uniforms, threshold):
    """The estimate of log p(x_{1:T}), filtered means (T,), and effective sample sizes (T,)."""
    ### BEGIN SOLUTION
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
            z, log_w = z[systematic(weights, uniforms[t])], np.zeros(num_particles)
    return log_likelihood, means, sizes
    ### END SOLUTION


# %% check="bootstrap-filter"
log_likelihood, means, sizes = bootstrap_filter(x, *model, normals, uniforms, 0.5)
assert (sizes > 1).all() and (sizes <= 4000).all(), "the effective sample size is between 1 and N"

# %% test="bootstrap-filter" points="4" says="one step: the log of the mean of p(x | z), z from the first law"
value_, means, _ = run(call, instance, num_steps=1)
z = paths(instance, noises(instance, num_steps=1)[0])
logs = log_densities(instance, z, 1)[0]
check_close(value_, logsumexp(logs) - np.log(4000), what="log likelihood")
check_close(means, [np.average(z[0], weights=np.exp(logs))], what="filtered mean")

# %% test="bootstrap-filter" points="6" says="without resampling (threshold 0) it is importance sampling from the prior"
value_, means, _ = run(call, instance, num_steps=10, threshold=0.0)
z = paths(instance, noises(instance, num_steps=10)[0])
logs = np.cumsum(log_densities(instance, z, 10), axis=0)
check_close(value_, logsumexp(logs[-1]) - np.log(4000), what="log likelihood")
weights = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
check_close(means, (weights * z).sum(1), what="filtered means")

# %% test="bootstrap-filter" points="4" says="with resampling the log likelihood is far from the exact value on a grid"
for threshold in (0.5, 1.0):
    check_close(run(call, instance, threshold=threshold)[0], grid(instance)[0], rtol=0.0, atol=0.5)

# %% test="bootstrap-filter" points="4" says="with resampling the filtered means are far from the exact ones on a grid"
for threshold in (0.5, 1.0):
    check_close(run(call, instance, threshold=threshold)[1], grid(instance)[1], rtol=0.0, atol=0.2)

# %% test="bootstrap-filter" points="6" says="two steps with resampling between them are wrong: afterwards all weights are equal"
value_, means, _ = run(call, instance, num_steps=2, threshold=1.0)
normals, uniforms = noises(instance, num_steps=2)
z = paths(instance, normals)
first = log_densities(instance, z, 1)[0]
weights = np.exp(first - logsumexp(first))
chosen = z[0][np.searchsorted(np.cumsum(weights) / weights.sum(), (np.arange(4000) + uniforms[0]) / 4000, side="right")]
z = instance["phi"] * chosen + instance["sigma"] * normals[1]
second = norm.logpdf(instance["x"][1], 0, instance["beta"] * np.exp(z / 2))
check_close(value_, logsumexp(first) + logsumexp(second) - 2 * np.log(4000), what="log likelihood")
check_close(numbers(means)[1], np.average(z, weights=np.exp(second)), what="filtered mean")

# %% [markdown]
# ## 6. Your numbers
#
# With your `normals` and `uniforms` and threshold 0.5: the estimate of the log likelihood, the filtered mean of the last
# step, and the smallest effective sample size.

# %% part="numbers"
### BEGIN SOLUTION
log_likelihood, means, sizes = bootstrap_filter(x, *model, normals, uniforms, 0.5)
answers = {"log_likelihood": log_likelihood, "last_mean": means[-1], "smallest_size": sizes.min()}
### END SOLUTION

# %% check="numbers"
assert set(answers) == {"log_likelihood", "last_mean", "smallest_size"}, "these are the names of the three answers"

# %% test="numbers" points="3" says="log_likelihood is not that of your instance"
check_close(value("answers")["log_likelihood"], grid(instance)[0], rtol=0.0, atol=0.5, what="log_likelihood")

# %% test="numbers" points="3" says="last_mean is not that of your instance"
check_close(value("answers")["last_mean"], grid(instance)[1][-1], rtol=0.0, atol=0.15, what="last_mean")

# %% test="numbers" points="2" says="smallest_size cannot be the smallest effective sample size of your 4000 particles"
assert 1 <= float(value("answers")["smallest_size"]) < 2000, "expected a number from 1 to 2000"

# %% [markdown] question="jensen" points="6"
# **Question 1.** Over many seeds, the mean of your estimates of $\log p(x)$ with 50 particles lies below the exact value,
# and the mean of $\hat p(x)$ does not. A colleague calls the filter biased. Which hypothesis about the filter does this
# control test, is it broken, and what in the chain from $\hat p$ to its logarithm explains the gap?

# %% [markdown] rubric="jensen"
# - 2 points: $E[\hat p(x)] = p(x)$: the estimate of the likelihood itself is unbiased, and the control agrees with that.
# - 2 points: the logarithm is concave: by Jensen's inequality $E[\log \hat p] \le \log p$.
# - 2 points: the gap is about half the relative variance of $\hat p$, so it falls like $1/N$.

# %% [markdown] question="not-reset" points="6"
# **Question 2.** A control: somebody resamples and keeps the weights as they were. Which hypothesis about the particles
# after resampling does this break, what happens to the filtered means on long data, and why does the test with
# `threshold=0` not find it?

# %% [markdown] rubric="not-reset"
# - 2 points: after resampling the particles represent the law with equal weights; old weights would count twice.
# - 2 points: likely particles are counted too much at each step: the filter is too sure, and the error adds up.
# - 2 points: with threshold 0 nothing is resampled, so the wrong line is never run.
