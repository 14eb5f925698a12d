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
# # 4. The forward algorithm is an RNN
#
# **The idea.** The forward algorithm reads a symbol, updates a vector, and predicts. That is what a recurrent network
# does. With the belief as its hidden state a network *is* a hidden Markov model, and for two states a single unit is
# enough. What remains is whether training finds it.
#
# - **Level:** intermediate. **Minutes:** 60, with the exercises 100.
# - **You need:** lesson 3 (the scaled forward algorithm), recurrent networks.
# - **Afterwards you can:** write an HMM as a recurrent network, say when a smaller network does the same (Proposition 6),
#   and measure how far a trained one is from it.

# %% tags=["parameters"] short={"ITERATIONS": 60, "STARTS": 2}
ITERATIONS = 400  # of the optimiser, for each network
STARTS = 5  # random starts of each network, side by side

# %%
import matplotlib.pyplot as plt
import torch

from pgm_rnn.inference import forward_backward
from pgm_rnn.models import HMM, BeliefRNN

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The belief as a hidden state
#
# In lesson 3 the forward algorithm kept $p(z_t \mid x_{1:t})$. Move it on by one step, so that it is ready to predict:
#
# $$h_t = p(z_t \mid x_{1:t-1}), \qquad
# h_1 = \pi, \qquad h_{t+1} = \frac{A^\top (b_{x_t} \odot h_t)}{b_{x_t} \cdot h_t}, \qquad
# p(x_t \mid x_{1:t-1}) = b_{x_t} \cdot h_t,$$
#
# where $b_s(k) = p(x_t = s \mid z_t = k)$. The update is a function of $h_t$ and $x_t$, the prediction a function of
# $h_t$. These are the two functions $f$ and $g$ of a recurrent network.

# %%
hmm = HMM.random(num_states=2, num_symbols=3, seed=3).requires_grad_(False)
A, B = hmm.transition_probs, hmm.emission_probs
x = hmm.sample(num_sequences=5, num_steps=20, seed=0).x


def f(h, x_t):
    joint = B[:, x_t].T * h  # (batch, K)
    return joint / joint.sum(-1, keepdim=True) @ A


def g(h):
    return h @ B  # (batch, symbols)


h, by_network = hmm.initial_probs.expand(len(x), -1), torch.zeros(len(x))
for x_t in x.unbind(1):
    by_network = by_network + g(h)[torch.arange(len(x)), x_t].log()
    h = f(h, x_t)

exact = hmm.log_marginal_likelihood(x)
print("network", *(f"{value:.10f}" for value in by_network.tolist()))
print("HMM    ", *(f"{value:.10f}" for value in exact.tolist()))
assert torch.allclose(by_network, exact)
assert torch.allclose(BeliefRNN(hmm).log_prob(x), exact)

# %% [markdown]
# `BeliefRNN(hmm)` is this network with the HMM's parameters. Its program has no latent state: the sum over paths has
# become a deterministic recurrence.
#
# ## One unit
#
# With two states the belief is one number. Take its log-odds, $u_t = \log h_t(1) - \log h_t(0)$. A symbol adds a
# constant, and the transition bends the sum:
#
# $$u_{t+1} = \varphi(u_t + c_{x_t}), \qquad c_s = \log \frac{b_s(1)}{b_s(0)}, \qquad
# \varphi(v) = \log \frac{\sigma(v) A_{11} + (1 - \sigma(v)) A_{01}}{\sigma(v) A_{10} + (1 - \sigma(v)) A_{00}} .$$
#
# Compare with a unit of a usual network, $h_{t+1} = \tanh(w h_t + c_{x_t})$: a constant per symbol, then a bounded,
# monotone function.


# %%
def phi(v):
    p = v.sigmoid()
    return ((p * A[1, 1] + (1 - p) * A[0, 1]) / (p * A[1, 0] + (1 - p) * A[0, 0])).log()


c = (B[1] / B[0]).log()
u = hmm.initial_probs.logit()[1].expand(len(x))
total = torch.zeros(len(x))
for x_t in x.unbind(1):
    belief = torch.stack([1 - u.sigmoid(), u.sigmoid()], dim=-1)
    total = total + g(belief)[torch.arange(len(x)), x_t].log()
    u = phi(u + c[x_t])
