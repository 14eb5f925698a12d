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
# # 14. Bring your own model
#
# **The idea.** A sequence model is four conditional distributions. Write them down as methods, and every engine that
# fits their structure follows: exact sums, particle filters, gradients. Before you trust a result, compute one number
# by a loop that you understand.
#
# - **Level:** intermediate. **Minutes:** 60, with the exercises 110.
# - **You need:** lesson 3 for the forward algorithm; lesson 7 helps with particles. Classes in Python.
# - **Afterwards you can:** write a model that nobody has put into a package, run it under several engines, and check it
#   against a sum or a grid.

# %% tags=["parameters"] short={"NUM_WEEKS": 8, "NUM_SHOPS": 10, "NUM_EPOCHS": 40, "NUM_RUNS": 40}
NUM_WEEKS = 20  # weeks in a series
NUM_SHOPS = 30  # series that the fit sees
NUM_EPOCHS = 40  # passes over them
NUM_RUNS = 200  # independent particle filters whose estimates are averaged

# %%
import matplotlib.pyplot as plt
import pyro.distributions as dist
import torch
from torch import nn

import pgm_rnn as pr
from pgm_rnn.emissions import Poisson
from pgm_rnn.inference import forward_backward, smc, svi
from pgm_rnn.states import FiniteStates

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The model on paper
#
# An ice cream shop sells $x_t$ cones on day $t$. Business is slow or brisk, $z_t \in \{0, 1\}$, and nobody writes that
# down. Counts are Poisson with a rate per state. The chance of a change depends on the day: $u_t = 1$ on a weekend and
# $0$ otherwise.
#
# $$
# \begin{aligned}
# p(z_1 = k) &\propto e^{b_k}\\
# p(z_t = k \mid z_{t-1} = j) &\propto e^{M_{jk} + w_k u_t} && \text{a seasonal transition}\\
# x_t \mid z_t = k &\sim \mathrm{Poisson}(e^{r_k})
# \end{aligned}
# $$
#
# This is no textbook HMM: its transition matrix is another one on weekends.
#
# ## The model as a class
#
# One method per line of the formula. Three things besides them: the *family*, which says what an observation is (here
# one count per step), `states`, which says what $z$ is, and `input_dim`, because $u_t$ is given and not modelled. A
# method receives the input at the end of its argument `h`; this model has no memory, so `h` is $u_t$, of shape
# `(..., 1)`.


# %%
class IceCream(pr.SequenceModel):
    """Counts whose hidden state moves differently on weekends."""

    input_dim = 1

    def __init__(self, num_states=2):
        super().__init__(Poisson())
        self.states = FiniteStates(num_states)
        self.b = nn.Parameter(torch.zeros(num_states))
        self.M = nn.Parameter(2 * torch.eye(num_states))
        self.w = nn.Parameter(torch.zeros(num_states))
        self.r = nn.Parameter(torch.arange(num_states) + 1.0)

    def initial(self, h):
        return dist.Categorical(logits=self.b)

    def transition(self, z, h):
        return dist.Categorical(logits=self.M[z] + self.w * h)

    def emission(self, z, h):
        return dist.Poisson(self.r[z].exp())


truth = IceCream()
with torch.no_grad():
    truth.M.copy_(torch.tensor([[0.9, 0.1], [0.3, 0.7]]).log())
    truth.w.copy_(torch.tensor([0.0, 2.5]))
    truth.r.copy_(torch.tensor([4.0, 11.0]).log())
print(truth)

# %% [markdown]
# Two rules keep such methods short. Pick rows by `self.M[z]`, whatever the shape of `z` is, and let arithmetic
# broadcast: one call may compute all values of $z$, all particles, or all series at once.
#
# Drawing needs nothing more. A picture tells whether the model is the one we meant:

# %% alt="Bars of cones sold per day over eight weeks, weekends shaded, with a step line for the hidden state, which is mostly brisk on weekends"
week = torch.tensor([0.0, 0, 0, 0, 0, 1, 1])
num_steps = 7 * NUM_WEEKS
u = week.repeat(NUM_WEEKS)[None, :, None]  # (1, T, 1)
shops = truth.sample(NUM_SHOPS, num_steps, seed=0, inputs=u.expand(NUM_SHOPS, -1, -1))
one = shops.select(slice(0, 1))  # the first shop
print(shops)

