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
# # 13. Bayesian hidden Markov models
#
# **The idea.** Parameters get a prior, hidden states are summed out, and what is left is a density of a few numbers
# that a sampler can walk through. Before anything is read off its draws, two questions: do the chains agree, and does
# the model make data like ours? States have no names, and that alone can spoil the first answer.
#
# - **Level:** intermediate. **Minutes:** 75, with the exercises 130.
# - **You need:** lesson 3. Bayes' rule for parameters. ArviZ is explained as it is used.
# - **Afterwards you can:** recognise label switching and cure it, run NUTS and particle MCMC and check their draws, and
#   compare models by leave-one-out and posterior predictive checks.

# %% tags=["parameters"] short={"NUM_DRAWS": 15, "NUM_WARMUP": 12, "NUM_MOVES": 50, "NUM_STEPS": 800}
NUM_DRAWS = 60  # draws per chain of NUTS
NUM_WARMUP = 40  # draws before them, which adapt the sampler
NUM_MOVES = 150  # moves of particle MCMC, after as many for adaptation
NUM_STEPS = 3000  # steps of the Metropolis chains from scratch

# %%
import warnings

import arviz as az
import matplotlib.pyplot as plt
import pyro.distributions as dist
import torch

import pgm_rnn as pr
from pgm_rnn import WithPriors
from pgm_rnn.distributions import Ordered
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import mcmc, pmmh
from pgm_rnn.models import HMM

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The posterior of two numbers
#
# Twelve short series switch between two regimes with the means $\mu_1$ and $\mu_2$. For a start everything else is
# known: the standard deviation is one, and a regime lasts with probability 0.85. We ask for
#
# $$p(\mu \mid x) \propto p(\mu)\, p(x \mid \mu), \qquad p(x \mid \mu) = \sum_z p(x, z \mid \mu).$$
#
# The sum over the states is the forward algorithm. Two parameters are so few that we can evaluate the posterior on a
# grid, and have the exact answer beside everything that follows. From scratch, for all points of the grid at once:

# %%
A = torch.tensor([[0.85, 0.15], [0.15, 0.85]])
start = torch.tensor([0.5, 0.5])


def hmm_with(means):
    """The model with these means."""
    return HMM(start, A, Gaussian().table(loc=torch.as_tensor(means), scale=torch.ones(2)))


data = hmm_with([-1.0, 1.0]).sample(num_sequences=12, num_steps=20, seed=0)
x = data.x


def log_likelihood(means):
    """log p(x | mu) of all series for means (..., 2), by the forward algorithm."""
    densities = dist.Normal(means[..., None, None, :], 1.0).log_prob(x[..., None])  # (..., series, step, state)
    log_alpha = start.log() + densities[..., 0, :]
    for t in range(1, x.shape[1]):
        log_alpha = (log_alpha[..., :, None] + A.log()).logsumexp(-2) + densities[..., t, :]
    return log_alpha.logsumexp(-1).sum(-1)


def log_posterior(means):
    """Its logarithm up to a constant: independent priors N(0, 3^2)."""
    return dist.Normal(0.0, 3.0).log_prob(means).sum(-1) + log_likelihood(means)


by_package = hmm_with([-1.0, 1.0]).log_marginal_likelihood(data).sum().detach()
assert torch.allclose(log_likelihood(torch.tensor([-1.0, 1.0])), by_package)

axis = torch.linspace(-2, 2, 81)
grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)  # (81, 81, 2)
weight = log_posterior(grid).flatten().softmax(0).view(81, 81)
print(
    f"posterior means on the grid: mu_1 {(weight * grid[..., 0]).sum():+.4f}, mu_2 {(weight * grid[..., 1]).sum():+.4f}"
)

# %% [markdown]
# ## What breaks: states have no names
#
# The same number twice, near zero, where no regime has its mean! Look at the formula: exchange $\mu_1$ and $\mu_2$,
# call state 1 "state 2", and $p(x \mid \mu)$ is the same number. With $K$ states there are $K!$ such orders. The
# posterior has two equal modes, and its mean lies between them, where nothing is:

