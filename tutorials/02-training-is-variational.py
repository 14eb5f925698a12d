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
# # 2. Training an RNN is variational inference
#
# **The idea.** Variational inference raises a lower bound on the likelihood, and the bound is tight if the guide is the
# posterior. A recurrent network is its own posterior. So its usual training loss is a variational bound without a gap,
# and a step of backpropagation through time is a step of SVI.
#
# - **Level:** intermediate. **Minutes:** 60, with the exercises 100.
# - **You need:** lesson 1, gradients in torch, Jensen's inequality.
# - **Afterwards you can:** derive the ELBO of a sequence model, say when it equals the likelihood, and see why one
#   printed bound is none.

# %% tags=["parameters"] short={"NUM_STEPS": 10, "NUM_DRAWS": 500}
NUM_STEPS = 60  # gradient steps of the two training loops
NUM_DRAWS = 4000  # draws of the noise at each scale

# %%
import copy

import matplotlib.pyplot as plt
import pyro
import torch
from pyro.infer import Trace_ELBO

from pgm_rnn.models import HMM, RNN, MultiParticleRNN

torch.set_default_dtype(torch.float64)
pyro.set_rng_seed(0)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The bound
#
# For hidden states $h$ and any law $q(h \mid x)$ that we can draw from, the *guide*,
#
# $$\log p(x) \;=\; \underbrace{\mathbb{E}_q \left[\log \frac{p(x, h)}{q(h \mid x)}\right]}_{K,\ \text{the ELBO}}
# \;+\; \underbrace{\mathbb{E}_q \left[\log \frac{q(h \mid x)}{p(h \mid x)}\right]}_{\mathrm{KL}(q \,\|\, p) \;\ge\; 0} .$$
#
# Now let $h$ be the hidden states of a network, and let the guide be the network itself, without looking at $x_t$ before
# its time: $q(h \mid x) = \prod_t p(h_t \mid h_{t-1}, x_{t-1})$. These factors stand in $p(x, h)$ too and cancel:
#
# $$K = \mathbb{E}_q \sum_t \log p(x_t \mid h_t).$$
#
# If each $p(h_t \mid h_{t-1}, x_{t-1})$ is a point mass, the expectation has one term, and $K$ is what everybody trains:
# the cross entropy of the predictions, with the sign changed.

# %%
hmm = HMM.random(num_states=3, num_symbols=4, seed=1)
x = hmm.sample(num_sequences=40, num_steps=12, seed=0).x
rnn = RNN(cell="elman", num_symbols=4, hidden_dim=6)


def cross_entropy(rnn, x):
    """The usual loss: run the network, sum the negative log probabilities of the symbols."""
    h, loss = rnn.initial_memory.expand(len(x), -1), 0.0
    for x_t in x.unbind(1):
        loss = loss - rnn.emission(None, h).log_prob(x_t).sum()
        h = rnn.recurrence(h, None, x_t)
    return loss


elbo = Trace_ELBO()
sampled = {
    "rendering": "unrolled",
    "memory": "sampled",
}  # hidden states as latent sites, one per step
draws = [-elbo.loss(rnn.model, rnn.guide, x, **sampled) for _ in range(3)]
print(f"minus the cross entropy {-cross_entropy(rnn, x):.10f}")
print("three draws of the ELBO", *(f"{draw:.10f}" for draw in draws))
assert all(abs(draw + cross_entropy(rnn, x)) < 1e-8 for draw in draws)

# %% [markdown]
# Pyro drew all the $h_t$ from the guide, weighed them, and got the same number each time. There is no noise in the
# estimate because there is none in $q$.
#
# ## The gradients
#
# Two functions of the parameters that are equal have equal gradients. Pyro differentiates through the draw, and a draw
# from a point mass is the function $f$ itself. So SVI takes the very steps of backpropagation through time. Watch two
# copies of one network, trained side by side:


