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
# # 12. Linear recurrences and scans
#
# **The idea.** Take the activation out of a recurrent network, or the noise out of a linear dynamical system, and the
# same thing is left: $h_t = a_t h_{t-1} + b_t$. Such steps compose as matrices do, so all $T$ states can be found in
# $2 \log_2 T$ rounds. The Kalman filter is of this kind, and so are many layers of today.
#
# - **Level:** intermediate. **Minutes:** 60, with the exercises 110.
# - **You need:** the Kalman filter of lesson 6; the gates of lesson 11; a training loop in torch.
# - **Afterwards you can:** write a scan, say which recurrences have one, read a gate as a Kalman gain, and say what a gate
#   that reads the data can do and a constant one cannot.

# %% tags=["parameters"] short={"NUM_STEPS": 40, "NUM_UPDATES": 120}
NUM_STEPS = 60  # steps of a sequence in the memory task
NUM_UPDATES = 300  # steps of training in the memory task

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal

from pgm_rnn.claims import CLAIMS, check
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import kalman
from pgm_rnn.kernels.scan import associative_scan
from pgm_rnn.models import RNN, LinearGaussianSSM, Tagger

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## One after the other
#
# The linear dynamical system and the recurrent network, as Vidal's slides put them beside each other:
#
# $$z_t = A z_{t-1} + B u_t + w_t, \qquad\qquad z_{t+1} = g(A z_t + W x_t) + w_t .$$
#
# With $w = 0$ and $g$ the identity both are $h_t = a_t h_{t-1} + b_t$, where $a_t$ and $b_t$ may read the input but not the
# state. A loop needs $T$ steps, and each waits for the one before:


# %%
def loop(a, b):
    """h_1, ..., h_T from h_0 = 0, entry by entry: a and b are (T, D)."""
    h, states = torch.zeros(b.shape[1]), []
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states)


T = 1000
a, b = torch.rand(T, 3), torch.randn(T, 3)
states = loop(a, b)

# %% [markdown]
# ## All at once
#
# One step is the map $h \mapsto a h + b$. The map of two steps is of the same kind:
#
# $$(a, b) * (a', b') = (a' a,\; a' b + b').$$
#
# The operation $*$ is associative, because composing maps is. So multiply neighbours, $e_1 * e_2$, $e_3 * e_4$, ..., all
# at once. Their prefixes are the states $h_2, h_4, \dots$, found in the same way, with half as many elements. The states in
# between are one more step each:


# %%
def compose(earlier, later):
    """The map of the earlier and then the later step."""
    return earlier[0] * later[0], later[0] * earlier[1] + later[1]


def scan(operator, elements):
    """Prefixes e_1, e_1 * e_2, ... of elements with time on the first axis; and the number of rounds."""
    num_steps = len(elements[0])
    if num_steps == 1:
        return elements, 0
    even, odd = [e[0 : num_steps - 1 : 2] for e in elements], [e[1::2] for e in elements]
    pairs, rounds = scan(operator, operator(even, odd))  # prefixes 2, 4, 6, ...
    rest = [e[2::2] for e in elements]  # elements 3, 5, ...
    between = operator([p[: len(rest[0])] for p in pairs], rest)
    found = []
    for first, pair, other in zip(elements, pairs, between, strict=True):
        whole = torch.empty_like(first)
        whole[0], whole[1::2], whole[2::2] = first[0], pair, other
        found.append(whole)
    return found, rounds + 2


(_, by_scan), rounds = scan(compose, (a, b))
_, by_package = associative_scan(compose, (a, b))
print(f"largest difference from the loop: from scratch {(by_scan - states).abs().max():.1e},", end=" ")
print(f"package {(by_package - states).abs().max():.1e}; {rounds} rounds in place of {T} steps")
assert torch.allclose(by_scan, states)
assert torch.allclose(by_package, states)
assert rounds <= 2 * math.log2(T) + 2

# %% alt="Number of operations one after the other against the number of steps on logarithmic axes: the loop rises in proportion, the scan hardly rises at all"
sizes = [2**k for k in range(2, 15)]
depth = [scan(compose, (torch.rand(n, 1), torch.rand(n, 1)))[1] for n in sizes]
assert depth == [2 * int(math.log2(n)) for n in sizes]
figure, axes = plt.subplots(figsize=(5, 3))
axes.loglog(sizes, sizes, "--", color="black", label="loop: T")
axes.loglog(sizes, depth, "o-", markersize=4, label=r"scan: $2\,\log_2 T$")
axes.set_xlabel("steps T")
axes.set_ylabel("operations that wait\nfor each other")
axes.legend()
plt.show()