assert torch.allclose(total, exact)

one_unit = BeliefRNN(hmm, units="log-odds")
print(f"hidden units: {one_unit.initial_memory.numel()}")
assert torch.allclose(one_unit.log_prob(x), exact)

# %% alt="The next log-odds against the present ones, one curve per symbol, beside the tanh that fits the middle one best: all are bounded and monotone"
v = torch.linspace(-6, 6, 200)
figure, axes = plt.subplots(figsize=(6, 3.4))
for symbol, style in enumerate(("-", "--", ":")):
    axes.plot(v, phi(v + c[symbol]), style, label=f"the forward algorithm, $x_t$ = {symbol}")
low, high = phi(torch.tensor(-50.0)), phi(torch.tensor(50.0))
middle, half = (low + high) / 2, (high - low) / 2
slope = (phi(c[0] + 1e-4) - phi(c[0] - 1e-4)) / 2e-4 / half
squashed = middle + half * torch.tanh(slope * v + torch.atanh((phi(c[0]) - middle) / half))
axes.plot(v, squashed, color="black", linewidth=1, label="a tanh unit, $x_t$ = 0")
axes.set_xlabel("log-odds $u_t$")
axes.set_ylabel("log-odds $u_{t+1}$")
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# The curves have the same shape and not quite the same bend. One tanh unit comes close to the forward algorithm, and
# does not reach it. How close?
#
# ## Does training find it?
#
# The paper trains networks to name the hidden state, $q(z_t \mid x_{1:t})$, and counts how often they agree with the
# forward algorithm (its fig. 5). We take the limit of infinitely many sequences: with three symbols and six steps there
# are $3^6$ sequences, so the expected loss is a sum,
#
# $$\text{loss} = \frac1T \sum_{x} p(x) \sum_t \mathrm{KL}(p(z_t \mid x_{1:t}) \,\|\, q(z_t \mid x_{1:t}))
# \quad \text{nats per step.}$$

# %%
words = torch.cartesian_prod(*[torch.arange(3)] * 6)  # (729, 6)
weights = hmm.log_marginal_likelihood(words).exp()
beliefs = forward_backward.filter(hmm, words).filtered_probs[..., 1]  # p(z_t = 1 | x_1..x_t)
assert torch.allclose(weights.sum(), torch.tensor(1.0))


def network(parameters, num_units):
    """The log-odds of q(z_t = 1 | x_1..x_t) for all words, (starts, 729, 6); Elman, tanh."""
    inputs, recurrent, bias, readout, constant = parameters
    h, outputs = torch.zeros(STARTS, len(words), num_units), []
    for x_t in words.unbind(1):
        h = torch.tanh(inputs[:, x_t] + h @ recurrent + bias)
        outputs.append((h @ readout + constant)[..., 0])
    return torch.stack(outputs, dim=-1)


def divergence(log_odds):
    """KL to the beliefs, nats per step, one number per start."""
    cross = torch.nn.functional.softplus(log_odds) - beliefs * log_odds
    entropy = torch.special.entr(beliefs) + torch.special.entr(1 - beliefs)
    return (weights[:, None] * (cross - entropy)).sum((-2, -1)) / words.shape[1]


def trained(num_units, seed=0):
    """The log-odds of the best of several starts."""
    generator = torch.Generator().manual_seed(seed)
    k = num_units
    sizes = (3, k), (k, k), (1, k), (k, 1), (1, 1)
    parameters = [torch.randn(STARTS, *size, generator=generator).requires_grad_() for size in sizes]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=ITERATIONS, history_size=50, line_search_fn="strong_wolfe",
        tolerance_grad=1e-10, tolerance_change=1e-13,
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = divergence(network(parameters, num_units)).sum()  # starts do not meet
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        log_odds = network(parameters, num_units)
        return log_odds[divergence(log_odds).argmin()]


def disagreement(log_odds):
    """Share of the steps at which another state is the more probable one."""
    differs = (log_odds > 0) != (beliefs > 0.5)
    return float((weights[:, None] * differs).sum() / words.shape[1])