figure, axes = plt.subplots(figsize=(7, 3))
days = torch.arange(1, 57)
axes.fill_between(days, 25 * u[0, :56, 0], step="mid", color="tab:orange", alpha=0.25, label="weekend")
axes.bar(days.numpy(), one.x[0, :56].numpy(), color="tab:gray", label="cones sold")
axes.step(days, truth.r.detach().exp()[one.z[0, :56]], where="mid", color="black", label="rate of the hidden state")
axes.set_ylim(0, 25)
axes.set_xlabel("day t")
axes.set_ylabel("cones")
axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)
plt.show()

# %% [markdown]
# ## One number by a loop that you understand
#
# The forward algorithm of lesson 3, in logarithms and straight from the formula. It uses no method of the class, so
# that a slip in one does not hide in the other:


# %%
def log_likelihood_by_loop(x, u, shift=0):
    """log p(x) of one series; `shift` moves the calendar, which is a mistake."""
    b, M, w, r = (p.detach() for p in (truth.b, truth.M, truth.w, truth.r))

    def log_poisson(count):
        return count * r - r.exp() - torch.lgamma(count + 1)

    log_alpha = b - b.logsumexp(0) + log_poisson(x[0])
    for t in range(1, len(x)):
        logits = M + w * u[t - shift]
        log_A = logits - logits.logsumexp(1, keepdim=True)
        log_alpha = (log_alpha[:, None] + log_A).logsumexp(0) + log_poisson(x[t])
    return log_alpha.logsumexp(0)


by_loop = log_likelihood_by_loop(one.x[0], u[0, :, 0])
filtered = forward_backward.filter(truth, one)
by_engine = filtered.log_marginal_likelihood[0]
print(f"by the loop {by_loop:.10f}\nby engine   {by_engine:.10f}")
assert torch.allclose(by_loop, by_engine)

# %% [markdown]
# The engine evaluated our methods at both values of $z$ and did the rest. It never heard of seasons.
#
# **What breaks: the calendar.** A frequent mistake in such models is an index. Is the move into day $t$ governed
# by $u_t$ or by $u_{t-1}$? Here it is $u_t$, and a loop that is one day late gives another number. If your check does
# not notice that, it checks nothing:

# %%
late = log_likelihood_by_loop(one.x[0], u[0, :, 0], shift=1)
print(f"one day late {late:.4f}, right {by_loop:.4f}")
assert abs(late - by_loop) > 0.1

# %% [markdown]
# ## The same laws under every engine
#
# `states = FiniteStates(2)` allows the exact engines. A particle filter needs only that one can draw, so it takes the
# model too. Its estimate of $p(x)$ is **unbiased**, which can be tested: over many runs the mean of
# $\hat Z / p(x)$ is one, within a few standard errors.


# %%
def ratio(log_estimates, log_exact):
    """Mean of Z / p(x) over runs, and its standard error."""
    ratios = (log_estimates.detach() - log_exact).exp()
    return float(ratios.mean()), float(ratios.std() / len(ratios) ** 0.5)


def repeated(data):
    """The same series many times, so that one call runs independent filters side by side."""
    x, lengths, inputs = (part.repeat_interleave(NUM_RUNS, 0) for part in (data.x, data.lengths, data.inputs))
    return pr.Sequences(x, lengths, inputs=inputs)


many = repeated(one)
estimates = smc.log_marginal_likelihood(truth, many, num_particles=400, seed=0)
mean, error = ratio(estimates, by_engine)
print(f"particle filter, mean of Z / p(x) over {NUM_RUNS} runs: {mean:.3f} ± {error:.3f}")
assert abs(mean - 1) < 5 * error

best = forward_backward.most_likely_states(truth, one)
print(f"most likely states are right on {float((best.states == one.z).double().mean()):.0%} of the days")
score = svi.evaluate(truth, shops)
print(f"{score.nats_per_step:.4f} nats per step, {score.bound}")
by_loops = -sum(log_likelihood_by_loop(x, u[0, :, 0]) for x in shops.x) / shops.x.numel()
assert abs(score.nats_per_step - by_loops) < 1e-10

# %% [markdown]
# ## Fit it
#
# The gradient of an exact likelihood comes with the engine, so `svi.fit` is maximum likelihood here. We start from the
# constructor's values, which know nothing of weekends:

# %%
model = IceCream()
before = svi.evaluate(model, shops).nats_per_step
fit = svi.fit(model, shops, num_epochs=NUM_EPOCHS, learning_rate=0.1, batch_size=10, progress=False)
after = svi.evaluate(model, shops).nats_per_step
print(f"objective {fit.objective}: {before:.3f} before, {after:.3f} after, truth {score.nats_per_step:.3f}")
assert after < before
assert after < score.nats_per_step + 0.01