# %% [markdown]
# The scan does about twice the work of the loop. On a CPU with few cores the loop wins; on a GPU, which does thousands
# of products at once, waiting is what costs, and the scan wins.
#
# **What breaks: dividing.** There is a shorter formula, with cumulative products $p_t = a_1 \cdots a_t$:
# $h_t = p_t \sum_{k \le t} b_k / p_k$. It is right, and useless: $p_t$ leaves the range of the numbers.

# %%
products = a.cumprod(0)
short_formula = products * (b / products).cumsum(0)
wrong = ~torch.isclose(short_formula, states).all(1)
print(f"from step {int(wrong.nonzero()[0]) + 1} on it is wrong, at the end it says {short_formula[-1].tolist()}")
assert torch.allclose(short_formula[:5], states[:5])
assert not torch.isfinite(short_formula[-1]).any()

# %% [markdown]
# **What breaks: an activation.** With a $\tanh$ around each step there is no pair of numbers that stands for two steps.
# Composing the pairs as if there were gives other states:

# %%
h, squashed = torch.zeros(3), []
for a_t, b_t in zip(a, b, strict=True):
    h = torch.tanh(a_t * h + b_t)
    squashed.append(h)
apart = (torch.tanh(by_scan) - torch.stack(squashed)).abs().max()
print(f"tanh after the scan, and tanh in each step: {apart:.2f} apart")
assert apart > 0.1

result = check(CLAIMS["scan-is-recursion"], quick=True)
print(f"{result.statement}: {result.verdict}")
assert result.verdict == "holds"

# %% [markdown]
# ## The Kalman filter is such a layer
#
# A level that wanders, seen in noise: $z_t = z_{t-1} + w_t$ with variance $q$, and $x_t = z_t + v_t$ with variance $r$. The
# filter's mean is
#
# $$m_t = m_{t-1} + k_t (x_t - m_{t-1}) = (1 - k_t)\, m_{t-1} + k_t\, x_t .$$
#
# The gain $k_t$ comes from the variances alone: no $x$ is in it. So this is a linear recurrence, with $a_t = 1 - k_t$ and
# $b_t = k_t x_t$, and a scan filters all steps at once:

# %%
q, r, one = 0.04, 1.0, torch.eye(1)
level = LinearGaussianSSM(torch.zeros(1), one, one, q * one, one, r * one).requires_grad_(False)
data = level.sample(num_sequences=1, num_steps=100, seed=1)
x = data.x[0]  # (100, 1)

variance, gains = 1.0, []
for _ in range(len(x)):
    gain = variance / (variance + r)
    gains.append(gain)
    variance = (1 - gain) * variance + q
k = torch.tensor(gains)[:, None]
_, by_scan = associative_scan(compose, (1 - k, k * x))
found = kalman.filter(level, data.x)
print(f"scan {by_scan[-1].item():.10f}, engine {found.filtered_means[0, -1].item():.10f}")
assert torch.allclose(by_scan, found.filtered_means[0])

# %% [markdown]
# Soon the gain no longer changes. The variance before the update then solves $p = p - p^2 / (p + r) + q$:
#
# $$p = \tfrac12 \big(q + \sqrt{q^2 + 4 q r}\big), \qquad k = \frac{p}{p + r}.$$
#
# **A gate is a gain.** The minimal gated unit of Feng et al. (2024), the *minGRU*, is a GRU whose gate and candidate do not
# read the state:
#
# $$h_t = (1 - s_t)\, h_{t-1} + s_t\, n_t, \qquad s_t = \sigma(w\, x_t + c), \qquad n_t = v\, x_t + d .$$
#
# With $w = 0$, $\sigma(c) = k$ and $n_t = x_t$ it *is* the steady Kalman filter. We set the weights of the package's cell:

# %%
p = (q + math.sqrt(q**2 + 4 * q * r)) / 2
steady = p / (p + r)
rnn = RNN(cell="min-gru", emission=Gaussian(1), hidden_dim=1)
weights = dict(rnn.named_parameters())
with torch.no_grad():
    weights["cell.layers.0.input.weight"].copy_(torch.tensor([[0.0], [1.0]]))  # w, v
    weights["cell.layers.0.input.bias"].copy_(torch.tensor([math.log(steady / (1 - steady)), 0.0]))  # c, d
    h, means = torch.zeros(1), []
    for x_t in x:
        h = rnn.recurrence(h, None, x_t)
        means.append(h)
