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
# # 8. Switching systems, and Rao-Blackwell
#
# **The idea.** A hidden switch chooses which linear system runs. Given the switch, a Kalman filter has the answer;
# without it, the law is a sum of $K^T$ Gaussians, too many to keep. So let particles guess the switch alone: what has a
# formula need not be guessed, and what is not guessed adds no noise.
#
# - **Level:** intermediate. **Minutes:** 75, with the exercises 130.
# - **You need:** the Kalman filter of lesson 6 and the particle filter of lesson 7.
# - **Afterwards you can:** write a Rao-Blackwellised particle filter, say by how much it is better and why, and tell when
#   it is not allowed.

# %% tags=["parameters"] short={"NUM_RUNS": 300, "NUM_STEPS": 50, "NUM_DRAWS": 20000, "SENSORS": [0.05, 1.0]}
NUM_RUNS = 1000  # independent filters for means and variances
NUM_STEPS = 90  # minutes of the long series
NUM_DRAWS = 200_000  # single weights in the test of the theorem
SENSORS = [0.05, 0.1, 0.2, 0.5, 1.0]  # standard deviations of the thermometer's error, degrees

# %%
import itertools

import matplotlib.pyplot as plt
import torch
from torch.distributions import Bernoulli, Categorical, Normal

from pgm_rnn.claims import CLAIMS, check
from pgm_rnn.inference import mixture_kalman, smc
from pgm_rnn.models import SwitchingLinearSSM

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## A room with a window
#
# The window is closed ($s_t = 0$) or open ($s_t = 1$), and nobody writes down when. The temperature $y_t$ goes to 21
# degrees slowly, or to 10 degrees quickly. A cheap thermometer shows $x_t$:
#
# $$P(s_t = 1 \mid s_{t-1} = 0) = 0.05, \quad P(s_t = 0 \mid s_{t-1} = 1) = 0.15,$$
#
# $$y_t = a_{s_t} y_{t-1} + b_{s_t} + w_t, \quad w_t \sim N(0, q_{s_t}), \qquad x_t = y_t + v_t, \quad v_t \sim N(0, r).$$

# %%
MOVES = torch.tensor([[0.95, 0.05], [0.15, 0.85]])
FIRST = torch.tensor([0.75, 0.25])
RATE = torch.tensor([0.95, 0.80])  # a
OFFSET = (1 - RATE) * torch.tensor([21.0, 10.0])  # b: where a y + b = y
NOISE = torch.tensor([0.1, 0.4]) ** 2  # q
SENSOR = torch.tensor(0.5) ** 2  # r
MEAN, VAR = torch.tensor(20.0), torch.tensor(1.0)  # of y_1


def room(sensor=SENSOR, **options):
    """The package's model; each parameter has one row per regime."""
    both = torch.ones(2, 1)
    return SwitchingLinearSSM(
        FIRST,
        MOVES,
        MEAN * both,
        VAR * both[..., None],
        RATE[:, None, None],
        NOISE[:, None, None],
        both[..., None],
        sensor * both[..., None],
        transition_offset=OFFSET[:, None],
        **options,
    ).requires_grad_(False)


model = room()
data = model.sample(num_sequences=1, num_steps=NUM_STEPS, seed=14)
minutes = torch.arange(1, NUM_STEPS + 1)
is_open, temperature = data.z[0, :, 0] == 1, data.z[0, :, 1]

# %% alt="Measured temperatures as dots around the true temperature, which falls while the window is open, shown as grey bands, and rises slowly when it is closed"
figure, axes = plt.subplots(figsize=(7, 3))
axes.fill_between(
    minutes, 0, 1, where=is_open, step="mid", color="0.85", transform=axes.get_xaxis_transform(), label="open"
)
axes.plot(minutes, temperature, color="black", linewidth=1.5, label="true temperature")
axes.plot(minutes, data.x[0, :, 0], ".", label="measured")
axes.set_xlabel("minute")
axes.set_ylabel("temperature, °C")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# ## Given the window, a Kalman filter
#
# Fix a path $s_{1:T}$. Then everything is linear and normal, with coefficients that depend on the step, and the filter
# of lesson 6 gives $p(x_{1:T} \mid s_{1:T})$. In one dimension it is a few lines. They take many paths at once:


