# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Particle filters from scratch, and as a network
#
# **The idea.** Where no belief has a formula, carry many guesses of the state, weigh each by how well it foresaw the
# observation, and let good guesses multiply. The average weight estimates the likelihood without bias. Fix the random
# numbers, and the same filter is a recurrent network.
#
# - **Level:** intermediate. **Minutes:** 75, with the exercises 130.
# - **You need:** importance sampling is explained; lesson 4 for the last part. The model is that of lesson 6's last part.
# - **Afterwards you can:** write a bootstrap filter, say why it resamples, recognise a wrong weight, and choose the number
#   of particles.

# %% tags=["parameters"] short={"NUM_RUNS": 60, "SIZES": [25, 100, 400], "COUNTS": [1, 10, 100]}
NUM_RUNS = 400  # independent filters for means and errors
SIZES = [25, 100, 400, 1600]  # numbers of particles in the test of the rate
COUNTS = [1, 3, 10, 30, 100, 300]  # particles of the network in the last part

# %%
import matplotlib.pyplot as plt
import torch
from torch.distributions import Categorical, Normal

import pgm_rnn as pr
from pgm_rnn.inference import forward_backward, smc
from pgm_rnn.models import HMM, NoisyRNN, ParticleFilterRNN

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## A model without formulas
#
# A network with one noisy hidden state that is seen only where it is positive:
#
# $$z_t = \tanh(1.6\, z_{t-1}) + w_t, \quad w_t \sim N(0, 0.2), \qquad x_t = \max(z_t, 0) + v_t, \quad v_t \sim N(0, 0.05).$$
#
# In lesson 6 the extended Kalman filter went blind here. In one dimension a fine grid gives the truth to compare with:

# %%
one = torch.eye(1)
model = NoisyRNN(torch.zeros(1), 0.5 * one, 1.6 * one, 0.2 * one, one, 0.05 * one, output="relu")
data = model.sample(num_sequences=1, num_steps=40, seed=1)
x = data.x[0, :, 0]
START, MOVE, SEE = 0.5**0.5, 0.2**0.5, 0.05**0.5  # standard deviations


def exact_filter(x):
    """log p(x) and E(z_t | x_1..x_t) by sums over 801 values of z."""
    z = torch.linspace(-4, 4, 801)
    width = z[1] - z[0]
    moves = Normal(torch.tanh(1.6 * z)[:, None], MOVE).log_prob(z).exp() * width
    belief, log_p, means = Normal(0.0, START).log_prob(z).exp(), 0.0, []
    for x_t in x:
        joint = belief * Normal(z.relu(), SEE).log_prob(x_t).exp()
        total = joint.sum() * width
        log_p = log_p + total.log()
        means.append((joint * z).sum() * width / total)
        belief = joint / total @ moves
    return log_p, torch.stack(means)


exact, exact_means = exact_filter(x)
print(f"exact log p(x) = {exact:.3f}")

# %% [markdown]
# ## Weighted guesses
#
# Draw $N$ paths from some proposal $q(z_t \mid z_{t-1}, x_t)$ and weigh each by what it should have been drawn from. The
# weight of a path is a product, one factor per step:
#
# $$w_t^n = \frac{p(z_t^n \mid z_{t-1}^n)\; p(x_t \mid z_t^n)}{q(z_t^n \mid z_{t-1}^n, x_t)}, \qquad
# \frac1N \sum_n \prod_t w_t^n \approx p(x_{1:T}).$$
#
# The **bootstrap** proposal is the transition itself. Then the weight is just $p(x_t \mid z_t^n)$: how well the guess
# foresaw the observation.
#
# **What breaks.** Products of many factors are very uneven. The effective sample size $1 / \sum_n W_n^2$, with normalised
# weights $W_n$, says how many guesses still count:


# %%
def log_mean_exp(values):
    return values.logsumexp(-1) - torch.tensor(float(values.shape[-1])).log()


def particle_filter(x, num_particles, runs=1, resample=True):
    """Bootstrap filters side by side: log of the estimates of p(x) (runs,), means and ESS (T, runs)."""
    z = START * torch.randn(runs, num_particles)
    log_w, log_p = torch.zeros(runs, num_particles), torch.zeros(runs)
    means, sizes = [], []
    for t, x_t in enumerate(x):
        if t > 0:
            if resample:
                ancestors = Categorical(logits=log_w).sample((num_particles,)).T  # (runs, N)
                z, log_w = z.gather(-1, ancestors), torch.zeros_like(log_w)
            z = torch.tanh(1.6 * z) + MOVE * torch.randn_like(z)
        before = log_mean_exp(log_w)
        log_w = log_w + Normal(z.relu(), SEE).log_prob(x_t)
        log_p = log_p + log_mean_exp(log_w) - before  # estimate of log p(x_t | the past)
        W = log_w.softmax(-1)
        means.append((W * z).sum(-1))
        sizes.append(1 / (W**2).sum(-1))
    return log_p, torch.stack(means), torch.stack(sizes)


