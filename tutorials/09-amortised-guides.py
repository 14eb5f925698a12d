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
# # 9. Deep Markov models and amortised guides
#
# **The idea.** Where $p(z \mid x)$ has no closed form, a guide $q(z \mid x)$ stands in, and the ELBO is below
# $\log p(x)$ by exactly their divergence. What the guide may say decides how large this gap is. A network that reads
# $x$ makes one guide for all sequences, and minibatches train it.
#
# - **Level:** intermediate. **Minutes:** 75, with the exercises 130.
# - **You need:** lesson 2 for the ELBO; normal distributions with matrices. Lesson 6 helps.
# - **Afterwards you can:** compute the price of a mean-field guide, explain what a structured guide must read, and
#   train a deep Markov model.

# %% tags=["parameters"] short={"NUM_BALLS": 120, "NUM_EPOCHS": 25, "GUIDE_EPOCHS": 5, "GUIDE_STEPS": 200}
NUM_BALLS = 240  # training sequences
NUM_EPOCHS = 40  # passes over them
GUIDE_EPOCHS = 10  # further passes that train a guide alone
GUIDE_STEPS = 400  # gradient steps of the guide that is fitted to one sequence

# %%
import copy

import matplotlib.pyplot as plt
import pyro.distributions as dist
import torch

from pgm_rnn.inference import kalman, svi
from pgm_rnn.models import DeepMarkovModel, LinearGaussianSSM

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The gap is a divergence
#
# For any guide,
#
# $$\mathrm{ELBO} = E_q\Big[\log \frac{p(x, z)}{q(z \mid x)}\Big] = \log p(x) - \mathrm{KL}(q(z \mid x) \,\Vert\, p(z \mid x)).$$
#
# To see the gap we need a model in which the right side is known. Take a noisy walk that is seen through noise:
#
# $$z_t \sim N(a z_{t-1}, s^2), \qquad x_t \sim N(z_t, r^2), \qquad t = 1..T.$$
#
# All of it is one big normal distribution. The posterior of $z = (z_1, \dots, z_T)$ has the precision matrix
# $\Lambda = P + I / r^2$ with the walk's own precision $P$, and the mean $\mu = \Lambda^{-1} x / r^2$. A walk links
# neighbours only, so $P$ has three diagonals:

# %%
T, s, r = 25, 0.5, 1.0


def posterior_precision(a):
    """The precision matrix of z given x."""
    P = torch.diag(torch.full((T,), (1 + a**2) / s**2))
    P[0, 0] = P[-1, -1] = 1 / s**2
    off = torch.full((T - 1,), -a / s**2)
    return P + torch.diag(off, 1) + torch.diag(off, -1) + torch.eye(T) / r**2


a = 0.95
one = torch.eye(1)
walk = LinearGaussianSSM(torch.zeros(1), one * s**2 / (1 - a**2), one * a, one * s**2, one, one * r**2)
x = walk.sample(num_sequences=1, num_steps=T, seed=0).x[0, :, 0]
Lambda = posterior_precision(a)
mean = torch.linalg.solve(Lambda, x / r**2)
log_evidence = kalman.filter(walk, x[None, :, None]).log_marginal_likelihood[0].detach()

smoothed = kalman.smooth(walk, x[None, :, None])
assert torch.allclose(smoothed.smoothed_means[0, :, 0], mean)
assert torch.allclose(smoothed.smoothed_covs[0, :, 0, 0], torch.linalg.inv(Lambda).diagonal())
print(f"log p(x) = {log_evidence:.4f}")

# %% [markdown]
# ## A mean-field guide, and its price
#
# The simplest guide treats the steps as independent: $q(z) = \prod_t N(z_t \mid m_t, v_t)$. Fit $m$ and $v$ to our one
# sequence by gradient steps on the ELBO, with draws $z = m + \sqrt{v}\, \varepsilon$ that the gradient can go through:


# %%
def log_joint(z):
    """log p(x, z) of draws z (N, T)."""
    first = dist.Normal(0.0, s / (1 - a**2) ** 0.5).log_prob(z[:, 0])
    moves = dist.Normal(a * z[:, :-1], s).log_prob(z[:, 1:]).sum(1)
    return first + moves + dist.Normal(z, r).log_prob(x).sum(1)