print("rates             ", [round(rate, 1) for rate in model.r.detach().exp().tolist()])
for name, weekend in (("on a weekday", 0.0), ("on a weekend", 1.0)):
    fitted, true = (torch.softmax(m.M.detach() + m.w.detach() * weekend, dim=1)[:, 1].tolist() for m in (model, truth))
    print(f"p(brisk) {name}, from slow and from brisk: fitted {fitted[0]:.2f}, {fitted[1]:.2f};", end=" ")
    print(f"true {true[0]:.2f}, {true[1]:.2f}")
assert abs(model.r.detach().exp() - torch.tensor([4.0, 11.0])).max() < 1

# %% [markdown]
# **A control.** Is the season worth its parameters? Take it away and fit again. On these data, which have a season, the
# score must get worse:

# %%
plain = IceCream()
plain.w.requires_grad_(False)  # stays at zero
svi.fit(plain, shops, num_epochs=NUM_EPOCHS, learning_rate=0.1, batch_size=10, progress=False)
without = svi.evaluate(plain, shops).nats_per_step
print(
    f"without season {without:.4f}, with {after:.4f} nats per step: {(without - after) * shops.x.numel():.0f} nats in all"
)
assert without > after

# %% [markdown]
# ## When the state is a number
#
# Perhaps business is not slow *or* brisk, but anything between. Let $z_t$ be the logarithm of the rate:
#
# $$z_t \sim N\big(m + w u_t + a (z_{t-1} - m),\; s^2\big), \qquad x_t \sim \mathrm{Poisson}(e^{z_t}).$$
#
# Two methods change. `states` is left out, since nothing about $z$ can be summed in closed form. Exact engines are now
# off, and say so.


# %%
class Demand(pr.SequenceModel):
    """Counts whose log rate wanders around a level that rises on weekends."""

    input_dim = 1

    def __init__(self, m=1.5, w=0.5, a=0.7, s=0.3):
        super().__init__(Poisson())
        self.m, self.w, self.a, self.s = (nn.Parameter(torch.tensor(value)) for value in (m, w, a, s))

    def initial(self, h):
        return dist.Normal(self.m + self.w * h[..., 0], self.s)

    def transition(self, z, h):
        return dist.Normal(self.m + self.w * h[..., 0] + self.a * (z - self.m), self.s)

    def emission(self, z, h):
        return dist.Poisson(z.exp())


demand = Demand()
series = demand.sample(1, 56, seed=1, inputs=u[:, :56])  # eight weeks
try:
    forward_backward.filter(demand, series)
    refused = False
except TypeError as error:
    refused = True
    print(error)
assert refused

# %% [markdown]
# What is the loop that we understand now? The integral over $z_t$ becomes a sum over a fine grid. It is slow and works
# in one dimension only, but it is as good as exact:


# %%
def log_likelihood_by_grid(x, u, num_points=400):
    """log p(x) of one series, the states summed over a grid, and the filtered means of z."""
    m, w, a, s = (float(p.detach()) for p in (demand.m, demand.w, demand.a, demand.s))
    grid = torch.linspace(m - 3, m + 4, num_points)
    width = (grid[1] - grid[0]).log()
    log_alpha, means = None, []
    for x_t, u_t in zip(x, u, strict=True):
        if log_alpha is None:
            predicted = dist.Normal(m + w * u_t, s).log_prob(grid)
        else:
            law = dist.Normal(m + w * u_t + a * (grid - m), s)
            log_A = law.log_prob(grid[:, None]).T  # (old, new)
            predicted = (log_alpha[:, None] + log_A).logsumexp(0) + width
        log_alpha = predicted + dist.Poisson(grid.exp()).log_prob(x_t)
        means.append((log_alpha - log_alpha.logsumexp(0)).exp() @ grid)
    return log_alpha.logsumexp(0) + width, torch.stack(means)


by_grid, grid_means = log_likelihood_by_grid(series.x[0], u[0, :56, 0])
finer, _ = log_likelihood_by_grid(series.x[0], u[0, :56, 0], num_points=600)
print(f"grid of 400 points {by_grid:.8f}, of 600 points {finer:.8f}")
assert abs(by_grid - finer) < 1e-6

estimates = smc.log_marginal_likelihood(demand, repeated(series), num_particles=400, seed=0)
mean, error = ratio(estimates, by_grid)
print(f"particle filter, mean of Z / p(x) over {NUM_RUNS} runs: {mean:.3f} ± {error:.3f}")
assert abs(mean - 1) < 5 * error