# %%
def train(rnn, loss):
    """Adam on a loss; returns the loss per symbol before each step."""
    optimizer = torch.optim.Adam(rnn.parameters(), lr=0.02)
    losses = []
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        value = loss(rnn)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()) / x.numel())
    return losses


by_backprop, by_svi = copy.deepcopy(rnn), copy.deepcopy(rnn)
usual = train(by_backprop, lambda net: cross_entropy(net, x))
variational = train(by_svi, lambda net: elbo.differentiable_loss(net.model, net.guide, x, **sampled))
pairs = zip(by_backprop.parameters(), by_svi.parameters(), strict=True)
distance = max((a - b).abs().max() for a, b in pairs)
print(f"after {NUM_STEPS} steps: losses {usual[-1]:.6f} and {variational[-1]:.6f}")
print(f"largest difference of a parameter: {distance:.1e}")
assert distance < 1e-6
assert usual[-1] < usual[0]

# %% alt="Loss per symbol against gradient steps: the curve of backpropagation and the curve of SVI lie on each other"
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(usual, linewidth=5, alpha=0.4, label="cross entropy, torch")
axes.plot(variational, color="black", linestyle="--", label="minus ELBO, Pyro")
axes.set_xlabel("gradient step")
axes.set_ylabel("nats per symbol")
axes.legend()
plt.show()

# %% [markdown]
# ## What breaks: noise in the hidden states
#
# Let $h_t = f(h_{t-1}, x_{t-1}) + \sigma \epsilon_t$ with normal $\epsilon_t$, and keep the guide. It still cancels, so
# $K(\sigma) = \mathbb{E} \sum_t \log p(x_t \mid h_t)$. But the likelihood is now
# $\log p(x) = \log \mathbb{E} \prod_t p(x_t \mid h_t)$, and by Jensen's inequality $K \le \log p(x)$. The gap is the
# divergence of the guide, which never looks ahead, from the posterior, which must:


# %%
@torch.no_grad()
def bound_and_likelihood(rnn, x, scale):
    """K and an estimate of log p(x) for one sequence, from NUM_DRAWS noisy runs."""
    h = rnn.initial_memory.expand(NUM_DRAWS, -1)
    total = torch.zeros(NUM_DRAWS)
    for x_t in x:
        h = h + scale * torch.randn_like(h)
        total = total + rnn.emission(None, h).log_prob(x_t)
        h = rnn.recurrence(h, None, x_t.expand(NUM_DRAWS))
    count = torch.tensor(float(NUM_DRAWS))
    return total.mean(), total.logsumexp(0) - count.log()


scales = torch.linspace(0, 1, 11)
pyro.set_rng_seed(1)
values = torch.tensor([bound_and_likelihood(by_backprop, x[0], scale) for scale in scales])
K, L = values.unbind(1)
for scale, k, ell in zip(scales[::5], K[::5], L[::5], strict=True):
    print(f"sigma {scale:.1f}: K {k:8.4f}  log p(x) {ell:8.4f}  gap {ell - k:.4f}")
assert torch.allclose(K[0], L[0])  # no noise, no gap
assert (K <= L + 1e-12).all()
assert L[-1] - K[-1] > 0.05

# %% alt="The bound K and the log likelihood against the scale of the noise: equal without noise, then K falls below"
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(scales, L, color="black", label=r"$\log p(x)$, estimated")
axes.plot(scales, K, linestyle="--", label="K, the ELBO")
axes.fill_between(scales, K, L, alpha=0.2, label="the gap, a KL divergence")
axes.set_xlabel(r"scale $\sigma$ of the noise")
axes.set_ylabel("nats")
axes.legend()
plt.show()

# %% [markdown]
# **Does noise only hurt?** The paper argues that $K(\sigma)$ is best at $\sigma = 0$. Often, but not always. Take one
# step, $h = \sigma \epsilon$ with $\epsilon = \pm 1$, and a network that predicts badly at $h = 0$:
# $p(x = 1 \mid h) = 0.1$ for $h = 0$ and $0.9$ for $|h| = 1$. For $x = 1$:

# %%
K_0 = torch.tensor(0.1).log()
K_1 = torch.tensor([0.9, 0.9]).log().mean()  # the two signs of epsilon
print(f"K(0) = {K_0:.3f},  K(1) = {K_1:.3f}")
assert K_1 > K_0

# %% [markdown]
# What always holds is weaker: among the values of the noise there is one that is at least as good as their average. A
# network with that fixed offset, and without noise, does no worse.
#
# ## A printed bound that is none
#
# Run $L$ networks from different starts, and choose one at random for the whole sequence:
#
# $$p(x) = \frac1L \sum_{l} \prod_t p(x_t \mid h_t^l), \qquad
# K_{17} = \sum_t \log \frac1L \sum_l p(x_t \mid h_t^l).$$
#
# Eq. (17) of the paper says $\log p(x) \ge K_{17}$. Here are two networks and two steps, with
# $p(x_t = 1 \mid h_t^1) = (0.9, 0.1)$ and $p(x_t = 1 \mid h_t^2) = (0.1, 0.9)$, and the sequence $x = (1, 1)$:

# %%
p = torch.tensor([[0.9, 0.1], [0.1, 0.9]])  # (network, step)
mixture = p.prod(dim=1).mean().log()
K_17 = p.mean(dim=0).log().sum()
print(f"log p(x) = {mixture:.3f},  K of eq. (17) = {K_17:.3f}")
assert mixture < K_17

# %% [markdown]
# $K_{17}$ is above. It cannot be a bound: $e^{K_{17}}$ sums to one over all sequences, so it is itself a law, that of a
# network which is chosen anew at every step. Two different laws cannot satisfy $p \ge p'$ everywhere. The package has
# both, as `average="sequence"` and `average="step"`:

# %%
pyro.set_rng_seed(3)
mixed = MultiParticleRNN(num_particles=3, num_symbols=2, hidden_dim=4, average="sequence")
stepwise = MultiParticleRNN(num_particles=3, num_symbols=2, hidden_dim=4, average="step")
with torch.no_grad():
    for parameter in mixed.parameters():
        parameter.mul_(2.0)
    stepwise.load_state_dict(mixed.state_dict())
    words = torch.cartesian_prod(*[torch.arange(2)] * 6)  # all sequences of six symbols
    law, other = mixed.log_prob(words), stepwise.log_prob(words)
print(f"sums over all sequences: {law.exp().sum():.12f} and {other.exp().sum():.12f}")
print(f"K exceeds log p(x) for {int((other > law).sum())} of {len(words)} sequences")
assert torch.allclose(law.exp().sum(), torch.tensor(1.0))
assert torch.allclose(other.exp().sum(), torch.tensor(1.0))
assert (other > law).any()
assert (other < law).any()

# %% alt="Differences between eq. (17) and the log likelihood for all 64 sequences, sorted: some bars are below zero, some above"
figure, axes = plt.subplots(figsize=(6, 3))
difference = (other - law).sort().values
axes.bar(range(len(words)), difference.tolist(), width=1.0, edgecolor="black", linewidth=0.3)
axes.axhline(0, color="black")
axes.set_xlabel("sequences, sorted")
axes.set_ylabel(r"$K_{17} - \log p(x)$, nats")
plt.show()