torch.manual_seed(0)
m, raw = torch.zeros(T, requires_grad=True), torch.zeros(T, requires_grad=True)
optimizer = torch.optim.Adam([m, raw], lr=0.05)
for _ in range(GUIDE_STEPS):
    q = dist.Normal(m, raw.exp())
    z = q.rsample((64,))
    loss = -(log_joint(z) - q.log_prob(z).sum(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    q = dist.Normal(m, raw.exp())
    z = q.sample((4000,))
    log_weights = log_joint(z) - q.log_prob(z).sum(1)
elbo, error = log_weights.mean(), log_weights.std() / 4000**0.5
print(f"ELBO {elbo:.3f} ± {error:.3f}, gap {log_evidence - elbo:.3f} nats")

# %% [markdown]
# Can one predict the gap? The divergence of two normal laws is known. It is smallest for $m = \mu$ and
# $v_t = 1 / \Lambda_{tt}$, where
#
# $$\mathrm{KL} = \frac12 \Big( \sum_t \log \Lambda_{tt} - \log \det \Lambda \Big).$$
#
# No training of such a guide can get below this number. It is zero for a diagonal $\Lambda$, and only then:


# %%
def price(a):
    """The gap of the best mean-field guide, in nats."""
    Lambda = posterior_precision(a)
    return 0.5 * (Lambda.diagonal().log().sum() - torch.logdet(Lambda))


print(f"gap by formula {price(a):.3f}, by gradient steps {log_evidence - elbo:.3f}")
assert abs(log_evidence - elbo - price(a)) < 5 * error + 0.1  # the steps stop near the best guide
assert abs(price(0.0)) < 1e-12

# %% [markdown]
# ## A structured guide: nothing to pay
#
# Which guide has no gap? The posterior itself, written as a chain:
#
# $$p(z_{1:T} \mid x) = \prod_t p(z_t \mid z_{t-1}, x_{t:T}).$$
#
# Given $z_{t-1}$, the past observations say no more about $z_t$: this is d-separation. So a guide must read **the last
# state and the future**. Check it with matrices: draws $z = \mu + L \varepsilon$, where $L$ is the lower triangular
# Cholesky factor of the covariance, come from $L^{-1} (z - \mu) = \varepsilon$. Row $t$ of $L^{-1}$ says on what $z_t$
# depends. It has two entries:

# %%
L = torch.linalg.cholesky(torch.linalg.inv(Lambda))
rows = torch.linalg.inv(L)
assert rows.tril(-2).abs().max() < 1e-9  # nothing before z_{t-1}
print(rows[:4, :4].round(decimals=3) + 0.0)  # + 0.0 turns -0 into 0

z = mean + torch.randn(4000, T) @ L.mT
log_q = dist.MultivariateNormal(mean, scale_tril=L).log_prob(z)
weights = log_joint(z) - log_q
print(f"structured guide: ELBO {weights.mean():.6f}, log p(x) {log_evidence:.6f}, spread {weights.std():.1e}")
assert torch.allclose(weights, log_evidence.expand(4000))

# %% [markdown]
# Every single draw has the weight $\log p(x)$. There is no noise, because $p(x, z) / p(z \mid x) = p(x)$ whatever $z$
# is.
#
# How does the price of independence depend on the model? It rises with the memory of the walk:

# %% alt="Left: price of the mean-field guide per step against the persistence a, which rises from zero. Right: five draws from the mean-field guide, which jump, and five from the posterior, which are smooth"
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
values = torch.linspace(0, 0.99, 34)
left.plot(values, [price(float(value)) / T for value in values], color="black")
left.plot([a], [price(a) / T], "o", color="tab:orange")
left.set_xlabel("persistence $a$")
left.set_ylabel("gap, nats per step")
steps = torch.arange(1, T + 1)
with torch.no_grad():
    right.plot(steps, q.sample((1,))[0], ":", color="tab:orange", label="a draw of the mean-field guide")
    right.plot(steps, z[0], color="black", label="a draw of the posterior")
    right.plot(steps, x, ".", color="tab:gray", label="observations")
right.set_xlabel("step t")
right.set_ylabel("$z_t$")
right.legend(fontsize="small")
plt.show()

# %% [markdown]
# ## One guide for all sequences
#
# We fitted $m$ and $v$ to *one* sequence, and a second sequence would need fitting anew. An **amortised** guide is a
# network that maps any $x$ to its guide, trained once. The deep Markov model of Krishnan et al. has both: a network in
# the model, and a guide that reads what our derivation says it must,
#
# $$q(z_t \mid z_{t-1}, x_{t:T}), \qquad x_{t:T} \text{ summarised by a recurrent network that runs backwards.}$$
#
# Our data: a ball bounces in a box of twelve pixels. A pixel lights up with a probability that falls with its distance
# from the ball. Position and direction are hidden, and to know the direction one must see several steps.

# %%
PIXELS, STEPS = 12, 20


def balls(num, seed):
    """Sequences of pixels, (num, STEPS, PIXELS)."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(num, generator=generator) * (PIXELS - 1)
    speed = 0.7 + 0.8 * torch.rand(num, generator=generator)
    speed = torch.where(torch.rand(num, generator=generator) < 0.5, -speed, speed)
    frames = []
    for _ in range(STEPS):
        distance = torch.arange(PIXELS) - place[:, None]
        light = 0.03 + 0.92 * torch.exp(-(distance**2))
        frames.append((torch.rand(num, PIXELS, generator=generator) < light).double())
        place = place + speed
        outside = (place < 0) | (place > PIXELS - 1)
        place = torch.where(place < 0, -place, torch.where(place > PIXELS - 1, 2 * (PIXELS - 1) - place, place))
        speed = torch.where(outside, -speed, speed)
    return torch.stack(frames, dim=1)


train, test = balls(NUM_BALLS, seed=0), balls(100, seed=1)
torch.manual_seed(0)
dmm = DeepMarkovModel(obs_dim=PIXELS, latent_dim=4, hidden_dim=32)
before = svi.evaluate(dmm, test, bound="elbo", num_particles=10, seed=0).nats_per_step
fit = svi.fit(dmm, train, objective="elbo", num_epochs=NUM_EPOCHS, batch_size=30, learning_rate=1e-2, progress=False)
after = svi.evaluate(dmm, test, bound="elbo", num_particles=10, seed=0)
print(f"at most {before:.2f} nats per step before the training, {after.nats_per_step:.2f} after it")
assert after.nats_per_step < before

# %% [markdown]
# ## The ELBO by hand
#
# The package's number, from the model's four methods. `encode` runs the backward network, `proposal` is
# $q(z_t \mid z_{t-1}, x_{t:T})$. The sum over the steps is $\log p(x, z) - \log q(z \mid x)$ for one draw:


# %%
@torch.no_grad()
def log_weight(model, x):
    """log p(x, z) - log q(z | x) for one draw z per sequence, (batch,)."""
    features = model.encode(x, torch.full((len(x),), x.shape[1]))
    z, total = None, 0.0
    for t in range(x.shape[1]):
        q = model.proposal(z, None, features[:, t])
        prior = model.initial(None) if z is None else model.transition(z, None)
        new = q.sample()
        total = total + prior.log_prob(new) + model.emission(new, None).log_prob(x[:, t]) - q.log_prob(new)
        z = new
    return total


torch.manual_seed(1)
draws = torch.stack([log_weight(dmm, test) for _ in range(20)]).mean(1)  # the mean over the test set, 20 times
by_package = after.log_likelihoods.mean()
error = float(draws.std() / 20**0.5 + draws.std() / 10**0.5)
print(f"by hand {draws.mean():.3f}, by the package {by_package:.3f} nats per sequence, errors about {error:.3f}")
assert abs(draws.mean() - by_package) < 5 * error

# %% [markdown]
# ## Minibatches
#
# The ELBO of a data set is a sum over sequences, $\sum_{i=1}^{n} \mathcal{L}_i$. Take $B$ of them at random and
# multiply by $n / B$: the expectation is the whole sum. The noise falls with $B$, and the work per step does, too. Here
# over a partition of the data, where the mean over all minibatches must be exactly the whole:

# %%
whole = svi.evaluate(dmm, train, bound="elbo", num_particles=1, seed=0).log_likelihoods
order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
for size in (1, 5, 15, 30):
    estimates = torch.stack([len(train) / size * whole[index].sum() for index in order.split(size)])
    print(f"B = {size:2}: mean {estimates.mean():9.1f}, standard deviation {estimates.std():7.1f}")
    assert torch.allclose(estimates.mean(), whole.sum())

# %% [markdown]
# ## The same question in the deep model
#
# How large is the gap now, and how much of it is due to the guide's form? We keep the model as it is and compare two
# guides. The second is the same network with one wire cut: the weights that read $z_{t-1}$ are zero and stay zero, so
# that $q = \prod_t q(z_t \mid x_{t:T})$, a mean-field guide. Both guides are trained further by the same steps, and
# nothing else is.
#
# $\log p(x)$ is not known any more. In its place we take a particle filter's bound with many particles (FIVO, lesson
# 10). It is below $\log p(x)$, so the gaps are at least those printed.


# %%
def with_guide_trained(model, cut):
    """A copy whose guide alone was trained further, with or without the wire from z_{t-1}."""
    twin = copy.deepcopy(model)
    for part in (twin.gated, twin.emitter):
        part.requires_grad_(False)
    twin.z_0.requires_grad_(False)
    if cut:
        twin.combiner.from_z.weight.requires_grad_(False)
        twin.combiner.from_z.weight.zero_()
    svi.fit(twin, train, objective="elbo", num_epochs=GUIDE_EPOCHS, batch_size=30, learning_rate=3e-3, progress=False)
    return twin


structured, mean_field = (with_guide_trained(dmm, cut) for cut in (False, True))
assert all(torch.equal(p, q) for p, q in zip(dmm.emitter.parameters(), mean_field.emitter.parameters(), strict=True))

near = svi.evaluate(structured, test, bound="fivo", num_particles=300, seed=0).log_likelihoods
gaps = {}
for name, model in (("structured", structured), ("mean field", mean_field)):
    gaps[name] = near - svi.evaluate(model, test, bound="elbo", num_particles=20, seed=0).log_likelihoods
    spread = gaps[name].std() / len(test) ** 0.5
    print(f"{name}: gap at least {gaps[name].mean():.2f} ± {spread:.2f} nats per sequence")
difference = gaps["mean field"] - gaps["structured"]
assert difference.mean() > 3 * difference.std() / len(test) ** 0.5

# %% [markdown]
# **A control: another's guide.** An amortised guide is good because it reads *this* sequence. Let it read another one
# of the test set, and the bound is still a bound, but a useless one:


# %%
class Confused(DeepMarkovModel):
    """Its guide reads the sequences in the opposite order of the batch."""

    def encode(self, x, lengths):
        return super().encode(x.flip(0), lengths)


confused = Confused(obs_dim=PIXELS, latent_dim=4, hidden_dim=32)
confused.load_state_dict(structured.state_dict())
wrong = svi.evaluate(confused, test, bound="elbo", num_particles=20, seed=0).log_likelihoods
print(f"gap with another sequence's guide {float((near - wrong).mean()):.0f} nats per sequence")
assert (near - wrong).mean() > 2 * gaps["structured"].mean()

# %% [markdown]
# ## The picture: what the model has learnt
#
# The top row shows three test sequences. The middle row shows where the guide believes the ball to be: the mean of the
# pixels, under the model, at a draw of $q(z \mid x)$. The bottom row shows three sequences that the model invents.

# %% alt="Three rows of three pictures, pixels against time: test sequences of a bouncing ball with noise, their reconstructions without noise, and draws from the model"
with torch.no_grad():
    features = structured.encode(test[:3], torch.full((3,), STEPS))
    z, shown = None, []
    for t in range(STEPS):
        z = structured.proposal(z, None, features[:, t]).sample()
        shown.append(structured.emission(z, None).mean)
    reconstructed = torch.stack(shown, dim=1)
invented = structured.sample(3, STEPS, seed=3).x
figure, panels = plt.subplots(3, 3, figsize=(7, 4.2), sharex=True, sharey=True, layout="constrained")
rows = {"test data": test, "guide, then model": reconstructed, "invented": invented}
for row, (name, pixels) in zip(panels, rows.items(), strict=True):
    row[0].set_ylabel(f"{name}\npixel")
    for panel, picture in zip(row, pixels, strict=False):
        panel.imshow(picture.mT.numpy(), cmap="gray_r", origin="lower", aspect="auto", vmin=0, vmax=1)
for panel in panels[-1]:
    panel.set_xlabel("step t")
plt.show()

# %% [markdown]
# ## Takeaways
#
# - ELBO $= \log p(x) - \mathrm{KL}(q \Vert p(z \mid x))$. The best mean-field guide pays
#   $\frac12 (\sum_t \log \Lambda_{tt} - \log\det \Lambda)$ for a normal posterior, more the longer the states remember.
# - The posterior of a chain is $\prod_t p(z_t \mid z_{t-1}, x_{t:T})$. A guide of this form has no gap in principle.
# - An amortised guide is one network for all sequences. It is trained by minibatches, whose scaled sums are unbiased.
# - A guide's form can be judged on a fixed model only. Trained together, a model bends towards what its guide can say.
#
# ## Exercises
#
# ### Exercise 1: too sure of itself
#
# Compare the variances of the best mean-field guide, $1 / \Lambda_{tt}$, with the true posterior variances. Which are
# smaller, always, and why?
#
# <details>
# <summary>Solution</summary>
#
# $1 / \Lambda_{tt}$ is the variance of $z_t$ *given all other states*, and $(\Lambda^{-1})_{tt}$ that of $z_t$ alone.
# Knowing more never increases the variance of a normal law. The guide avoids places where the posterior is small, and
# so it is too narrow.
#
# ```python
# guided = 1 / Lambda.diagonal()
# true = torch.linalg.inv(Lambda).diagonal()
# print(f"ratio of the variances from {(guided / true).min():.2f} to {(guided / true).max():.2f}")
# assert (guided < true).all()
# ```
#
# </details>
#
# ### Exercise 2: a guide that cannot see the future
#
# Use $q(z_t \mid z_{t-1}, x_t) \propto p(z_t \mid z_{t-1})\, p(x_t \mid z_t)$ for the walk. It reads the last state and
# the present. Write it in closed form, estimate its ELBO from 4000 draws, and compare its gap with those of the two
# guides of the lesson.
#
# <details>
# <summary>Solution</summary>
#
# A product of two normal densities: precisions add up, $1/s^2 + 1/r^2$, and the mean is weighted by them. At the first
# step the walk's own variance $s^2 / (1 - a^2)$ takes the place of $s^2$.
#
# ```python
# torch.manual_seed(2)
# z, log_q = [], 0.0
# for t in range(T):
#     variance = s**2 / (1 - a**2) if t == 0 else s**2
#     prior_mean = torch.zeros(4000) if t == 0 else a * z[-1]
#     precision = 1 / variance + 1 / r**2
#     law = dist.Normal((prior_mean / variance + x[t] / r**2) / precision, precision**-0.5)
#     z.append(law.sample())
#     log_q = log_q + law.log_prob(z[-1])
# found = log_joint(torch.stack(z, dim=1)) - log_q
# gap, error = float(log_evidence - found.mean()), float(found.std() / 4000**0.5)
# print(f"gap {gap:.2f} ± {error:.2f}; structured 0, mean field {price(a):.2f}")
# assert gap > 5 * error
# ```
#
# </details>
#
# ### Exercise 3: many draws
#
# The mean of the *logarithms* of the weights is the ELBO. Take the logarithm of the *mean* of $K$ weights instead, for
# $K = 1, 10, 100$, with the fitted mean-field guide. By how much does the gap shrink?
#
# <details>
# <summary>Solution</summary>
#
# This is the importance weighted bound (IWAE) of lesson 10. It lies between the ELBO and $\log p(x)$ in expectation,
# and rises with $K$.
#
# ```python
# torch.manual_seed(3)
# with torch.no_grad():
#     z = dist.Normal(m, raw.exp()).sample((40_000,))
#     log_w = log_joint(z) - dist.Normal(m, raw.exp()).log_prob(z).sum(1)
# bounds = [float((log_w.view(-1, K).logsumexp(1) - torch.tensor(float(K)).log()).mean()) for K in (1, 10, 100)]
# print("gaps", [f"{float(log_evidence) - bound:.2f}" for bound in bounds])
# assert bounds[0] < bounds[1] < bounds[2] < log_evidence
# ```
#
# </details>
#
# ## Further reading
#
# - D. P. Kingma, M. Welling (2014). *Auto-encoding variational Bayes.* Amortised guides, and gradients through draws.
# - R. G. Krishnan, U. Shalit, D. Sontag (2017). *Structured inference networks for nonlinear state space models.* The
#   deep Markov model, its gated transition, and which guide must read what.
# - J. Sohl-Dickstein, D. P. Kingma (2015). *Note on Equivalence Between Recurrent Neural Network Time Series Models and
#   Variational Bayesian Models.* The case in which the guide has no gap at all; lesson 2.