# %%
assert torch.allclose(weight, weight.T)
assert abs((weight * grid[..., 0]).sum() - (weight * grid[..., 1]).sum()) < 1e-9
ordered = weight * (grid[..., 0] < grid[..., 1])
ordered = ordered / ordered.sum()
exact_mean = (ordered[..., None] * grid).sum((0, 1))
exact_sd = ((ordered[..., None] * grid**2).sum((0, 1)) - exact_mean**2).sqrt()
print(f"with mu_1 < mu_2: {exact_mean[0]:+.3f} ± {exact_sd[0]:.3f} and {exact_mean[1]:+.3f} ± {exact_sd[1]:.3f}")

# %% [markdown]
# A sampler that finds one of the modes stays there. Another chain may find the other one, and then no average over both
# means anything. The **R-hat** statistic compares the spread between chains with the spread within them. It is near one
# if they agree. Here are two chains of random walk Metropolis, side by side, one started in each mode:


# %%
def metropolis(starts, num_steps, seed, step=0.25):
    """Chains (chain, num_steps, 2): propose nearby, accept with probability min(1, p(new | x) / p(old | x))."""
    torch.manual_seed(seed)
    at, visited = torch.tensor(starts), []
    now = log_posterior(at)
    for _ in range(num_steps):
        new = at + step * torch.randn_like(at)
        there = log_posterior(new)
        accepted = torch.rand(len(at)).log() < there - now
        at, now = torch.where(accepted[:, None], new, at), torch.where(accepted, there, now)
        visited.append(at)
    return torch.stack(visited, dim=1)


def r_hat(chains):
    """R-hat of one parameter's chains (chain, draw)."""
    return float(az.rhat(chains.numpy()))


chains = metropolis([[-1.0, 1.0], [1.0, -1.0]], NUM_STEPS, seed=1)
sorted_chains = chains.sort(-1).values
print(f"mean of mu_1 by chain: {chains[0, :, 0].mean():+.2f} and {chains[1, :, 0].mean():+.2f}")
print(f"R-hat of mu_1: {r_hat(chains[..., 0]):.2f}; after sorting each draw: {r_hat(sorted_chains[..., 0]):.3f}")
assert r_hat(chains[..., 0]) > 1.5
assert r_hat(sorted_chains[..., 0]) < 1.2

# %% [markdown]
# Both chains are right, each in its corner. Sorting afterwards helps in this case. It is better to say in the prior
# which order is meant. `Ordered(p, K)` is the law of $K$ draws from $p$ in increasing order. Its density is
# $K!\, p(\mu_1) \cdots p(\mu_K)$ where they increase and zero elsewhere, so no information is added.
#
# ## NUTS
#
# The No-U-Turn sampler follows the gradient of the log posterior, and takes long steps where a random walk stumbles.
# The gradient of $\log p(x \mid \mu)$ comes with the forward algorithm. The states have no Pyro sites at all. They are
# summed out.

# %%
program = WithPriors(hmm_with([0.0, 1.0]), {"loc": Ordered(dist.Normal(0.0, 3.0), 2)})
options = {"num_samples": NUM_DRAWS, "num_warmup": NUM_WARMUP, "num_chains": 2, "max_tree_depth": 4}
nuts = mcmc.run(program, data, **options, seed=0, progress=False)
draws = nuts.samples["loc"]  # (chain, draw, state)
error = draws.std((0, 1)) / nuts.effective_sample_sizes["loc"].sqrt()
for k in range(2):
    print(
        f"mu_{k + 1}: NUTS {draws[..., k].mean():+.3f} ± {error[k]:.3f} (Monte Carlo error), grid {exact_mean[k]:+.3f}"
    )
    print(f"      R-hat {r_hat(draws[..., k]):.3f}, {float(nuts.effective_sample_sizes['loc'][k]):.0f} effective draws")
assert ((draws.mean((0, 1)) - exact_mean).abs() < 6 * error + 0.05).all()
assert (draws[..., 0] < draws[..., 1]).all()