found = {num_units: trained(num_units) for num_units in (1, 2, 3)}
kl = {num_units: float(divergence(log_odds[None])) for num_units, log_odds in found.items()}
guess = float(divergence(torch.zeros(1, *words.shape)))
print(f"fair coin: {guess:.1e} nats per step, disagrees in {disagreement(torch.zeros(words.shape)):.2%}")
for num_units, log_odds in found.items():
    print(f"{num_units} units:  {kl[num_units]:.1e} nats per step, disagrees in {disagreement(log_odds):.2%}")
assert kl[1] < guess / 10
assert min(kl[2], kl[3]) < kl[1]

# %% alt="Two panels: the belief against the trained network's probability for all histories, close to the diagonal; and the divergence against the number of units"
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
sizes = 1 + 300 * weights[:, None].expand(-1, 6).flatten()
left.scatter(beliefs.flatten(), found[1].sigmoid().flatten(), s=sizes, alpha=0.5, rasterized=True)
left.plot([0, 1], [0, 1], color="black", linewidth=0.8)
left.set_xlabel("forward algorithm")
left.set_ylabel("trained network, one unit")
left.set_title("$p(z_t = 1)$ after each history", fontsize=10)
right.semilogy(list(kl), list(kl.values()), "o--")
right.set_xticks(list(kl))
right.set_xlabel("units")
right.set_ylabel("KL, nats per step")
plt.show()

# %% [markdown]
# One tanh unit nearly is the forward algorithm; more of them shape the bend. Agreement is a coarse measure: it can be
# perfect while the probabilities are off.
#
# ## Proposition 6: when a smaller network is exact
#
# A map $\varphi$ compresses beliefs, $h = \varphi(\alpha)$. The compressed network is exact if
#
# - **(C.1)** it starts right: $h_1 = \varphi(\alpha_1)$;
# - **(C.2)** compressing and updating commute: $f(\varphi(\alpha), x) = \varphi(\text{update}(\alpha, x))$;
# - **(C.3)** predictions read only what is kept: $g(\varphi(\alpha))$ is the HMM's prediction.
#
# Example: four states in two blocks $\{0, 1\}$ and $\{2, 3\}$. States of a block emit alike, and each moves to a block
# with the same probability. $\varphi$ adds up each block:

# %%
blocks = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])  # (states, blocks)
inside = torch.tensor(
    [
        [0.7, 0.3, 0.2, 0.8],
        [0.1, 0.9, 0.5, 0.5],
        [0.6, 0.4, 0.3, 0.7],
        [0.4, 0.6, 0.9, 0.1],
    ]
)
small = HMM(torch.tensor([0.6, 0.4]), A, B)
start = torch.tensor([0.45, 0.15, 0.1, 0.3])  # block sums 0.6, 0.4
moves = (blocks @ A @ blocks.T) * inside  # to a block, then to a state inside of it
big = HMM(start, moves, blocks @ B)

assert torch.allclose(moves @ blocks, blocks @ A)  # lumpable
difference = (big.log_marginal_likelihood(words) - BeliefRNN(small, units="log-odds").log_prob(words)).abs().max()
print(f"four states against one unit, all 729 sequences: largest difference {difference:.1e}")
assert difference < 1e-10

# %% [markdown]
# **What breaks.** Mix the transition with a little of another one that does not respect the blocks. (C.2) fails by
# $O(\epsilon)$, and so do the predictions:

# %%
other = torch.tensor(
    [
        [0.1, 0.2, 0.3, 0.4],
        [0.4, 0.3, 0.2, 0.1],
        [0.25, 0.25, 0.25, 0.25],
        [0.7, 0.1, 0.1, 0.1],
    ]
)
errors = []
for epsilon in (0.001, 0.01, 0.1):
    mixed = HMM(start, (1 - epsilon) * moves + epsilon * other, blocks @ B)
    merged = start.reshape(2, 2) / start.reshape(2, 2).sum(-1, keepdim=True)  # weights inside a block
    lumped = (merged[..., None] * (mixed.transition_probs @ blocks).reshape(2, 2, 2)).sum(1)
    near = BeliefRNN(HMM(small.initial_probs, lumped, B))
    errors.append((mixed.log_marginal_likelihood(words) - near.log_prob(words)).abs().max())
    print(f"epsilon = {epsilon}: largest error of log p(x) {errors[-1]:.2e}")