# %%
def along(paths, x):
    """log p(x | path), and mean and variance of the last y, of every path (P, T) of regimes."""
    mean, var, log_p = MEAN.expand(len(paths)), VAR.expand(len(paths)), torch.zeros(len(paths))
    for t, x_t in enumerate(x):
        if t > 0:
            s = paths[:, t]
            mean, var = RATE[s] * mean + OFFSET[s], RATE[s] ** 2 * var + NOISE[s]
        S = var + SENSOR
        log_p = log_p + Normal(mean, S.sqrt()).log_prob(x_t)
        gain = var / S
        mean, var = mean + gain * (x_t - mean), (1 - gain) * var
    return log_p, mean, var


T = 10
x = data.x[0, :T, 0]
paths = torch.tensor(list(itertools.product([0, 1], repeat=T)))  # (1024, 10)
log_prior = FIRST[paths[:, 0]].log() + MOVES[paths[:, :-1], paths[:, 1:]].log().sum(1)
log_given, last_mean, last_var = along(paths, x)
by_package = mixture_kalman.RegimeModel(model).log_prob(x[:, None].expand(len(paths), T, 1), paths)
print(f"first path: from scratch {log_prior[0] + log_given[0]:.10f}, package {by_package[0]:.10f}")
assert torch.allclose(log_prior + log_given, by_package)

# %% [markdown]
# `RegimeModel` is the switching model with $y$ summed out: regimes are its states, and a Kalman filter is its memory. So
#
# $$p(x_{1:T}) = \sum_{s_{1:T}} p(s_{1:T})\, p(x_{1:T} \mid s_{1:T}),$$
#
# a mixture of $2^T$ normal laws (the claim `switching-mixture`). Ten minutes have 1024 components, an hour has $10^{18}$.
# For ten minutes we can afford the truth:

# %%
exact = (log_prior + log_given).logsumexp(0)
weights = (log_prior + log_given - exact).exp()
open_now = float(weights @ (paths[:, -1] == 1).double())
mean_now = float(weights @ last_mean)
print(f"exact log p(x) = {exact:.6f}, P(open | x) = {open_now:.4f}, E(y | x) = {mean_now:.3f} °C")

# %% [markdown]
# **What breaks: merging.** Can one normal law stand for the mixture? Ask for the temperature fifteen minutes ahead. The
# paths on which the window stays closed agree, and make a peak. On the others it is open for some of the time, and each
# leads somewhere else. We draw paths, and know the normal law that each leads to:

# %%
AHEAD = 15
ends = Categorical(weights).sample((4000,))
s, mean, var = paths[ends, -1], last_mean[ends], last_var[ends]
for _ in range(AHEAD):
    s = Categorical(MOVES[s]).sample()
    mean, var = RATE[s] * mean + OFFSET[s], RATE[s] ** 2 * var + NOISE[s]
grid = torch.linspace(8, 23, 200)
mixture = Normal(mean, var.sqrt()).log_prob(grid[:, None]).exp().mean(1)
merged = Normal(mean.mean(), (var.mean() + mean.var()).sqrt()).log_prob(grid).exp()
distance = 0.5 * (mixture - merged).abs().sum() * (grid[1] - grid[0])
print(f"there are temperatures to which the two laws give probabilities that differ by {distance:.2f}")
assert distance > 0.15

# %% alt="Density of the temperature fifteen minutes ahead: the mixture has a high narrow peak on the right and a wide plateau to its left, the merged normal law is one wide bell"
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(grid, mixture, label="mixture over paths")
axes.plot(grid, merged, "--", color="black", label="one normal law of\nthe same mean and variance")
axes.set_xlabel(f"temperature {AHEAD} minutes ahead, °C")
axes.set_ylabel("density")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# Filters that merge are fast and have no randomness: `mixture_kalman.approximate` has three of them, which keep one
# normal law per regime. `gpb2` is exact for two steps. Then there is an error, and no formula bounds it:

# %%
for num_steps in (1, 2, T):
    part = x[:num_steps]
    some = torch.tensor(list(itertools.product([0, 1], repeat=num_steps)))
    prior = FIRST[some[:, 0]].log() + MOVES[some[:, :-1], some[:, 1:]].log().sum(1)
    truth = (prior + along(some, part)[0]).logsumexp(0)
    found = {
        method: float(mixture_kalman.approximate(model, part[None, :, None], method=method).log_marginal_likelihood[0])
        for method in ("gpb1", "imm", "gpb2")
    }
    print(f"T = {num_steps:2}: exact {truth:9.5f}", *(f"{name} {value - truth:+.1e}" for name, value in found.items()))
    if num_steps <= 2:
        assert abs(found["gpb2"] - truth) < 1e-10
assert abs(found["gpb2"] - truth) > 1e-9

# %% [markdown]
# ## Particles for the switch alone
#
# Lesson 7's filter would guess $(s_t, y_t)$. The **Rao-Blackwellised** filter guesses $s_t$. Each particle carries the
# mean and the variance of its own Kalman filter, and its weight is what that filter foresaw of $x_t$:
#
# $$\text{plain: } w_t = p(x_t \mid y_t), \qquad\qquad
# \text{Rao-Blackwell: } v_t = p(x_t \mid s_{1:t}, x_{1:t-1}) = N(x_t;\; m_t,\; P_t + r).$$


# %%
def resampled(log_w, *parts):
    """Parts (runs, N) of particles that are drawn again by their weights."""
    index = Categorical(logits=log_w).sample((log_w.shape[1],)).T
    return [part.gather(1, index) for part in parts]


def plain_filter(x, num_particles, runs):
    """log of the estimates of p(x), (runs,), from particles (s, y)."""
    shape = (runs, num_particles)
    s, y = Bernoulli(FIRST[1]).sample(shape).long(), MEAN + VAR.sqrt() * torch.randn(shape)
    log_p, log_w = torch.zeros(runs), torch.zeros(shape)
    for t, x_t in enumerate(x):
        if t > 0:
            s, y = resampled(log_w, s, y)
            s = Bernoulli(MOVES[s, 1]).sample().long()
            y = RATE[s] * y + OFFSET[s] + NOISE[s].sqrt() * torch.randn(shape)
        log_w = Normal(y, SENSOR.sqrt()).log_prob(x_t)
        log_p = log_p + log_w.logsumexp(1) - torch.tensor(float(num_particles)).log()
    return log_p


def rao_blackwell_filter(x, num_particles, runs):
    """The same from particles s with a mean and a variance each."""
    shape = (runs, num_particles)
    s, mean, var = Bernoulli(FIRST[1]).sample(shape).long(), MEAN.expand(shape), VAR.expand(shape)
    log_p, log_w = torch.zeros(runs), torch.zeros(shape)
    for t, x_t in enumerate(x):
        if t > 0:
            s, mean, var = resampled(log_w, s, mean, var)
            s = Bernoulli(MOVES[s, 1]).sample().long()
            mean, var = RATE[s] * mean + OFFSET[s], RATE[s] ** 2 * var + NOISE[s]
        S = var + SENSOR
        log_w = Normal(mean, S.sqrt()).log_prob(x_t)
        log_p = log_p + log_w.logsumexp(1) - torch.tensor(float(num_particles)).log()
        gain = var / S
        mean, var = mean + gain * (x_t - mean), (1 - gain) * var
    return log_p