network = torch.stack(means)
print(f"gain of the last step {gains[-1]:.6f}, steady {steady:.6f}")
print(f"last means: filter {found.filtered_means[0, -1].item():.8f}, minGRU {network[-1].item():.8f}")
assert abs(gains[-1] - steady) < 1e-9
assert torch.allclose(network[-1], found.filtered_means[0, -1], atol=1e-6)
assert check(CLAIMS["kalman-gate"], quick=True).verdict == "holds"

# %% [markdown]
# **A control.** Take any other gate. It is still a network that runs, and a worse filter:

# %%
tracks = level.sample(num_sequences=200, num_steps=200, seed=2)
gates, losses = torch.linspace(0.02, 0.9, 45), []
for gate in gates:
    _, means = associative_scan(compose, ((1 - gate).expand(200, 200, 1), gate * tracks.x.transpose(0, 1)))
    losses.append(float((means[50:] - tracks.z.transpose(0, 1)[50:]).square().mean()))
best = float(gates[torch.tensor(losses).argmin()])
print(f"best gate of the grid {best:.2f}, gain {steady:.3f}")
assert abs(best - steady) < 0.05
assert losses[-1] > 3 * min(losses)

# %% alt="Two panels: on the left the measured series as dots, the true level and the filter's mean; on the right the mean square error against a constant gate, with its minimum at the Kalman gain"
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", width_ratios=(1.6, 1))
axes[0].plot(x[:, 0], ".", color="grey", markersize=4, label="measured")
axes[0].plot(data.z[0, :, 0], color="black", linewidth=1, label="true level")
axes[0].plot(network[:, 0], "--", linewidth=2, label="minGRU with gate k")
axes[0].set_xlabel("step")
axes[0].set_ylabel("level")
axes[0].legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
axes[1].semilogy(gates, losses)
axes[1].axvline(steady, color="black", linestyle=":", label="Kalman gain")
axes[1].set_xlabel("gate")
axes[1].set_ylabel("mean square error")
axes[1].legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()

# %% [markdown]
# ## From a little noise to none
#
# What is lost if we drop the noise of the state? Let a system read the past observation, as networks do:
# $z_t = 0.8 z_{t-1} + 0.5 x_{t-1} + s\, e_t$ and $x_t = z_t + v_t$. At $s = 0$ it is a linear network, whose likelihood a
# loop finds. The Kalman filter finds it for $s > 0$. The claim `linear-rnn-limit` says that their difference is
# proportional to $s^2$:

# %%
without, z = 0.0, torch.zeros(())
series = torch.randn(40)
for t, x_t in enumerate(series):
    z = 0.8 * z + 0.5 * series[t - 1] if t > 0 else z
    without = without + Normal(z, 1.0).log_prob(x_t)

before = torch.cat([torch.zeros(1), series[:-1]])[None, :, None]
scales, differences = [0.3, 0.1, 0.03, 0.01], []
for s in scales:
    noisy = LinearGaussianSSM(torch.zeros(1), s**2 * one, 0.8 * one, s**2 * one, one, one, 0.5 * one, 0 * one)
    value = kalman.filter(noisy, series[None, :, None], inputs=before).log_marginal_likelihood[0]
    differences.append(float(value - without))
    print(f"s = {s:4}: log p_s - log p_0 = {differences[-1]:+.6f}, over s^2 {differences[-1] / s**2:+.3f}")
slope = math.log(differences[-2] / differences[-1]) / math.log(scales[-2] / scales[-1])
assert abs(slope - 2) < 0.05
assert check(CLAIMS["linear-rnn-limit"], quick=True).verdict == "holds"

# %% [markdown]
# ## A gate that reads the data
#
# A Kalman gain is blind to the data, and so is the *linear recurrent unit* (LRU) of Orvieto et al. (2023): its $a$ is a
# constant, a complex number per unit inside the unit circle. Constant coefficients make the state a fixed weighting of the
# past, $h_t = \sum_k a^k b_{t-k}$. The minGRU chooses $a_t = 1 - s_t$ by what it reads. When does that matter?
#
# **The task.** The symbols 0 and 1 are written down; 2 and 3 are noise. At each step, say which of 0 and 1 was written
# last.