without, _, ess_without = particle_filter(x, 1000, resample=False)
print(f"without resampling: log p(x) {without[0]:.2f} (exact {exact:.2f}),", end=" ")
print(f"{ess_without[-1, 0]:.1f} of 1000 guesses count at the end")
assert ess_without[-1, 0] < 50

# %% [markdown]
# ## Survival of the fit
#
# **Resampling** cuts the product: after each step draw $N$ guesses with replacement, each with the probability of its
# weight, and set the weights to one. Bad guesses die out, good ones have several children. The estimate becomes a product
# of averages instead of an average of products:
#
# $$\hat p(x_{1:T}) = \prod_t \frac1N \sum_n w_t^n .$$

# %%
with_resampling, means, ess = particle_filter(x, 1000)
found = smc.filter(model, data.x, num_particles=1000, keep="all", seed=0)
print(f"exact {exact:.2f}, from scratch {with_resampling[0]:.2f}, engine {found.log_marginal_likelihood[0]:.2f}")
assert abs(with_resampling[0] - exact) < 1.5
assert abs(found.log_marginal_likelihood[0] - exact) < 1.5
assert (means[:, 0] - exact_means).abs().mean() < 0.1
assert ess.min() > ess_without[-1, 0]

# %% alt="Effective sample size over the steps on a logarithmic axis: without resampling it falls towards one, with resampling it stays in the hundreds"
figure, axes = plt.subplots(figsize=(7, 3))
axes.semilogy(ess[:, 0], label="with resampling")
axes.semilogy(ess_without[:, 0], "--", label="without")
axes.axhline(1000, color="black", linewidth=0.6)
axes.set_xlabel("step")
axes.set_ylabel("effective sample size of 1000")
axes.legend()
plt.show()

# %% alt="The engine's particles over time as dots, larger where their weight is larger, with lines back to the ancestors of the last ones; below, the effective sample size"
few = smc.filter(model, data.x[:, :20], num_particles=25, keep="all", seed=0)
pr.plot.particles(few)
plt.show()

# %% [markdown]
# The lines lead from the last guesses back to their ancestors. They merge: early on, all come from one. Filtered means
# do not suffer from it, smoothed ones would.
#
# ## Unbiased, and how fast
#
# $\hat p(x)$ is right *on average* for every $N$, even for ten guesses. Its logarithm is too low on average, by Jensen's
# inequality. And the error falls like $N^{-1/2}$:

# %%
errors, biases = [], []
for size in SIZES:
    log_p, means, _ = particle_filter(x[:10], size, runs=NUM_RUNS)
    short, short_means = exact_filter(x[:10])
    ratio = (log_p - short).exp()
    error = ratio.std() / NUM_RUNS**0.5
    errors.append((means - short_means[:, None]).pow(2).mean().sqrt())
    biases.append((log_p - short).mean())
    print(f"N = {size:4}: p-hat / p {ratio.mean():.3f} ± {error:.3f},", end=" ")
    print(f"log p-hat - log p {biases[-1]:+.3f}, error of means {errors[-1]:.4f}")
    assert abs(ratio.mean() - 1) < 5 * error
slope = (errors[-1] / errors[0]).log() / torch.tensor(SIZES[-1] / SIZES[0]).log()
print(f"slope of the error in log N: {slope:.2f}")
assert biases[0] < biases[-1]
assert -0.7 < slope < -0.3

# %% alt="Error of the filtered means against the number of particles on logarithmic axes, beside a line of slope minus one half"
figure, axes = plt.subplots(figsize=(5, 3))
axes.loglog(SIZES, errors, "o-", label="root mean square error")
line = [float(errors[0]) * (SIZES[0] / size) ** 0.5 for size in SIZES]
axes.loglog(SIZES, line, "k:", label="slope -1/2")
axes.set_xlabel("particles N")
axes.set_ylabel("error of the mean")
axes.legend()
plt.show()

# %% [markdown]
# ## A weight that is misprinted
#
# Choe, Shin and Spencer print the weight $W_t = P(z_t \mid x_t, z_{t-1}) / q(z_t \mid z_{t-1})$. It looks right: a target
# over a proposal. But its numerator is normalised over $z_t$, so it forgets how well the *past* of a guess foresaw $x_t$.
#
# The smallest example: two states that never change, $p(x = 1 \mid z) = (0.9, 0.1)$, and we see $x = (1, 1)$.


