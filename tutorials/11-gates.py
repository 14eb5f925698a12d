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
# # 11. Vanishing gradients and gates
#
# **The idea.** The gradient of a loss at step $T$ reaches step 1 as a product of $T - 1$ matrices, and long products
# vanish or explode. A gate replaces the product by a path on which little is multiplied, provided that the gate is
# open. A second network that reads backwards shortens no path, but it adds what the first cannot know.
#
# - **Level:** intermediate. **Minutes:** 60, with the exercises 110.
# - **You need:** the chain rule, eigenvalues, and a training loop in torch. Lesson 3 for the last section.
# - **Afterwards you can:** compute how fast a network forgets, start an LSTM or a GRU so that it can learn over many
#   steps, and say what a bidirectional network knows that a forward one cannot.

# %% tags=["parameters"] short={"NUM_STEPS": 40, "NUM_UPDATES": 90, "NUM_STARTS": 1, "TAG_UPDATES": 60}
NUM_STEPS = 60  # steps between a symbol and the question about it
NUM_UPDATES = 120  # steps of training in the memory task
NUM_STARTS = 2  # random starts of each network
TAG_UPDATES = 150  # steps of training of the two taggers

# %%
import itertools
import math

import matplotlib.pyplot as plt
import torch

from pgm_rnn.claims import CLAIMS, check
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.inference import forward_backward
from pgm_rnn.models import HMM, RNN, BidirectionalRNN, Tagger

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## A gradient is a product
#
# A plain (Elman) network updates its memory by
#
# $$h_{t+1} = \tanh(W x_t + b + U h_t).$$
#
# Suppose that the loss depends on $h_T$. By the chain rule its gradient in $h_1$ is
#
# $$\frac{\partial h_T}{\partial h_1} = \prod_{t=T-1}^{1} \mathrm{diag}(1 - h_{t+1}^2)\; U,$$
#
# since the slope of $\tanh$ at $a$ is $1 - \tanh(a)^2$. We multiply by hand, and let torch differentiate the package's
# recurrence:

# %%
DIM = 4
torch.manual_seed(0)
elman = RNN(cell="elman", emission=Bernoulli(2), hidden_dim=DIM)
U = dict(elman.named_parameters())["cell.network.weight_hh_l0"].detach()
x = torch.randint(2, (10, 2)).double()

h, product = elman.initial_memory.detach(), torch.eye(DIM)
for x_t in x:
    h = elman.recurrence(h, None, x_t).detach()
    product = torch.diag(1 - h**2) @ U @ product


def jacobian(rnn, x):
    """The derivative of the memory after the inputs x in the memory before them."""

    def run(h):
        for x_t in x:
            h = rnn.recurrence(h, None, x_t)
        return h

    return torch.autograd.functional.jacobian(run, rnn.initial_memory.detach())


by_autograd = jacobian(elman, x)
print(f"norm after 10 steps: by hand {product.norm():.3e}, by autograd {by_autograd.norm():.3e}")
assert torch.allclose(product, by_autograd)

# %% [markdown]
# ## How fast? Eigenvalues decide
#
# Leave $\tanh$ out for a moment. Then the product is a power, $U^n$ with $n = T - 1$. With $U = V \Lambda V^{-1}$ and
# the eigenvalue $\lambda_1$ of the largest modulus,
#
# $$|\lambda_1|^n \;\le\; \lVert U^n \rVert \;\le\; \lVert V \rVert\, \lVert V^{-1} \rVert\; |\lambda_1|^n .$$
#
# The logarithm of the norm is a line whose slope is $\log|\lambda_1|$, up to a constant. With $\tanh$, slopes below one
# enter at every step. If $U$ stretches all directions alike, the gradient then falls faster than the line:


# %%
def network(cell, U):
    """A network of this cell with the recurrent matrix U and small random input weights."""
    torch.manual_seed(1)
    rnn = RNN(cell=cell, emission=Bernoulli(2), hidden_dim=len(U))
    weights = dict(rnn.named_parameters())
    with torch.no_grad():
        weights["cell.network.weight_hh_l0"].copy_(U)
        weights["cell.network.weight_ih_l0"].normal_(std=0.3)
        weights["cell.network.bias_ih_l0"].zero_()
        weights["cell.network.bias_hh_l0"].zero_()
    return rnn


rotation = torch.nn.init.orthogonal_(torch.empty(DIM, DIM))
inputs = torch.randint(2, (50, 2)).double()
lengths = [1, 5, 10, 20, 30, 40, 50]
norms = {}
for radius in (0.9, 1.0, 1.1):
    for cell in ("elman-linear", "elman"):
        rnn = network(cell, radius * rotation)
        norms[radius, cell] = [float(torch.linalg.matrix_norm(jacobian(rnn, inputs[:n]), 2)) for n in lengths]

for radius in (0.9, 1.0, 1.1):
    expected = torch.tensor([radius**n for n in lengths])
    assert torch.allclose(torch.tensor(norms[radius, "elman-linear"]), expected)
    assert (torch.tensor(norms[radius, "elman"]) <= expected * (1 + 1e-9)).all()  # up to rounding

# %% alt="Norm of the derivative against the number of steps on a logarithmic axis: three straight lines for linear networks, which fall, stay and rise, and three lower curves with tanh"
figure, axes = plt.subplots(figsize=(7, 3.2))
for (radius, cell), values in norms.items():
    linear = cell == "elman-linear"
    marker = {0.9: "v", 1.0: "o", 1.1: "^"}[radius]
    label = rf"$|\lambda_1| = {radius}$" + (", linear" if linear else ", tanh")
    axes.semilogy(lengths, values, "-" if linear else "--", marker=marker, markersize=4, label=label)
axes.set_xlabel("steps n")
axes.set_ylabel(r"$\Vert \partial h_{n+1} / \partial h_1 \Vert$")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# The package states this as a *claim*: two routes to one number, a tolerance, and a control that must fail. For linear
# dynamics the rate lies between $\log|\lambda_1|$ and a constant over $n$ above it. The control puts $\tanh$ in:

# %%
for name in ("vanishing-gradient", "vanishing-gradient-tanh"):
    result = check(CLAIMS[name], quick=True)
    print(f"{result.statement}\n  {result.verdict}: residual {result.residual:.1e}, tolerance {result.tolerance:.1e},")
    print(f"  control {result.control_residual:.1e}\n")
    assert result.verdict == "holds"

# %% [markdown]
# **What breaks: the direction.** It is tempting to say that every gradient follows $|\lambda_1|^n$, and Vidal's slides
# do; lesson 15 is about such slips. The gradient of a loss $v^\top h_T$ is $(U^\top)^n v$, and the loss chooses $v$.
# Here the matrix explodes while the gradient vanishes:

# %%
A = torch.diag(torch.tensor([2.0, 0.5]))
v = torch.tensor([0.0, 1.0])
n = 10
print(f"norm of A^n {torch.linalg.matrix_power(A, n).norm():.1f}, gradient {torch.linalg.matrix_power(A.mT, n) @ v}")
assert torch.linalg.matrix_power(A, n).norm() > 1000
assert (torch.linalg.matrix_power(A.mT, n) @ v).norm() < 1e-3

# %% [markdown]
# ## The gate: a path on which little is multiplied
#
# A long short-term memory (LSTM) has a second vector, the memory cell $c_t$. It is kept and added to, entry by entry:
#
# $$
# \begin{aligned}
# i &= \sigma(W_i x_t + b_i + U_i h_t), \qquad f \text{ and } o \text{ likewise}, \qquad g = \tanh(W_g x_t + b_g + U_g h_t),\\
# c_{t+1} &= f \odot c_t + i \odot g, \qquad h_{t+1} = o \odot \tanh(c_{t+1}).
# \end{aligned}
# $$
#
# In five lines, and by the package. Its memory vector is $(h_t, c_t)$:

# %%
torch.manual_seed(2)
lstm = RNN(cell="lstm", emission=Bernoulli(2), hidden_dim=DIM)
weights = {name.rpartition(".")[2]: w.detach() for name, w in lstm.named_parameters() if "network" in name}


def lstm_step(h, c, x_t):
    """The equations above; torch stacks the gates in the order i, f, g, o."""
    total = weights["weight_ih_l0"] @ x_t + weights["bias_ih_l0"] + weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]
    i, f, g, o = total.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


h, c = torch.randn(DIM), torch.randn(DIM)
by_hand = torch.cat(lstm_step(h, c, x[0]))
by_package = lstm.recurrence(torch.cat([h, c]), None, x[0]).detach()
print(by_hand[:3], by_package[:3])
assert torch.allclose(by_hand, by_package)

# %% [markdown]
# On the direct path from $c_t$ to $c_{t+1}$ the derivative is $\mathrm{diag}(f)$: a number between zero and one per
# unit, and no matrix. Over $n$ steps it is $\prod_t f_t$. That is still a product! It stays near one only where the
# gate is open. Networks start with biases near zero, where $f \approx \sigma(0) = 1/2$, and $2^{-60} \approx 10^{-18}$.
#
# If the gate should hold for about $\tau$ steps, ask for $f = 1 - 1/\tau$, for $(1 - 1/\tau)^\tau \approx 1/e$:
#
# $$\sigma(b_f) = 1 - \frac{1}{\tau} \quad\Longleftrightarrow\quad b_f = \log(\tau - 1).$$


# %%
def opened(model, tau):
    """Add log(tau - 1) to the bias of the gate that keeps: f of an LSTM, s of a GRU. Both come second in torch."""
    weights = dict(model.named_parameters())
    size = weights["cell.network.weight_hh_l0"].shape[1]
    with torch.no_grad():
        weights["cell.network.bias_hh_l0"][size : 2 * size] += math.log(tau - 1)
    return model


def made(cell, hidden_dim=8):
    torch.manual_seed(3)
    return RNN(cell=cell, emission=Bernoulli(2), hidden_dim=hidden_dim)


candidates = {
    "Elman": made("elman"),
    "LSTM as torch starts it": made("lstm"),
    "LSTM, gate opened": opened(made("lstm"), tau=NUM_STEPS),
    "GRU, gate opened": opened(made("gru"), tau=NUM_STEPS),
}
inputs = torch.randint(2, (NUM_STEPS, 2)).double()
lengths = sorted({1, 2, 5, *range(10, NUM_STEPS + 1, 10)})
reach = {
    name: [float(torch.linalg.matrix_norm(jacobian(rnn, inputs[:n]), 2)) for n in lengths]
    for name, rnn in candidates.items()
}
for name, values in reach.items():
    print(f"{name:24} {values[-1]:.1e} after {NUM_STEPS} steps")
assert reach["Elman"][-1] < 1e-4
assert reach["LSTM as torch starts it"][-1] < 1e-4
assert reach["LSTM, gate opened"][-1] > 0.05
assert reach["GRU, gate opened"][-1] > 0.05

# %% alt="Norm of the derivative of the memory against the number of steps for four networks: the Elman network and the LSTM as torch starts it fall in a line, the two with opened gates stay near one"
figure, axes = plt.subplots(figsize=(7, 3.4))
for (name, values), style in zip(reach.items(), ("-", "--", "-.", ":"), strict=True):
    axes.semilogy(lengths, values, style, label=name, linewidth=2)
axes.set_xlabel("steps n")
axes.set_ylabel("norm of the derivative")
axes.legend(loc="lower left")
plt.show()

# %% [markdown]
# ## A task that needs memory
#
# The first symbol is 0 or 1. Then come random symbols from 2 to 5. At the end the network is asked for the first one.
# `Tagger(task="classification")` reads a sequence and gives $p(y \mid x_{1:T})$ from its last hidden vector. The
# memory has 16 units, and one bit to remember. Could anything be easier?