# %%
def notes(num, seed):
    """Sequences, the last written symbol at each step, and the number of steps since then."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(2, 4, (num, NUM_STEPS), generator=generator)
    written = torch.rand(num, NUM_STEPS, generator=generator) < 0.08
    written[:, 0] = True
    x[written] = torch.randint(2, (int(written.sum()),), generator=generator)
    steps = torch.arange(NUM_STEPS)
    last = torch.where(written, steps, 0).cummax(1).values
    return x, x.gather(1, last), steps - last


def trained(cell):
    torch.manual_seed(1)
    tagger = Tagger(cell, num_symbols=4, num_labels=2, hidden_dim=4)
    optimizer = torch.optim.Adam(tagger.parameters(), lr=0.03)
    for step in range(NUM_UPDATES):
        x, y, _ = notes(32, seed=step)
        loss = -tagger.log_prob(y, x).mean() / NUM_STEPS
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return tagger


torch.manual_seed(1)
taggers = {"lru": trained("lru"), "min-gru": trained("min-gru")}
new, label, age = notes(1000, seed=10**6)
loss, by_age = {}, {}
ages = [0, 1, 2, 4, 8, 16, 24]
for name, tagger in taggers.items():
    log_p = tagger.label_law(new).logits.log_softmax(-1).gather(-1, label[..., None])[..., 0].detach()
    loss[name] = -float(log_p.mean())
    by_age[name] = [-float(log_p[age == n].mean()) for n in ages]
    print(
        f"{name:8} loss {loss[name]:.4f} nats; by age:",
        *(f"{n}: {v:.3f}" for n, v in zip(ages, by_age[name], strict=True)),
    )
assert loss["min-gru"] < loss["lru"] / 2

# %% alt="Loss against the number of steps since the last written symbol: the minGRU's stays near zero, the one of the LRU with constant coefficients rises"
figure, axes = plt.subplots(figsize=(5.5, 3))
axes.plot(ages, by_age["lru"], "s--", color="black", label="LRU: constant coefficients")
axes.plot(ages, by_age["min-gru"], "o-", label="minGRU: a gate that reads")
axes.axhline(math.log(2), color="grey", linestyle=":")
axes.annotate("log 2: a guess", (ages[-1], math.log(2)), xytext=(0, -12), textcoords="offset points", ha="right")
axes.set_xlabel("steps since the symbol was written")
axes.set_ylabel("loss, nats")
axes.legend(fontsize=8, loc="center left")
plt.show()

# %% [markdown]
# What has the gate learnt? It should open for 0 and 1, and close for noise: a gate of $s$ leaves $(1 - s)^n$ of a note
# after $n$ steps of noise.

# %%
cell = dict(taggers["min-gru"].named_parameters())
weight, bias = (next(v for n, v in cell.items() if n.endswith(f"input.{part}")).detach() for part in ("weight", "bias"))
gate = torch.sigmoid(weight[:4] + bias[:4, None])  # (unit, symbol): inputs are indicators of the symbols
kept = 1 - gate
holding = kept[:, 2:].min(1).values.argmax()
print("gates of the unit that holds best, for the symbols 0, 1, 2, 3:", *(f"{v:.3f}" for v in gate[holding]))
assert gate[holding, :2].min() > 5 * gate[holding, 2:].max()

# %% [markdown]
# This is what Mamba's authors call selection (Gu and Dao, 2023): with one state per channel, their layer is a minGRU whose
# candidate is its input. All of it stays linear in the state, so the scan still runs. What no layer of this kind has is a
# noise of the state, and so it has no uncertainty, no smoother and no missing observations summed out: for those, use the
# other end of the line, lesson 6.
#
# ## Takeaways
#
# - $h_t = a_t h_{t-1} + b_t$ is what an RNN without activation and an LDS without noise have in common.
# - Affine maps compose associatively, so all states are prefixes, found in $2 \log_2 T$ rounds; an activation ends that.
# - The Kalman filter is a linear recurrence with a computed gate. A minGRU learns its gate.
# - As the noise of the state goes to zero, the log likelihoods of system and network differ by a multiple of its variance.
# - Constant coefficients weigh the past by age. A gate that reads the data weighs it by content.
#
# ## Exercises
#
# ### Exercise 1: the forward algorithm by a scan
#
# In an HMM $\alpha_t = \mathrm{diag}(p(x_t \mid \cdot))\, A^\top \alpha_{t-1}$ is a linear recurrence, too, with matrices.
# Find all filtered probabilities with `associative_scan`. Products of 300 matrices underflow: let an element be a matrix
# and the logarithm of a factor that was divided out.
#
# <details>
# <summary>Solution</summary>
#
# The product of $(M, c)$ and $(M', c')$ is $M' M$ divided by its sum, with $c + c'$ plus the logarithm of the sum.
#
# ```python
# from pgm_rnn.inference import forward_backward
# from pgm_rnn.models import HMM
#
# hmm = HMM.random(num_states=3, num_symbols=4, seed=0).requires_grad_(False)
# words = hmm.sample(num_sequences=1, num_steps=300, seed=0).x
# likelihood = hmm.emission_probs[:, words[0]].T  # (T, K)
# matrices = likelihood[:, :, None] * hmm.transition_probs.T
# matrices[0] = (likelihood[0] * hmm.initial_probs)[:, None] * torch.tensor([1.0, 0.0, 0.0])  # alpha_1 in one column
#
#
# def multiply(earlier, later):
#     product = later[0] @ earlier[0]
#     total = product.sum((-1, -2))
#     return product / total[:, None, None], earlier[1] + later[1] + total.log()
#
#
# products, logs = associative_scan(multiply, (matrices, torch.zeros(300)))
# alpha = products[:, :, 0]
# exact = forward_backward.filter(hmm, words)
# assert torch.allclose(alpha / alpha.sum(1, keepdim=True), exact.filtered_probs[0])
# assert torch.allclose(logs[-1] + alpha[-1].sum().log(), exact.log_marginal_likelihood[0])
# ```
#
# </details>
#
# ### Exercise 2: why the LRU multiplies its input
#
# The LRU is $h_t = \lambda h_{t-1} + \gamma\, u_t$ with $\gamma = \sqrt{1 - |\lambda|^2}$. Feed it white noise. What is the
# variance of $h_t$ after many steps with this $\gamma$, and with $\gamma = 1$, for $|\lambda| = 0.999$?
#
# <details>
# <summary>Solution</summary>
#
# The variance solves $V = |\lambda|^2 V + \gamma^2$, so $V = \gamma^2 / (1 - |\lambda|^2)$: it is 1 for every $\lambda$,
# where $\gamma = 1$ gives 500. Units that remember for long would drown the others.
#
# ```python
# rotation = torch.polar(torch.tensor(0.999), torch.tensor(0.3))
# noise = torch.randn(20_000, 50).to(rotation.dtype)
# variances = {}
# for gamma in (math.sqrt(1 - 0.999**2), 1.0):
#     _, found_states = associative_scan(compose, (rotation.expand(20_000, 50), gamma * noise))
#     variances[gamma] = float(found_states[10_000:].abs().square().mean())
#     print(f"gamma = {gamma:.3f}: variance {variances[gamma]:.2f}")
# small, large = variances.values()
# assert abs(small - 1) < 0.2
# assert large > 300
# ```
#
# </details>
#
# ### Exercise 3: how long does a filter remember?
#
# An observation's share in $m_t$ falls like $(1 - k)^n$. Show that for small $q / r$ the steady gain is about
# $\sqrt{q / r}$, so that the memory is about $\sqrt{r / q}$ steps long. Which bias $c$ starts a minGRU with a memory of
# $\tau$ steps? Compare with lesson 11.
#
# <details>
# <summary>Solution</summary>
#
# For small $q$, $p \approx \sqrt{q r}$ and $k \approx p / r = \sqrt{q / r}$. The gate should be $1 / \tau$, so
# $c = \log \frac{1 / \tau}{1 - 1 / \tau} = -\log(\tau - 1)$: the negative of lesson 11's bias, because there the gate is
# what is kept, and here it is what is taken.
#
# ```python
# for ratio in (1e-2, 1e-4, 1e-6):
#     p_small = (ratio + math.sqrt(ratio**2 + 4 * ratio)) / 2
#     k_small = p_small / (p_small + 1)
#     print(f"q / r = {ratio:.0e}: k = {k_small:.5f}, square root {math.sqrt(ratio):.5f}")
# assert abs(k_small / math.sqrt(ratio) - 1) < 1e-3
# tau = 50
# assert abs(float(torch.sigmoid(torch.tensor(-math.log(tau - 1)))) - 1 / tau) < 1e-12
# ```
#
# </details>
#
# ## Further reading
#
# - G. E. Blelloch (1990). *Prefix sums and their applications.* Scans, before there were GPUs.
# - E. Martin, C. Cundy (2018). *Parallelizing linear recurrent neural nets over sequence length.* The scan for networks.
# - A. Orvieto, S. L. Smith, A. Gu, A. Fernando, C. Gulcehre, R. Pascanu, S. De (2023). *Resurrecting recurrent neural
#   networks for long sequences.* The LRU.
# - A. Gu, T. Dao (2023). *Mamba: linear-time sequence modeling with selective state spaces.* Coefficients that read the
#   input.
# - L. Feng, F. Tung, M. O. Ahmed, Y. Bengio, H. Hajimirsadeghi (2024). *Were RNNs all we needed?* The minGRU.
# - S. Särkkä, Á. F. García-Fernández (2021). *Temporal parallelization of Bayesian smoothers.* Filter and smoother by scans,
#   covariances included.