# %%
def static_filter(printed, num_particles=20_000):
    """Share of the first state after two ones, with the right or the printed weight."""
    chance = torch.tensor([0.9, 0.1])
    z = torch.randint(2, (num_particles,))
    z = z[Categorical(chance[z]).sample((num_particles,))]  # weigh and resample at step 1
    if printed:  # P(z_2 | x_2, z_1) = 1 for z_2 = z_1, and so is q
        weights = torch.ones(num_particles)
    else:
        weights = chance[z]
    return float((weights * (z == 0)).sum() / weights.sum())


right, printed = static_filter(False), static_filter(True)
truth = 0.9**2 / (0.9**2 + 0.1**2)
print(f"exact {truth:.3f}, right weight {right:.3f}, printed weight {printed:.3f}")
assert abs(right - truth) < 0.01
assert abs(printed - truth) > 0.05  # more particles do not help

# %% [markdown]
# ## The same filter as a network
#
# A draw is a function of uniforms: $z = F^{-1}(u)$. Fix all uniforms in advance, and the cloud of particles at one step is
# a *function* of the cloud before and of $x_t$. That is a recurrent network whose hidden units are the particles. We take
# an HMM with two states, so that the forward algorithm gives the truth:

# %%
hmm = HMM.random(num_states=2, num_symbols=3, seed=3).requires_grad_(False)
words = torch.cartesian_prod(*[torch.arange(3)] * 6)
exact = hmm.log_marginal_likelihood(words)
network = ParticleFilterRNN(hmm, num_particles=50, seed=0)
print(f"hidden units: {network.initial_memory.numel()} (particles, their weights, a step counter)")
once, again = network.log_prob(words), network.log_prob(words)
print(f"two runs differ by {(once - again).abs().max():.1f}; sum over all sequences {once.exp().sum():.12f}")
assert torch.equal(once, again)  # nothing is random any more
assert torch.allclose(once.exp().sum(), torch.tensor(1.0))  # a law of sequences, as any network's

# %% [markdown]
# It is a law of its own, not the HMM's. Over seeds, however, its likelihood is right on average, and with more particles
# each single network comes closer. How many particles does it take to name the state as the forward algorithm does? This
# is fig. 7 of the paper:

# %%
weights = exact.exp()
belief = forward_backward.filter(hmm, words).filtered_probs  # (729, 6, 2)


def indicators(z, h):
    return torch.nn.functional.one_hot(z, 2).double()


disagreement = []
for count in COUNTS:
    wrong = []
    for seed in range(10):
        cloud = smc.filter(
            hmm, words, num_particles=count, functions={"states": indicators},
            degenerate="-inf", seed=seed,
        )  # fmt: skip
        differs = cloud.means["states"].argmax(-1) != belief.argmax(-1)
        wrong.append((weights[:, None] * differs).sum() / 6)
    disagreement.append(float(torch.stack(wrong).mean()))
    print(f"{count:4} particles disagree with the forward algorithm in {disagreement[-1]:.1%} of the steps")
assert disagreement[0] > 5 * disagreement[-1]

# %% alt="Share of the steps at which the particle filter names another state than the forward algorithm, against the number of particles on logarithmic axes: it falls"
figure, axes = plt.subplots(figsize=(5, 3))
axes.loglog(COUNTS, disagreement, "o-", label="particle filter")
axes.set_xlabel("particles")
axes.set_ylabel("disagreement with the\nforward algorithm")
axes.legend()
plt.show()