# %%
def questions(num, seed):
    """Sequences, and their first symbols."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(2, 6, (num, NUM_STEPS), generator=generator)
    x[:, 0] = torch.randint(2, (num,), generator=generator)
    return x, x[:, 0].clone()


def trained(cell, start, tau=None):
    """Losses of a new network on the way, in nats, and its accuracy on new sequences."""
    torch.manual_seed(start)
    model = Tagger(cell, num_symbols=6, num_labels=2, hidden_dim=16, task="classification")
    model = model if tau is None else opened(model, tau)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(NUM_UPDATES):
        x, y = questions(32, seed=step)
        loss = -model.log_prob(y, x).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # against explosion
        optimizer.step()
        losses.append(float(loss.detach()))
    x, y = questions(500, seed=10**6)
    return losses, float((model.predict(x) == y).double().mean())


runs = {
    "Elman": [trained("elman", start) for start in range(1, NUM_STARTS + 1)],
    "GRU as torch starts it": [trained("gru", start) for start in range(1, NUM_STARTS + 1)],
    "GRU, gate opened": [trained("gru", start, tau=NUM_STEPS) for start in range(1, NUM_STARTS + 1)],
}
for name, found in runs.items():
    print(f"{name:24} accuracy", *(f"{accuracy:.2f}" for _, accuracy in found))
accuracy = {name: sum(a for _, a in found) / len(found) for name, found in runs.items()}
assert accuracy["GRU, gate opened"] > 0.95
assert accuracy["Elman"] < 0.8
assert accuracy["GRU as torch starts it"] < 0.8

# %% alt="Losses during training: the GRU with an opened gate falls from log 2 to zero, the two other networks stay at log 2"
figure, axes = plt.subplots(figsize=(7, 3))
for (name, found), style in zip(runs.items(), ("-", "--", ":"), strict=True):
    for number, (losses, _) in enumerate(found):
        color = {"-": "tab:gray", "--": "tab:orange", ":": "black"}[style]
        axes.plot(losses, style, color=color, linewidth=1.5, label=None if number else name)
axes.axhline(math.log(2), color="black", linewidth=0.5)
axes.annotate("log 2: a guess", (NUM_UPDATES, math.log(2)), xytext=(0, 14), textcoords="offset points", ha="right")
axes.set_ylim(0, 1.1)
axes.set_xlabel("updates")
axes.set_ylabel("loss, nats")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# The second row is the control. It is the same architecture, with gates and all, and it fails like the plain network.
# **A gate does not solve the problem; an open gate does.** Clipping the norm of the gradient, as the loop does, helps
# against explosion. Nothing can be clipped into existence where a gradient vanishes.
#
# ## The other direction
#
# A network that reads from left to right can give a label at step $t$ from $x_{1:t}$ only. A **bidirectional** network
# runs a second chain from the end and reads both. What is that worth? Take the states of a hidden Markov model as
# labels, where the best answers are known: $p(z_t \mid x_{1:t})$, the *filtered* probabilities, and
# $p(z_t \mid x_{1:T})$, the *smoothed* ones. For any network $q$ that reads $x_{1:t}$ alone,
#
# $$\mathbb{E}\, \mathrm{KL}(p(z_t \mid x_{1:T}) \,\Vert\, q_t) \;\ge\;
# G = \mathbb{E}\, \mathrm{KL}(p(z_t \mid x_{1:T}) \,\Vert\, p(z_t \mid x_{1:t})),$$
#
# since the filtered law is the best guess from the past. With two symbols and eight steps there are 256 sequences, so
# we can take this expectation exactly, over all of them:

# %%
hmm = HMM(
    torch.tensor([0.5, 0.5]),
    torch.tensor([[0.85, 0.15], [0.1, 0.9]]),
    torch.tensor([[0.8, 0.2], [0.25, 0.75]]),
)
words = torch.tensor(list(itertools.product(range(2), repeat=8)))
exact = forward_backward.smooth(hmm, words)
probability = exact.log_marginal_likelihood.exp()
smoothed, filtered = exact.smoothed_probs, exact.filtered_probs
assert torch.allclose(probability.sum(), torch.ones(()))


def divergence(p, q):
    """E KL(p || q), summed over the steps, in nats."""
    return float(probability @ (p * (p.log() - q.log())).sum((1, 2)))


def tagger_trained(model, num_updates):
    """A tagger after training on states that were drawn with their sequences."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(num_updates):
        drawn = hmm.sample(num_sequences=200, num_steps=8, seed=step)
        loss = -model.log_prob(drawn.z, drawn.x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.label_law(words).probs.detach()


torch.manual_seed(4)
forward = tagger_trained(Tagger("gru", num_symbols=2, num_labels=2, hidden_dim=8), TAG_UPDATES)
both = tagger_trained(BidirectionalRNN("gru", num_symbols=2, num_labels=2, hidden_dim=8), TAG_UPDATES)

G = divergence(smoothed, filtered)
print(f"G = {G:.4f} nats, the price of not knowing what follows\n")
print("network          from the filtered law   from the smoothed law")
for name, law in (("forward", forward), ("both directions", both)):
    print(f"{name:15}  {divergence(filtered, law):21.4f}   {divergence(smoothed, law):21.4f}")
assert divergence(smoothed, forward) > G  # no forward network gets below
assert divergence(smoothed, both) < G / 2  # so this one uses what follows
assert divergence(filtered, forward) < G / 2

# %% [markdown]
# The forward network has learnt to filter, and the bidirectional one to smooth. More units would not help the first: it
# lacks information and not capacity. One sequence as an example:

# %% alt="Probabilities of the second state over eight steps: the forward network lies on the filtered probabilities, the bidirectional one on the smoothed ones"
number = int("00110110", 2)
figure, axes = plt.subplots(figsize=(7, 3.2))
steps = range(1, 9)
axes.plot(steps, filtered[number, :, 1], "-", linewidth=5, alpha=0.3, color="black", label="filtered, exact")
axes.plot(steps, forward[number, :, 1], "o--", color="black", markersize=4, label="forward network")
axes.plot(steps, smoothed[number, :, 1], "-", linewidth=5, alpha=0.4, color="tab:orange", label="smoothed, exact")
axes.plot(steps, both[number, :, 1], "s:", color="tab:orange", markersize=4, label="both directions")
axes.set_ylim(0, 1)
axes.set_xticks(steps, [f"{t}\n$x_t$ = {int(s)}" for t, s in zip(steps, words[number], strict=True)])
axes.set_xlabel("step t")
axes.set_ylabel("probability of the second state")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# ## Takeaways
#
# - The gradient over $n$ steps is a product of $n$ Jacobians. Its norm goes like $|\lambda_1|^n$, and $\tanh$ makes it
#   smaller if $U$ stretches all directions alike.
# - Gates turn the matrix product into a product of numbers between zero and one. It survives only if they are near one.
# - To remember for $\tau$ steps, start the bias of the keeping gate at $\log(\tau - 1)$. Without that, an LSTM or a GRU
#   forgets as quickly as a plain network at the start of its training.
# - A forward network can filter at best, a bidirectional one can smooth. The difference is information.
#
# ## Exercises
#
# ### Exercise 1: the other gated cell
#
# The GRU of torch has the gates $r$ and $s$ and a new value $n$, stacked in this order:
# $n = \tanh(W_n x_t + b_n + r \odot (U_n h_t + c_n))$, and $h_{t+1} = (1 - s) \odot n + s \odot h_t$. Write one step
# and compare it with the package's. Which gate is the one to open, and in which direction?
#
# <details>
# <summary>Solution</summary>
#
# The gate $s$ weighs the old state. It plays the part of $f$, with $1 - s$ in the part of $i$: open means $s$ near one,
# a large positive bias. In some texts, Vidal's among them, the two weights are exchanged, and the bias must be
# negative: read the formula before you set the bias.
#
# ```python
# torch.manual_seed(5)
# gru = RNN(cell="gru", emission=Bernoulli(2), hidden_dim=DIM)
# w = {name.rpartition(".")[2]: value.detach() for name, value in gru.named_parameters() if "network" in name}
# h = torch.randn(DIM)
# from_x = (w["weight_ih_l0"] @ x[0] + w["bias_ih_l0"]).chunk(3)
# from_h = (w["weight_hh_l0"] @ h + w["bias_hh_l0"]).chunk(3)
# r, s = (from_x[0] + from_h[0]).sigmoid(), (from_x[1] + from_h[1]).sigmoid()
# new = (from_x[2] + r * from_h[2]).tanh()
# assert torch.allclose((1 - s) * new + s * h, gru.recurrence(h, None, x[0]))
# ```
#
# </details>
#
# ### Exercise 2: is the rest small?
#
# For the simplest memory cell, $c_t = c_{t-1} + \tanh(w x_t + u h_{t-1})$ with $h_{t-1} = \tanh(c_{t-1})$, lecture
# slides say that $\partial c_t / \partial c_{t-1} = 1 + \varepsilon$ with a small $\varepsilon$. Take $u = 2$,
# $x_t = 0$ and $c_{t-1} = 0$. Compute $\varepsilon$ by hand and by autograd. What happens over ten steps?
#
# <details>
# <summary>Solution</summary>
#
# $\varepsilon = (1 - \tanh^2(w x_t + u h_{t-1}))\; u\; (1 - \tanh^2(c_{t-1})) = 1 \cdot 2 \cdot 1 = 2$, so the
# derivative is 3, and over ten steps at this point it is $3^{10}$: it explodes. The term is small where units are
# saturated or weights are small. This is the erratum `lstm-epsilon` of the package, "imprecise" and not "wrong".
#
# ```python
# def cell(c):
#     return c + torch.tanh(2 * torch.tanh(c))
#
#
# c = torch.zeros((), requires_grad=True)
# (slope,) = torch.autograd.grad(cell(c), c)
# assert torch.allclose(slope, torch.tensor(3.0))
#
# far = c
# for _ in range(10):
#     far = cell(far)
# (slope,) = torch.autograd.grad(far, c)
# assert torch.allclose(slope, torch.tensor(3.0**10))
# assert check(CLAIMS["lstm-epsilon"], quick=True).verdict == "holds"
# ```
#
# </details>
#
# ### Exercise 3: matrices that turn
#
# Start a linear network with a random orthogonal matrix. Show that all singular values of the derivative over 100 steps
# are one. Then use independent normal entries of variance $1/D$ in its place, which keep lengths *on average*. How far
# apart are the singular values after 100 steps?
#
# <details>
# <summary>Solution</summary>
#
# $(U^n)^\top U^n = I$ if $U^\top U = I$. For random entries the mean of $|U v|^2$ is $|v|^2$, but the singular values
# are spread, and products over many steps spread them exponentially. The claim `orthogonal-initialisation` measures
# both.
#
# ```python
# long = torch.randint(2, (100, 2)).double()
# turned = torch.linalg.svdvals(jacobian(network("elman-linear", rotation), long))
# assert torch.allclose(turned, torch.ones(DIM))
# torch.manual_seed(6)
# drawn = torch.linalg.svdvals(jacobian(network("elman-linear", torch.randn(DIM, DIM) / DIM**0.5), long))
# print(drawn)
# assert drawn.max() / drawn.min() > 1e6
# ```
#
# </details>
#
# ## Further reading
#
# - R. Vidal (2024). *Deep Generative Models: Recurrent Neural Networks.* The slides on vanishing gradients, LSTMs, GRUs
#   and bidirectional networks that this lesson follows.
# - J. Chung, C. Gulcehre, K. Cho, Y. Bengio (2014). *Empirical evaluation of gated recurrent neural networks on
#   sequence modeling.* LSTM and GRU beside each other and beside plain networks, on music.
# - M. Schuster, K. K. Paliwal (1997). *Bidirectional recurrent neural networks.* Where the second direction comes from.