# %% [markdown]
# ## Give it a guide
#
# The filter moved its particles blindly and looked at $x_t$ afterwards. A method `proposal` makes it look first. It
# gets what `encode` returns for step $t$; here that is $x_t$ itself. The count says about $z_t$ roughly
# $N(\log(x_t + 1/2),\; 1 / (x_t + 1/2))$, and the transition says $N(\mu_t, s^2)$. Multiply the two normal laws: add
# their precisions, and weigh the means by them.


# %%
class GuidedDemand(Demand):
    """The same model with a guide that reads the count of the day."""

    def encode(self, x, lengths):
        return x[..., None].to(self.m.dtype)  # features, (batch, T, 1)

    def proposal(self, z, h, features):
        law = self.initial(h) if z is None else self.transition(z, h)
        count = features[..., 0] + 0.5
        precision = 1 / self.s**2 + count
        return dist.Normal((law.mean / self.s**2 + count * count.log()) / precision, precision**-0.5)


guided = GuidedDemand()
found = {
    name: smc.log_marginal_likelihood(model, repeated(series), num_particles=200, seed=0)
    for name, model in (("blind", demand), ("guided", guided))
}
for name, estimates in found.items():
    mean, error = ratio(estimates, by_grid)
    print(f"{name:6}  mean of Z / p(x) {mean:.3f} ± {error:.3f}, standard deviation of log Z {estimates.std():.3f}")
    assert abs(mean - 1) < 5 * error
assert found["guided"].std() < found["blind"].std()

# %% [markdown]
# The guide changes the noise and not the expectation, as it must: the weights pay for the proposal. It also makes the
# bounds of lesson 10 available. All of them lie below $\log p(x)$ on average:

# %%
for bound, num_particles in (("elbo", 1), ("iwae", 200), ("fivo", 200)):
    runs = svi.evaluate(guided, repeated(series), bound=bound, num_particles=num_particles, seed=0).log_likelihoods
    error = float(runs.std() / NUM_RUNS**0.5)
    print(f"{bound:4} {num_particles:3} draws: {runs.mean():9.3f} ± {error:.3f}")
    assert runs.mean() < by_grid + 4 * error
print(f"log p(x):       {by_grid:9.3f}")

# %% alt="Filtered mean of the rate by the guided particle filter on top of that by the grid, with the daily counts as dots"
functions = {"z": lambda z, h: z}
by_particles = smc.filter(guided, series, num_particles=1000, functions=functions, seed=0).means["z"][0]
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(days, series.x[0], ".", color="tab:gray", label="cones sold")
axes.plot(days, grid_means.exp(), linewidth=5, alpha=0.3, color="black", label="grid")
axes.plot(days, by_particles.exp(), "--", color="black", label="particles, guided")
axes.set_xlabel("day t")
axes.set_ylabel(r"cones; $\exp E[z_t \mid x_{1:t}]$")
axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)
plt.show()
assert (by_particles - grid_means).abs().max() < 0.1

# %% [markdown]
# ## When something is wrong
#
# The first run calls each method for two steps and checks what comes back. Forget an index, and the error names the
# method, the step and the shapes:


# %%
class Forgetful(Demand):
    def emission(self, z, h):
        return dist.Poisson(z[..., None].exp().expand(*z.shape, 2)).to_event(1)


try:
    Forgetful().sample(1, 7, inputs=u[:, :7])
    refused = False
except ValueError as error:
    refused = True
    print(error)
assert refused