# %% [markdown]
# Compare with lesson 4: a single trained unit, on the same HMM, disagreed in one or two of a hundred steps. A unit
# carries a real number, a particle one bit.
#
# ## Takeaways
#
# - Propose, weigh, resample. The weight is target over proposal, the new observation included.
# - Without resampling all weight goes to one guess. With it, early ancestors are shared, and the present is fine.
# - The likelihood estimate is unbiased for every N, its logarithm is biased downwards, errors fall like $N^{-1/2}$.
# - With fixed uniforms, fresh at each step, a particle filter is a recurrent network.
#
# ## Exercises
#
# ### Exercise 1: systematic resampling
#
# Take one uniform $u$, and pick particle $n$ for each point $(u + i) / N$, $i = 0, \dots, N - 1$, that falls into its
# part of the cumulative weights. Compare with `resampling.ancestors(log_weights, "systematic", uniforms)`, and compare
# the variance of the number of children with that of multinomial resampling.
#
# <details>
# <summary>Solution</summary>
#
# Each particle gets $\lfloor N W_n \rfloor$ or one more child, so the variance is at most 1/4.
#
# ```python
# from pgm_rnn.inference import resampling
#
# log_w = torch.randn(50)
# W = log_w.softmax(0)
#
#
# def systematic(u):
#     points = (u + torch.arange(50)) / 50
#     return torch.searchsorted(W.cumsum(0), points, right=True).clamp(max=49)
#
#
# u = torch.rand(1, 1)
# assert torch.equal(systematic(u[0, 0]), resampling.ancestors(log_w[:, None], "systematic", u)[:, 0])
# children = {
#     "systematic": torch.stack([systematic(torch.rand(())).bincount(minlength=50) for _ in range(300)]),
#     "multinomial": torch.stack([Categorical(W).sample((50,)).bincount(minlength=50) for _ in range(300)]),
# }
# spread = {name: counts.double().var(0).mean() for name, counts in children.items()}
# assert torch.allclose(children["systematic"].double().mean(0), 50 * W, atol=0.2)
# assert spread["systematic"] < spread["multinomial"] / 2
# ```
#
# </details>
#
# ### Exercise 2: look before you leap
#
# For $z_t = 0.9 z_{t-1} + w_t$, $x_t = z_t + v_t$ with a precise sensor, the best proposal is $p(z_t \mid z_{t-1}, x_t)$,
# a normal law. Derive it and its weight $p(x_t \mid z_{t-1})$, give it to `smc.filter(..., proposal=...)` as a function of
# (z, h, features), and compare the effective sample sizes.
#
# <details>
# <summary>Solution</summary>
#
# Precisions add: the variance is $v = (1/q + 1/r)^{-1}$, the mean $v\, (0.9 z_{t-1} / q + x_t / r)$. Features are what
# the model's `encode` returns; here we close over $x$ and a step counter instead.
#
# ```python
# from pgm_rnn.inference import kalman
# from pgm_rnn.models import LinearGaussianSSM
#
# q, r = 1.0, 0.01
# line = LinearGaussianSSM(torch.zeros(1), one, 0.9 * one, q * one, one, r * one)
# seen = line.sample(num_sequences=1, num_steps=30, seed=0).x
# v, steps = 1 / (1 / q + 1 / r), iter(range(30))
#
#
# def best_proposal(z, h, features):
#     t = next(steps)
#     ahead = torch.zeros(200, 1, 1) if z is None else 0.9 * z
#     law = Normal(v * (ahead / q + seen[:, t] / r), torch.tensor(v**0.5))
#     return torch.distributions.Independent(law, 1)
#
#
# clever = smc.filter(line, seen, num_particles=200, proposal=best_proposal, seed=0)
# blind = smc.filter(line, seen, num_particles=200, proposal="bootstrap", seed=0)
# print(f"mean effective sample size {clever.ess.mean():.0f} against {blind.ess.mean():.0f} of 200")
# assert clever.ess.mean() > 2 * blind.ess.mean()
# truth = kalman.log_marginal_likelihood(line, seen)[0]
# assert abs(clever.log_marginal_likelihood[0] - truth) < abs(blind.log_marginal_likelihood[0] - truth) + 0.5
# ```
#
# </details>
#
# ### Exercise 3: uniforms must be new
#
# The paper writes the network as $q^*(H_{t-1}, h_0)$, with one seed $h_0$ for all steps. Read to the letter, each step
# meets the same uniforms. Take one particle, two steps, states that are fair coins thrown anew, and $x_t = 1$ if and only
# if $z_t = 1$. What is the mean of $\hat p(1, 1)$ over seeds, with new and with repeated uniforms?
#
# <details>
# <summary>Solution</summary>
#
# $p(1, 1) = 1/4$. With the same uniform twice both coins are equal, and the mean is $1/2$.
#
# ```python
# first, second = torch.rand(2, 20_000) < 0.5
# fresh = (first & second).double().mean()
# repeated = (first & first).double().mean()
# print(f"fresh {fresh:.3f}, repeated {repeated:.3f}")
# assert abs(fresh - 0.25) < 0.02
# assert abs(repeated - 0.5) < 0.02
# ```
#
# </details>
#
# ## Further reading
#
# - A. Kong, J. S. Liu, W. H. Wong (1994). *Sequential imputations and Bayesian missing data problems.* The effective
#   sample size.
# - P. Del Moral (2004). *Feynman-Kac Formulae.* Why the estimate of p(x) is unbiased.
# - R. Douc, O. Cappé, É. Moulines (2005). *Comparison of resampling schemes for particle filtering.*
# - Y. J. Choe, J. Shin, N. Spencer (2017). *Probabilistic Interpretations of Recurrent Neural Networks.* Sections 2.3, 3.3
#   and fig. 7; [the errata](../docs/errata.md) have the weight and the seed.