# %% [markdown]
# ## Takeaways
#
# - $\log p(x) = K + \mathrm{KL}(q \,\|\, p(h \mid x))$: the bound is tight if and only if the guide is the posterior.
# - A network's own transitions are its posterior, because nothing is left to infer. Cross entropy is its ELBO.
# - Noise in the hidden states opens the gap. Then a guide should look at later observations too (lessons 9 and 10).
# - Averages over particles belong outside of the product over steps. Inside they make another law, and no bound.
#
# ## Exercises
#
# ### Exercise 1: a gap in closed form
#
# $z \sim N(0, 1)$, $x \mid z \sim N(z, 1)$, and the guide is the prior. Compute $\log p(x)$, $K$ and the divergence for
# $x = 1$ with `torch.distributions`, and check that they add up.
#
# <details>
# <summary>Solution</summary>
#
# $x \sim N(0, 2)$ and $z \mid x \sim N(x/2, 1/2)$. $K = \mathbb{E} \log N(x; z, 1) = -\frac12 \log 2\pi - \frac12 (x^2 + 1)$.
#
# ```python
# from torch.distributions import Normal, kl_divergence
#
# one, two = torch.tensor(1.0), torch.tensor(2.0)
# log_p = Normal(0.0, two.sqrt()).log_prob(one)
# K_prior = Normal(0.0, 1.0).log_prob(one) - 0.5
# gap = kl_divergence(Normal(0.0, 1.0), Normal(0.5, 0.5**0.5))
# assert torch.allclose(log_p, K_prior + gap)
# ```
#
# </details>
#
# ### Exercise 2: cut the draw
#
# Write `cross_entropy` with `h.detach()` after each step. The value stays the same. Which gradients vanish, and why is
# this not what Pyro does?
#
# <details>
# <summary>Solution</summary>
#
# The cell's parameters act through later hidden states only, and these are cut off. A `Delta`'s draw is the value itself
# with its gradient: the limit of a reparametrised draw, not a constant.
#
# ```python
# def cut(rnn, x):
#     h, loss = rnn.initial_memory.expand(len(x), -1), 0.0
#     for x_t in x.unbind(1):
#         loss = loss - rnn.emission(None, h).log_prob(x_t).sum()
#         h = rnn.recurrence(h, None, x_t).detach()
#     return loss
#
#
# whole, part = cross_entropy(rnn, x), cut(rnn, x)
# assert torch.allclose(whole, part)
# cell = list(rnn.cell.parameters())
# assert all(g.abs().max() > 0 for g in torch.autograd.grad(whole, cell))
# gradients = torch.autograd.grad(part, cell, allow_unused=True)
# assert all(g is None or g.abs().max() == 0 for g in gradients)
# ```
#
# </details>
#
# ### Exercise 3: the bound that Jensen gives
#
# For $L$ networks, which of $\frac1L \sum_l \sum_t \log p(x_t \mid h_t^l)$, $\log p(x)$ and $K_{17}$ are ordered for
# every sequence? Check with `mixed.particle_log_probs(words)`, which is $\log p(x_t \mid h_t^l)$ of shape
# (sequences, steps, networks).
#
# <details>
# <summary>Solution</summary>
#
# The mean of logarithms is below the logarithm of the mean, for whole sequences and for steps. So it is below both.
#
# ```python
# terms = mixed.particle_log_probs(words).detach()
# lowest = terms.sum(1).mean(-1)
# networks = torch.tensor(3.0)
# assert torch.allclose(terms.sum(1).logsumexp(-1) - networks.log(), law)
# assert torch.allclose((terms.logsumexp(-1) - networks.log()).sum(-1), other)
# assert (lowest <= law + 1e-12).all()
# assert (lowest <= other + 1e-12).all()
# ```
#
# </details>
#
# ## Further reading
#
# - J. Sohl-Dickstein, D. P. Kingma (2015). *Note on Equivalence Between Recurrent Neural Network Time Series Models and
#   Variational Bayesian Models.* Eq. (3)-(15) are this lesson's first half; [the errata](../docs/errata.md) treat
#   eq. (17) and the noise.
# - Y. Burda, R. Grosse, R. Salakhutdinov (2016). *Importance weighted autoencoders.* The average over samples that is a
#   bound.
# - J. Chung, K. Kastner, L. Dinh, K. Goel, A. Courville, Y. Bengio (2015). *A recurrent latent variable model for
#   sequential data.* Noise that is worth its gap; lesson 10.