many = x[:, None].expand(NUM_RUNS, T, 1)
options = {"num_particles": 20, "resampling": "multinomial", "ess_threshold": 1.0, "proposal": "bootstrap", "seed": 0}
estimates = {
    "plain, from scratch": plain_filter(x, 20, NUM_RUNS),
    "plain, smc": smc.filter(model, many, **options).log_marginal_likelihood,
    "Rao-Blackwell, from scratch": rao_blackwell_filter(x, 20, NUM_RUNS),
    "Rao-Blackwell, mixture_kalman": mixture_kalman.filter(model, many, **options).log_marginal_likelihood,
}
ratios = {name: (log_p - exact).exp() for name, log_p in estimates.items()}
for name, ratio in ratios.items():
    error = ratio.std() / NUM_RUNS**0.5
    print(f"{name:30} p-hat / p: mean {ratio.mean():.3f} ± {error:.3f}, variance {ratio.var():.3f}")
    assert abs(ratio.mean() - 1) < 5 * error
for plain, summed in (
    ("plain, from scratch", "Rao-Blackwell, from scratch"),
    ("plain, smc", "Rao-Blackwell, mixture_kalman"),
):
    assert ratios[summed].var() < 0.7 * ratios[plain].var()

# %% [markdown]
# All four are right on average, with twenty particles. The Rao-Blackwellised ones vary less.
#
# ## Why: the law of total variance
#
# Let one particle go through without resampling, and write $w = \prod_t w_t$ for its plain weight. Draw $s$ and $y$ from
# the model. Given $s$, the average of $w$ over $y$ is
#
# $$\mathbb{E}(w \mid s) = \int p(y \mid s)\, p(x \mid y)\, dy = p(x \mid s) = v.$$
#
# So the Rao-Blackwellised weight is an average of plain ones, and
#
# $$\mathrm{Var}\, w = \mathrm{Var}\, \mathbb{E}(w \mid s) + \mathbb{E}\, \mathrm{Var}(w \mid s)
# = \mathrm{Var}\, v + \mathbb{E}\, \mathrm{Var}(w \mid s) \;\ge\; \mathrm{Var}\, v .$$
#
# This is the theorem of Rao and Blackwell. For three minutes the sum over $s$ has eight terms, so $\mathrm{Var}\, v$ is
# exact. We draw plain weights, and take the last term from them:

# %%
short = x[:3]
some = torch.tensor(list(itertools.product([0, 1], repeat=3)))
prior = FIRST[some[:, 0]] * MOVES[some[:, 0], some[:, 1]] * MOVES[some[:, 1], some[:, 2]]
v = along(some, short)[0].exp()
p_short = prior @ v
var_v = float(prior @ v**2 / p_short**2 - 1)

path = Categorical(prior).sample((NUM_DRAWS,))
s = some[path]
y = MEAN + VAR.sqrt() * torch.randn(NUM_DRAWS)
log_w = Normal(y, SENSOR.sqrt()).log_prob(short[0])
for t in (1, 2):
    y = RATE[s[:, t]] * y + OFFSET[s[:, t]] + NOISE[s[:, t]].sqrt() * torch.randn(NUM_DRAWS)
    log_w = log_w + Normal(y, SENSOR.sqrt()).log_prob(short[t])
w = log_w.exp() / p_short
within = sum(prior[k] * w[path == k].var() for k in range(8))
print(f"Var w = {w.var():.3f}, Var v = {var_v:.3f}, mean of Var(w | s) = {within:.3f}")
assert var_v < w.var()
assert abs(w.var() - var_v - within) < 0.1 * w.var()

# %% [markdown]
# The package states this as a claim, with exact second moments on both sides. A second one, `mixture-filter-unbiased`,
# says that the filter is right on average with resampling and any proposal.

# %%
result = check(CLAIMS["rao-blackwell"], quick=True)
print(f"{result.statement}\n  {result.verdict}: residual {result.residual:.1f} standard errors,", end=" ")
print(f"tolerance {result.tolerance:.0f}, control {result.control_residual:.0f}")
assert result.verdict == "holds"

# %% [markdown]
# How much is gained depends on the sensor. A precise one makes plain weights uneven, for few guesses of $y$ are near $x$.
# The Kalman filter does not guess $y$, and does not mind:

# %%
spread = {"plain": [], "Rao-Blackwell": []}
for sensor in SENSORS:
    precise = room(torch.tensor(sensor) ** 2)
    series = precise.sample(num_sequences=1, num_steps=20, seed=3).x.expand(NUM_RUNS // 10, 20, 1)
    options = {"num_particles": 100, "proposal": "bootstrap", "seed": 1}
    spread["plain"].append(smc.filter(precise, series, **options).log_marginal_likelihood.std())
    spread["Rao-Blackwell"].append(mixture_kalman.filter(precise, series, **options).log_marginal_likelihood.std())
for name, values in spread.items():
    print(f"{name:14}", *(f"{value:.2f}" for value in values))
assert spread["plain"][0] > 2 * spread["Rao-Blackwell"][0]
assert spread["plain"][0] / spread["Rao-Blackwell"][0] > spread["plain"][-1] / spread["Rao-Blackwell"][-1]

# %% alt="Standard deviation of the estimated log likelihood with 100 particles against the sensor's noise on logarithmic axes: the plain filter's rises steeply for a precise sensor, the Rao-Blackwellised one's hardly changes"
figure, axes = plt.subplots(figsize=(5.5, 3))
axes.loglog(SENSORS, spread["plain"], "o--", color="black", label="plain")
axes.loglog(SENSORS, spread["Rao-Blackwell"], "s-", label="Rao-Blackwell")
axes.set_xlabel("standard deviation of the sensor, °C")
axes.set_ylabel("standard deviation\nof log p-hat, nats")
axes.legend()
plt.show()

# %% [markdown]
# ## Who opened the window?
#
# On the whole series: `filter` gives $P(s_t = 1 \mid x_{1:t})$, and `smooth` gives $P(s_t = 1 \mid x_{1:T})$ from paths of
# regimes, each with the exact smoother of $y$ along it.

# %%
filtered = mixture_kalman.filter(model, data.x, num_particles=500, seed=0)
smoothed = mixture_kalman.smooth(model, data.x, num_particles=500, num_paths=200, seed=0)


def score(probs):
    """Mean log probability of the true regimes; shares of particles are kept away from 0 and 1."""
    p = probs[0, :, 1].clamp(0.002, 0.998)
    return float(p.where(is_open, 1 - p).log().mean())


right = ((smoothed.smoothed_probs[0, :, 1] > 0.5) == is_open).double().mean()
print(f"filter {score(filtered.filtered_probs):.3f}, smoother {score(smoothed.smoothed_probs):.3f} nats per minute")
print(f"the smoother names the right regime in {right:.0%} of the minutes")
assert score(smoothed.smoothed_probs) > score(filtered.filtered_probs)
assert right > 0.8
error = {
    "thermometer": (data.x[0, :, 0] - temperature).square().mean().sqrt(),
    "smoother": (smoothed.smoothed_means[0, :, 0] - temperature).square().mean().sqrt(),
}
print("root mean square errors, °C:", *(f"{name} {value:.2f}" for name, value in error.items()))
assert error["smoother"] < 0.7 * error["thermometer"]

# %% alt="Two panels over time: above, the smoother's temperature with its 90 percent band on the true one; below, the probability of an open window by filter and smoother, with grey bands where it was open"
figure, axes = plt.subplots(2, 1, figsize=(7, 4.4), layout="constrained", sharex=True)
for panel in axes:
    grey = {"color": "0.85", "transform": panel.get_xaxis_transform(), "label": "open"}
    panel.fill_between(minutes, 0, 1, where=is_open, step="mid", **grey)
centre, width = smoothed.smoothed_means[0, :, 0], 1.645 * smoothed.smoothed_covs[0, :, 0, 0].sqrt()
axes[0].plot(minutes, temperature, color="black", linewidth=1, label="true")
(line,) = axes[0].plot(minutes, centre, "--", label="smoother, 90 % band")
axes[0].fill_between(minutes, centre - width, centre + width, color=line.get_color(), alpha=0.25)
axes[0].set_ylabel("temperature, °C")
axes[0].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
axes[1].plot(minutes, filtered.filtered_probs[0, :, 1], ":", color="black", label="filter")
axes[1].plot(minutes, smoothed.smoothed_probs[0, :, 1], label="smoother")
axes[1].set_ylim(0, 1)
axes[1].set_ylabel("P(open)")
axes[1].set_xlabel("minute")
axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# **What breaks: a switch that reads the temperature.** Suppose that people open the window because it is warm. Then the
# regimes depend on $y$, and $y$ given the regimes is no longer normal: a path tells something about the temperature that
# no Kalman filter along it knows. The engine refuses, and names one that guesses both:

# %%
warm = torch.zeros(2, 2, 1)
warm[:, 1] = 0.2  # log odds of "open" rise by 0.2 per degree
reading = room(regime_weights=warm)
try:
    mixture_kalman.filter(reading, data.x)
    refused = False
except ValueError as error:
    refused = True
    print(error)
assert refused
print(f"smc: log p(x) = {smc.filter(reading, data.x, num_particles=2000, seed=0).log_marginal_likelihood[0]:.2f}")

# %% [markdown]
# ## Takeaways
#
# - Given the regimes a switching system is linear and Gaussian; its likelihood is a mixture with one component per path.
# - Draw what has no formula, sum out what has one: the weight becomes an average, and its variance falls by the mean of
#   its variance given what was drawn.
# - The gain is large where the summed out part is observed precisely, and there the plain filter is at its worst.
# - Filters that merge components have no randomness and an error that more computing does not reduce.
# - Summing out is allowed only while the drawn part does not read the rest.
#
# ## Exercises
#
# ### Exercise 1: the interacting multiple model
#
# Write the filter `imm`: it keeps $P(s_t = k \mid x_{1:t})$ and one mean and variance per regime. In each step, predict
# from every old regime $j$ into every new one $k$; merge over $j$ with the weights
# $P(s_{t-1} = j \mid s_t = k, x_{1:t-1})$; update each $k$ once.
#
# <details>
# <summary>Solution</summary>
#
# The merged variance is the mean of the variances plus the variance of the means.
#
# ```python
# log_k, mean, var, log_p = FIRST.log(), MEAN.expand(2), VAR.expand(2), 0.0
# for t, x_t in enumerate(x):
#     if t > 0:
#         joint = log_k.exp()[:, None] * MOVES  # old, new
#         share = joint / joint.sum(0)
#         ahead, spread_ahead = RATE * mean[:, None] + OFFSET, RATE**2 * var[:, None] + NOISE
#         mean = (share * ahead).sum(0)
#         var = (share * (spread_ahead + (ahead - mean) ** 2)).sum(0)
#         log_k = joint.sum(0).log()
#     S = var + SENSOR
#     log_k = log_k + Normal(mean, S.sqrt()).log_prob(x_t)
#     log_p = log_p + log_k.logsumexp(0)
#     log_k = log_k - log_k.logsumexp(0)
#     gain = var / S
#     mean, var = mean + gain * (x_t - mean), (1 - gain) * var
# found = mixture_kalman.approximate(model, x[None, :, None], method="imm")
# assert torch.allclose(log_p, found.log_marginal_likelihood[0])
# assert torch.allclose(log_k.exp(), found.filtered_probs[0, -1])
# ```
#
# </details>
#
# ### Exercise 2: look at the observation before you guess
#
# With two regimes a particle can try both. Draw $s_t$ with probabilities proportional to
# $p(s_t \mid s_{t-1})\, p(x_t \mid s_{1:t}, x_{1:t-1})$. What is the weight? Write the filter, and compare the variance of
# its estimates with those of `rao_blackwell_filter`.
#
# <details>
# <summary>Solution</summary>
#
# The weight is target over proposal: $p(s_t \mid s_{t-1})\, p(x_t \mid s_{1:t}, x_{1:t-1}) / q(s_t)$, which is the sum over
# both regimes, whichever was drawn. It does not depend on the draw, so it may even be used to resample before. This is
# `proposal="optimal"`, the default.
#
# ```python
# def looking_filter(x, num_particles, runs):
#     shape = (runs, num_particles)
#     mean, var = MEAN.expand(*shape, 2), VAR.expand(*shape, 2)  # last axis: both regimes
#     log_s, log_p = FIRST.log().expand(*shape, 2), torch.zeros(runs)
#     for t, x_t in enumerate(x):
#         if t > 0:
#             s, m, v = resampled(log_w, s, m, v)
#             mean, var = RATE * m[..., None] + OFFSET, RATE**2 * v[..., None] + NOISE
#             log_s = MOVES[s].log()
#         S = var + SENSOR
#         log_joint = log_s + Normal(mean, S.sqrt()).log_prob(x_t)
#         log_w = log_joint.logsumexp(-1)
#         log_p = log_p + log_w.logsumexp(1) - torch.tensor(float(num_particles)).log()
#         s = Categorical(logits=log_joint).sample()
#         gain = var / S
#         both = mean + gain * (x_t - mean), (1 - gain) * var
#         m, v = (part.gather(-1, s[..., None])[..., 0] for part in both)
#     return log_p
#
#
# ratio = (looking_filter(x, 20, NUM_RUNS) - exact).exp()
# print(f"mean {ratio.mean():.3f}, variance {ratio.var():.4f}")
# assert abs(ratio.mean() - 1) < 5 * ratio.std() / NUM_RUNS**0.5
# assert ratio.var() < ratios["Rao-Blackwell, from scratch"].var()
# ```
#
# </details>
#
# ### Exercise 3: the thermometer fails
#
# Put NaN into the minutes 5 to 8. What must `along` do there? Compute the exact $P(s_{10} = 1 \mid x)$ over all paths, and
# compare it with `mixture_kalman.filter` with 20 000 particles.
#
# <details>
# <summary>Solution</summary>
#
# It predicts and does not update; the weight is one. During the gap nothing but the prior speaks of the window.
#
# ```python
# gap = x.clone()
# gap[4:8] = torch.nan
# mean, var, log_p = MEAN.expand(len(paths)), VAR.expand(len(paths)), log_prior
# for t, x_t in enumerate(gap):
#     if t > 0:
#         s = paths[:, t]
#         mean, var = RATE[s] * mean + OFFSET[s], RATE[s] ** 2 * var + NOISE[s]
#     if not x_t.isnan():
#         S = var + SENSOR
#         log_p = log_p + Normal(mean, S.sqrt()).log_prob(x_t)
#         gain = var / S
#         mean, var = mean + gain * (x_t - mean), (1 - gain) * var
# probability = float(log_p.softmax(0) @ (paths[:, -1] == 1).double())
# found = mixture_kalman.filter(model, gap[None, :, None], num_particles=20_000, seed=0)
# print(f"exact {probability:.4f}, particles {found.filtered_probs[0, -1, 1]:.4f}; without the gap {open_now:.4f}")
# assert abs(found.filtered_probs[0, -1, 1] - probability) < 0.03
# assert abs(found.log_marginal_likelihood[0] - log_p.logsumexp(0)) < 0.1
# assert abs(probability - open_now) > 0.01  # four minutes of data had something to say
# ```
#
# </details>
#
# ## Further reading
#
# - R. Chen, J. S. Liu (2000). *Mixture Kalman filters.* Particles that are Kalman filters.
# - A. Doucet, S. Godsill, C. Andrieu (2000). *On sequential Monte Carlo sampling methods for Bayesian filtering.* Section 4
#   has the theorem for filters.
# - D. Blackwell (1947). *Conditional expectation and unbiased sequential estimation.* The theorem itself.
# - Y. Bar-Shalom, X. R. Li, T. Kirubarajan (2001). *Estimation with Applications to Tracking and Navigation.* Section 11.6
#   for filters that merge.
# - S. W. Linderman et al. (2017). *Bayesian learning and inference in recurrent switching linear dynamical systems.*
#   Regimes that read the state.