assert errors[0] > 1e-8
assert 5 < errors[1] / errors[0] < 20  # in proportion to epsilon

# %% [markdown]
# ## Takeaways
#
# - The belief $p(z_t \mid x_{1:t-1})$ with its update is a recurrent network with exactly the HMM's law.
# - $K$ states need $K - 1$ units if the units are log-odds. A tanh unit is close, because the update is bounded and
#   monotone too.
# - Proposition 6: a smaller network is exact if its map commutes with the update. Lumpable chains are the example.
# - "Agrees with the forward algorithm" says less than a divergence from it.
#
# ## Exercises
#
# ### Exercise 1: three states
#
# Draw an HMM with three states. Show with `BeliefRNN(..., units="log-odds")` that two units are exact. Then show that no
# single number per history can be enough: find two histories with the same $p(z_t = 0)$, up to 0.01, whose predictions
# of the next symbol differ by more than 0.02.
#
# <details>
# <summary>Solution</summary>
#
# ```python
# three = HMM.random(num_states=3, num_symbols=3, seed=1).requires_grad_(False)
# pair = BeliefRNN(three, units="log-odds")
# assert pair.initial_memory.numel() == 2
# assert torch.allclose(pair.log_prob(words), three.log_marginal_likelihood(words))
#
# after = forward_backward.filter(three, words).filtered_probs.flatten(0, 1)  # after every history
# ahead = after @ three.transition_probs @ three.emission_probs
# alike = (after[:, None, 0] - after[None, :, 0]).abs() < 0.01
# differ = (ahead[:, None] - ahead[None]).abs().amax(-1) > 0.02
# assert (alike & differ).any()
# ```
#
# </details>
#
# ### Exercise 2: the printed start
#
# The paper starts its recursion $\alpha_{t+1} = D_{x} V \alpha_t$ at $\alpha_0 = P(z_1)$. Which factor is too many? For
# which $\pi$ does nobody notice? Check with the stationary law of $A$.
#
# <details>
# <summary>Solution</summary>
#
# From $\alpha_0$ the first step moves $P(z_1)$ on before it sees $x_1$: the first state gets the law $\pi A$. If
# $\pi A = \pi$, nothing changes.
#
# ```python
# def from_alpha_0(start, word):
#     alpha = start
#     for symbol in word:
#         alpha = (alpha @ A) * B[:, symbol]
#     return alpha.sum()
#
#
# stationary = torch.matrix_power(A, 200)[0]
# for start, same in ((torch.tensor([0.99, 0.01]), False), (stationary, True)):
#     right = HMM(start, A, B).log_marginal_likelihood(words[[5]]).exp()[0]
#     assert torch.isclose(from_alpha_0(start, words[5]), right) == same
# ```
#
# </details>
#
# ### Exercise 3: which histories does one unit get wrong?
#
# List the histories at which the single unit names another state than the forward algorithm, with the belief there. How
# sure is the forward algorithm at these histories? (If there is none, look at the largest error of the probability.)
#
# <details>
# <summary>Solution</summary>
#
# They are nearly ties: the probabilities are close everywhere, so that the two can only differ where the belief is near
# one half.
#
# ```python
# differs = (found[1] > 0) != (beliefs > 0.5)
# largest = (found[1].sigmoid() - beliefs).abs().max()
# for word, t in differs.nonzero()[:5].tolist():
#     print(words[word, : t + 1].tolist(), f"belief {beliefs[word, t]:.3f}")
# unsure = (beliefs[differs] - 0.5).abs()
# assert (unsure <= largest).all()
# ```
#
# </details>
#
# ## Further reading
#
# - Y. J. Choe, J. Shin, N. Spencer (2017). *Probabilistic Interpretations of Recurrent Neural Networks.* Section 3.2
#   (Proposition 6) and 4.1 (fig. 5). [The experiments](../docs/experiments/README.md) repeat the figures on twenty HMMs.
# - L. R. Rabiner (1989). *A tutorial on hidden Markov models and selected applications in speech recognition.*
# - S. S. Wilks (1938). *The large-sample distribution of the likelihood ratio for testing composite hypotheses.* Why a
#   network trained on $n$ sequences is off by $O(1/n)$; the claim `remark-7` in [the claims](../docs/claims.md).