# %% alt="Contours of the exact posterior of the two means: two mirrored modes. The draws of NUTS lie in the upper left one, which has the order mu 1 below mu 2"
figure, axes = plt.subplots(figsize=(4.6, 4))
axes.contour(axis, axis, weight.T, levels=6, cmap="gray", linewidths=1)
axes.plot(
    draws[..., 0].flatten(), draws[..., 1].flatten(), ".", color="tab:orange", markersize=3, label="NUTS, ordered"
)
axes.plot([-2, 2], [-2, 2], ":", color="black", linewidth=1)
axes.annotate("mirrored", (0.9, -0.3), ha="center")
axes.set_xlabel(r"$\mu_1$")
axes.set_ylabel(r"$\mu_2$")
axes.legend(loc="lower left")
plt.show()

# %% [markdown]
# ## Particle MCMC: where the likelihood is only estimated
#
# For a model without an exact sum, a particle filter gives an unbiased estimate $\hat Z$ of $p(x \mid \mu)$ (lesson 7).
# Put it into Metropolis' rule in place of the likelihood. If the estimate of an *accepted* point is kept, and not made
# anew, the chain still has exactly $p(\mu \mid x)$ as its law, however few the particles (Andrieu, Doucet &
# Holenstein). Our HMM needs no particles, so we can watch it come true:

# %%
particle = pmmh.run(
    program, data, num_samples=NUM_MOVES, num_warmup=NUM_MOVES, num_particles=200, seed=0, progress=False
)
found = particle.posterior
moved = found.samples["loc"]
changes = particle.acceptance * NUM_MOVES  # a chain cannot have more independent draws than it made moves
effective = found.effective_sample_sizes["loc"].nan_to_num(1.0).clamp(1, max(1.0, changes))
error = exact_sd / effective.sqrt()
print(f"{particle.acceptance:.0%} of the moves accepted")
for k in range(2):
    print(f"mu_{k + 1}: PMMH {moved[..., k].mean():+.3f} ± {error[k]:.3f}, grid {exact_mean[k]:+.3f}")
assert ((moved.mean((0, 1)) - exact_mean).abs() < 6 * error).all()

# %% [markdown]
# It needs many more moves than NUTS for the same error: it has no gradient, and its chain stops where $\hat Z$ was too
# high by luck. Use it where nothing else works.
#
# ## All parameters, and a rival
#
# Now let the scales and the transition probabilities be unknown, too. `Dirichlet(4, 1)` expects a regime to last. The
# rival has one state: independent observations from one normal law.

# %%
two = WithPriors(
    hmm_with([-1.0, 1.0]),
    {
        "loc": Ordered(dist.Normal(0.0, 3.0), 2),
        "scale": dist.LogNormal(torch.zeros(2), 0.5),
        "transition_probs": dist.Dirichlet(torch.tensor([[4.0, 1.0], [1.0, 4.0]])),
    },
)
single = HMM(torch.ones(1), torch.ones(1, 1), Gaussian().table(loc=torch.zeros(1), scale=torch.ones(1)))
one = WithPriors(single, {"loc": dist.Normal(torch.zeros(1), 3.0), "scale": dist.LogNormal(torch.zeros(1), 0.5)})
programs = {"two states": two, "one state": one}
posteriors = {name: mcmc.run(each, data, **options, seed=1, progress=False) for name, each in programs.items()}
inference = {name: pr.to_arviz(found, model=programs[name], data=data) for name, found in posteriors.items()}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that so few draws have wide errors
    summary = az.summary(inference["two states"], var_names=["loc", "scale", "transition_probs"])
print(summary[["mean", "sd", "ess_bulk", "r_hat"]].to_string())
print(int(posteriors["two states"].divergences.sum()), "divergences")
assert (posteriors["two states"].samples["transition_probs"].sum(-1) - 1).abs().max() < 1e-9

# %% [markdown]
# Read this table from the right. **R-hat** above 1.01 says that the chains disagree; run longer, or look for a second
# mode. **ess_bulk** is the number of independent draws that these are worth; below a hundred per chain, means and
# intervals are rough. These runs are short, for a lesson. Only then look at mean and sd.
#
# ## Which model? Leave one out
#
# How well does a model foresee series $i$, if it has learnt from all others? Refitting twelve times is not needed. By
# Bayes' rule the draws that have seen all series can be weighed:
#
# $$p(x_i \mid x_{-i}) = \Big( E_{\theta \mid x} \frac{1}{p(x_i \mid \theta)} \Big)^{-1},
# \qquad \mathrm{elpd} = \sum_i \log p(x_i \mid x_{-i}).$$
#
# In two lines, and by `az.loo`, which smooths the largest weights (Pareto smoothed importance sampling) and so is
# better than ours:


# %%
def elpd_by_hand(data_of_model):
    """sum_i log p(x_i | all others), from log p(x_i | theta) of every draw."""
    values = torch.tensor(data_of_model.log_likelihood["x"].values).flatten(0, 1)  # (draws, series)
    return float(-((-values).logsumexp(0) - torch.tensor(float(len(values))).log()).sum())


def elpd_by_arviz(data_of_model):
    """The same by az.loo; the result's name depends on ArviZ's version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about single series with heavy weights
        found = az.loo(data_of_model)
    return float(getattr(found, "elpd_loo", None) or found.elpd)


for name, found in inference.items():
    print(f"{name:10} elpd by hand {elpd_by_hand(found):8.2f}, by ArviZ {elpd_by_arviz(found):8.2f}")
    assert abs(elpd_by_hand(found) - elpd_by_arviz(found)) < 4  # nats, for both are estimates
better = elpd_by_arviz(inference["two states"]) - elpd_by_arviz(inference["one state"])
print(f"two states are better by {better:.1f} nats")
assert better > 0

# %% [markdown]
# ## Does the model make such data?
#
# A better model may still be a bad one. **Posterior predictive check:** draw parameters from the posterior, draw new
# data from the model, and compare a number that matters with that of our data. Here, because regimes last: the
# correlation of neighbouring observations. The one-state model is the control. It cannot produce any, so it must fail:


# %%
def neighbours(x):
    """The correlation of x_t and x_{t+1} over all series (..., series, step)."""
    centred = x - x.mean((-2, -1), keepdim=True)
    return (centred[..., 1:] * centred[..., :-1]).mean((-2, -1)) / (centred**2).mean((-2, -1))


again = {}
for name, each in programs.items():
    new = pr.simulate(each, like=data, num_draws=NUM_DRAWS, posterior=posteriors[name], seed=0)
    again[name] = neighbours(new.x.view(NUM_DRAWS, *x.shape))
seen = float(neighbours(x))
for name, values in again.items():
    tail = float((values >= seen).double().mean())
    print(
        f"{name:10} new data {values.mean():+.2f} ± {values.std():.2f}, ours {seen:+.2f}; {tail:.0%} are at least that"
    )
assert (again["two states"] >= seen).double().mean() > 0.02
assert (again["one state"] >= seen).double().mean() < 0.02

# %% alt="Histograms of the correlation of neighbouring observations in data from the two models; a line at the observed value lies inside the one of two states and far outside the one of one state"
figure, axes = plt.subplots(figsize=(7, 2.8))
bins = torch.linspace(-0.25, 0.6, 35).numpy()
axes.hist(again["one state"].numpy(), bins, color="tab:gray", alpha=0.7, label="data from one state")
axes.hist(again["two states"].numpy(), bins, histtype="step", color="black", linewidth=2, label="data from two states")
axes.axvline(seen, linestyle="--", color="tab:orange", linewidth=2, label="our data")
axes.set_xlabel("correlation of neighbouring observations")
axes.set_ylabel("simulated data sets")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# ## Takeaways
#
# - Sum the states out and sample the parameters only. NUTS needs the gradient of $\log p(x \mid \theta)$, particle MCMC
#   only an unbiased estimate of $p(x \mid \theta)$.
# - A posterior over $K$ unnamed states has $K!$ equal modes. An ordered prior picks one, and adds no information.
# - R-hat and effective sample sizes come before means. R-hat shows label switching, if chains start in different
#   places.
# - Compare models by leave-one-out, and check each by data that it makes. The check needs a statistic on which a wrong
#   model fails.
#
# ## Exercises
#
# ### Exercise 1: Metropolis against the grid
#
# Estimate mean and standard deviation of $\mu_2$ from the two sorted chains of Metropolis, drop the first tenth, and
# give the Monte Carlo error of the mean from the effective sample size (`az.ess`). Does it agree with the grid? How
# many draws is one independent draw worth?
#
# <details>
# <summary>Solution</summary>
#
# The error is the standard deviation divided by the root of the effective sample size, not of the number of draws.
#
# ```python
# kept = sorted_chains[:, NUM_STEPS // 10 :, 1]
# effective = float(az.ess(kept.numpy()))
# error = float(kept.std()) / effective**0.5
# print(f"{kept.mean():.3f} ± {error:.3f}, grid {exact_mean[1]:.3f}; {kept.numel() / effective:.0f} draws for one")
# assert abs(kept.mean() - exact_mean[1]) < 5 * error
# assert error > float(kept.std()) / kept.numel() ** 0.5
# ```
#
# </details>
#
# ### Exercise 2: how many orders?
#
# Write down an HMM with three states and random parameters, and show by `log_marginal_likelihood` that all $3! = 6$
# orders of its states have the same likelihood. What must be permuted besides the means?
#
# <details>
# <summary>Solution</summary>
#
# Everything that carries a state's number: the initial probabilities, and rows *and* columns of the transition matrix.
# With the means alone (the control) the likelihood changes. In our two-state model $A$ and the start were symmetric, so
# that the means were enough.
#
# ```python
# import itertools
#
# torch.manual_seed(0)
# pi, P, mu = torch.rand(3).softmax(0), torch.randn(3, 3).softmax(1), torch.tensor([-1.0, 0.3, 1.2])
#
#
# def likelihood(pi, P, mu):
#     return HMM(pi, P, Gaussian().table(loc=mu, scale=torch.ones(3))).log_marginal_likelihood(data).sum().detach()
#
#
# orders = [torch.tensor(order) for order in itertools.permutations(range(3))]
# values = torch.stack([likelihood(pi[o], P[o][:, o], mu[o]) for o in orders])
# means_alone = torch.stack([likelihood(pi, P, mu[o]) for o in orders])
# assert torch.allclose(values, values[:1].expand(6))
# assert means_alone.max() - means_alone.min() > 1
# ```
#
# </details>
#
# ### Exercise 3: is `Ordered` a prior at all?
#
# Show on the grid that the posterior under `Ordered` is the unordered one, restricted to $\mu_1 < \mu_2$ and doubled.
# Use `Ordered(...).log_prob` and the normalising constants on the grid.
#
# <details>
# <summary>Solution</summary>
#
# $p(x)$ is the same under both priors, because the ordered density is $2\, p(\mu_1) p(\mu_2)$ on one half of the plane,
# and the likelihood is symmetric. Points on the diagonal belong to both halves; they carry next to nothing here.
#
# ```python
# law = Ordered(dist.Normal(0.0, 3.0), 2)
# with_order = (law.log_prob(grid) + log_likelihood(grid)).flatten()
# without = log_posterior(grid).flatten()
# same = (with_order.logsumexp(0) - without.logsumexp(0)).abs()
# print(f"log evidences differ by {same:.1e}")
# assert same < 1e-2
# half = with_order.softmax(0).view(81, 81)
# below = grid[..., 0] < grid[..., 1]
# assert torch.allclose(half[below] / weight[below], torch.tensor(2.0), rtol=1e-2)
# assert half[grid[..., 0] > grid[..., 1]].max() == 0
# ```
#
# </details>
#
# ## Further reading
#
# - S. Chib (1996). *Calculating posterior distributions and modal estimates in Markov mixture models.* Sampling states
#   and parameters by turns, the alternative to summing out.
# - M. Stephens (2000). *Dealing with label switching in mixture models.* What can be done when no order is natural.
# - C. Andrieu, A. Doucet, R. Holenstein (2010). *Particle Markov chain Monte Carlo methods.* Why an estimate is enough.
# - A. Vehtari, A. Gelman, J. Gabry (2017). *Practical Bayesian model evaluation using leave-one-out cross-validation
#   and WAIC.* What `az.loo` computes, and when to trust it.
# - A. Gelman, X.-L. Meng, H. Stern (1996). *Posterior predictive assessment of model fitness via realized
#   discrepancies.* The last check of this lesson.