# %% [markdown]
# ## Takeaways
#
# - A model is `initial`, `transition`, `emission` and, with a memory, `recurrence`. What is given and not modelled,
#   such as the calendar, is an input.
# - `states` decides what is exact. Finitely many states are summed, anything else goes to particles and bounds.
# - Check one number by a loop or a grid that shares no code with the class. Then break it on purpose and see the check
#   fail.
# - An unbiased estimate can be tested: many runs, their mean, and its standard error.
# - A guide is one more method. It changes the noise of an estimate and not what is estimated.
#
# ## Exercises
#
# ### Exercise 1: closed on a holiday
#
# Days 10 to 12 of the first shop were not recorded. Set them to NaN and let `forward_backward.filter` sum them out.
# Then change the loop: which term do you leave out?
#
# <details>
# <summary>Solution</summary>
#
# The Poisson term. The state goes on moving, and a missing count says nothing about it.
#
# ```python
# x = one.x[0].clone()
# x[9:12] = torch.nan
# by_engine = forward_backward.filter(truth, x[None], inputs=u).log_marginal_likelihood[0]
#
# b, M, w, r = (p.detach() for p in (truth.b, truth.M, truth.w, truth.r))
# log_alpha = b - b.logsumexp(0)
# for t in range(num_steps):
#     if t > 0:
#         logits = M + w * u[0, t, 0]
#         log_A = logits - logits.logsumexp(1, keepdim=True)
#         log_alpha = (log_alpha[:, None] + log_A).logsumexp(0)
#     if not x[t].isnan():
#         log_alpha = log_alpha + dist.Poisson(r.exp()).log_prob(x[t])
# assert torch.allclose(log_alpha.logsumexp(0), by_engine)
# ```
#
# </details>
#
# ### Exercise 2: a memory
#
# Let yesterday's sales matter, too: $x_t \sim \mathrm{Poisson}(e^{r_k + c \log(1 + x_{t-1})})$, with zero sales before
# the first day. That needs a memory. Write `recurrence` and set `initial_memory`; a method then finds the memory and
# the input side by side in `h`. Check that $c = 0$ gives the old model, and compare $c = 0.2$ with a loop.
#
# <details>
# <summary>Solution</summary>
#
# `recurrence` receives the memory, no `z`, and the last count, and returns the new memory of shape `(..., 1)`. In the
# other methods `h[..., 0]` is the memory and `h[..., 1]` is $u_t$. The memory reads $x$ alone, so the sums over $z$
# stay exact.
#
# ```python
# class Habit(IceCream):
#     def __init__(self, c=0.2):
#         super().__init__()
#         self.register_buffer("initial_memory", torch.zeros(1))
#         self.c = nn.Parameter(torch.tensor(c))
#
#     def recurrence(self, h, z, x):
#         return x[..., None].log1p()
#
#     def transition(self, z, h):
#         return dist.Categorical(logits=self.M[z] + self.w * h[..., 1:])
#
#     def emission(self, z, h):
#         return dist.Poisson((self.r[z] + self.c * h[..., 0]).exp())
#
#
# def with_truth(habit):
#     habit.load_state_dict(truth.state_dict(), strict=False)
#     return habit
#
#
# none = forward_backward.filter(with_truth(Habit(c=0.0)), one).log_marginal_likelihood[0]
# assert torch.allclose(none, by_loop)
#
# b, M, w, r = (p.detach() for p in (truth.b, truth.M, truth.w, truth.r))
# x, log_alpha = one.x[0], b - b.logsumexp(0)
# for t in range(num_steps):
#     if t > 0:
#         log_A = (M + w * u[0, t, 0]).log_softmax(1)
#         log_alpha = (log_alpha[:, None] + log_A).logsumexp(0)
#     before = x[t - 1] if t > 0 else torch.zeros(())
#     log_alpha = log_alpha + dist.Poisson((r + 0.2 * before.log1p()).exp()).log_prob(x[t])
# habit = forward_backward.filter(with_truth(Habit(c=0.2)), one).log_marginal_likelihood[0]
# assert torch.allclose(habit, log_alpha.logsumexp(0))
# ```
#
# </details>
#
# ### Exercise 3: a guide that cheats
#
# Halve the standard deviation of the guide in `GuidedDemand`. Is the particle filter's estimate still unbiased? What
# happens to the ELBO and to the spread of $\log \hat Z$?
#
# <details>
# <summary>Solution</summary>
#
# Unbiased it stays, since any guide that can reach every state does. But it rarely visits places where the posterior
# still has mass, and pays with a few very large weights: the bounds fall and the estimates spread.
#
# ```python
# class Narrow(GuidedDemand):
#     def proposal(self, z, h, features):
#         law = super().proposal(z, h, features)
#         return dist.Normal(law.mean, law.stddev / 2)
#
#
# runs = smc.log_marginal_likelihood(Narrow(), repeated(series), num_particles=200, seed=0)
# print(f"standard deviation of log Z {runs.std():.3f}, guided {found['guided'].std():.3f}")
# assert runs.std() > found["guided"].std()
# elbo = {
#     model: svi.evaluate(model, repeated(series), bound="elbo", num_particles=1, seed=0).log_likelihoods.mean()
#     for model in (guided, Narrow())
# }
# right, narrow = elbo.values()
# assert narrow < right < by_grid
# ```
#
# </details>
#
# ## Further reading
#
# - L. R. Rabiner (1989). *A tutorial on hidden Markov models and selected applications in speech recognition.* What the
#   loop over finitely many states does.
# - J. Durbin, S. J. Koopman (2012). *Time Series Analysis by State Space Methods.* Part II has count models with
#   continuous states, seasons among them.
# - M. K. Pitt, N. Shephard (1999). *Filtering via simulation: auxiliary particle filters.* Filters that look at the
#   observation before they move.
# - P. Del Moral (2004). *Feynman-Kac Formulae.* Why the estimate of $p(x)$ is unbiased.
