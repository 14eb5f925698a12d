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
# # 3. Hidden Markov models in Pyro
#
# **The idea.** The likelihood of a hidden Markov model is a sum over all paths of hidden states, and there are $K^T$ of
# them. The forward algorithm computes the same sum in $T K^2$ steps. Pyro's enumeration finds that algorithm by itself.
#
# - **Level:** beginner. **Minutes:** 60, with the exercises 120.
# - **You need:** conditional probability, matrix products, Python. Pyro is explained as it is used.
# - **Afterwards you can:** write an HMM as a Pyro program, derive the forward algorithm, and say why every
#   implementation scales it.

# %% tags=["parameters"] short={"NUM_STEPS": 600, "LONG": 1500}
NUM_STEPS = 1200  # observations in the sequence that underflows
LONG = 10_000  # observations in the sequence that shows rounding errors

# %%
import itertools

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO

import pgm_rnn as pr
from pgm_rnn.inference import forward_backward
from pgm_rnn.models import HMM

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The model: a dishonest casino
#
# A casino owns a fair die and a loaded one, which shows six half of the time. It changes dice secretly and rarely. We
# see the numbers $x_1, \dots, x_T$ and not the die $z_t \in \{\text{fair}, \text{loaded}\}$:
#
# $$z_1 \sim \pi, \qquad z_t \mid z_{t-1} \sim A_{z_{t-1}, \cdot}, \qquad x_t \mid z_t \sim B_{z_t, \cdot}.$$
#
# $A_{jk} = p(z_t = k \mid z_{t-1} = j)$ and $B_{ks} = p(x_t = s \mid z_t = k)$ are tables whose rows sum to one.

# %%
initial = torch.tensor([0.9, 0.1])
A = torch.tensor([[0.95, 0.05], [0.10, 0.90]])
B = torch.tensor([[1 / 6] * 6, [0.1] * 5 + [0.5]])

hmm = HMM(initial, A, B)
data = hmm.sample(num_sequences=1, num_steps=60, seed=1)
x, z = data.x[0], data.z[0]
print("numbers", *(x[:30] + 1).tolist())
print("die    ", *("FL"[k] for k in z[:30].tolist()))

# %% alt="The graph of the HMM over four steps: arrows lead from each state to the next one and to its observation"
pr.plot.graph(hmm, num_steps=4)
plt.show()

# %% [markdown]
# The picture is read out of the model's Pyro program. The states form a chain, and each observation hangs on its own
# state.
#
# ## The definition: a sum over all paths
#
# The graph says how the joint law factorises:
#
# $$p(x_{1:T}, z_{1:T}) = \pi_{z_1} B_{z_1 x_1} \prod_{t=2}^{T} A_{z_{t-1} z_t} B_{z_t x_t},
# \qquad p(x_{1:T}) = \sum_{z_{1:T}} p(x_{1:T}, z_{1:T}).$$
#
# With two states and eight throws the sum has $2^8 = 256$ terms. We can afford to write them all down, once:


# %%
def log_prob_by_paths(x):
    """log p(x) as the definition has it: one term per path."""
    total = 0.0
    for path in itertools.product(range(2), repeat=len(x)):
        p = initial[path[0]] * B[path[0], x[0]]
        for t in range(1, len(x)):
            p = p * A[path[t - 1], path[t]] * B[path[t], x[t]]
        total = total + p
    return total.log()


by_paths = log_prob_by_paths(x[:8])
print(f"log p(x_1, ..., x_8) = {by_paths:.12f}, a sum over {2**8} paths")
print(f"for all {len(x)} throws it would have {2 ** len(x):.1e} terms")

# %% [markdown]
# ## The same in Pyro: enumeration
#
# A Pyro program says how the data came about. `infer={"enumerate": "parallel"}` asks Pyro to try every value of `z_t`,
# and `TraceEnum_ELBO` adds up. Nothing is left to guess, so the guide is empty and the "evidence lower bound" is the
# exact log likelihood.


# %%
def casino(x, steps=pyro.markov):
    z = None
    for t in steps(range(len(x))):
        probs = initial if z is None else A[z]
        z = pyro.sample(f"z_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
        pyro.sample(f"x_{t}", dist.Categorical(B[z]), obs=x[t])


def empty_guide(x, steps=pyro.markov):
    pass


elbo = TraceEnum_ELBO(max_plate_nesting=0)
by_pyro = -elbo.loss(casino, empty_guide, x[:8])
print(f"by enumeration {by_pyro:.12f}")
assert abs(by_pyro - by_paths) < 1e-10

# %% [markdown]
# **What breaks.** `pyro.markov` is a promise: $z_t$ depends on $z_{t-1}$ and on nothing before it. Pyro gives each
# enumerated variable a tensor dimension of its own, and thanks to the promise it uses two dimensions again and again.
# Without it there is one dimension per step, and tensors have at most 64:

# %%
x70 = hmm.sample(num_sequences=1, num_steps=70, seed=2).x[0]
print(f"with pyro.markov    {-elbo.loss(casino, empty_guide, x70):.6f}")
try:
    elbo.loss(casino, empty_guide, x70, steps=iter)
    failed = False
except RuntimeError as error:
    failed = True
    print("without pyro.markov", str(error).splitlines()[0])
assert failed

# %% [markdown]
# ## How the sum is reordered: the forward algorithm
#
# Many paths share their beginnings. Collect all paths that end in state $k$ at step $t$:
#
# $$\alpha_t(k) = p(x_{1:t}, z_t = k).$$
#
# A path that is in $k$ at step $t$ was in some $j$ one step before. That is all there is to it:
#
# $$\alpha_1(k) = \pi_k B_{k x_1}, \qquad
# \alpha_t(k) = B_{k x_t} \sum_j \alpha_{t-1}(j)\, A_{jk}, \qquad p(x_{1:T}) = \sum_k \alpha_T(k).$$
#
# In matrices, $\alpha_t = (\alpha_{t-1} A) \odot B_{\cdot x_t}$: one vector, updated $T$ times. This is $T K^2$
# multiplications and not $K^T$ terms.


# %%
def forward(x):
    """alpha_1, ..., alpha_T, as a matrix (T, K)."""
    alphas = [initial * B[:, x[0]]]
    for x_t in x[1:]:
        alphas.append((alphas[-1] @ A) * B[:, x_t])
    return torch.stack(alphas)


alpha = forward(x[:8])
print(" t  x_t  alpha_t(fair)  alpha_t(loaded)  p(loaded | x_1..x_t)")
for t in range(8):
    fair, loaded = alpha[t].tolist()
    share = loaded / (fair + loaded)
    print(f"{t + 1:2}  {int(x[t]) + 1:3}  {fair:13.3e}  {loaded:15.3e}  {share:20.3f}")

by_forward = alpha[-1].sum().log()
print(f"\nlog p(x_1, ..., x_8) = {by_forward:.12f}")
assert abs(by_forward - by_paths) < 1e-10

# %% [markdown]
# The last column is a bonus. Divided by their sum, the two numbers are the **filtered** probabilities
# $p(z_t \mid x_{1:t}) = \alpha_t / \sum_k \alpha_t(k)$. The package's engine returns both:

# %%
found = forward_backward.filter(hmm, data.x[:, :8])
print(found)
assert torch.allclose(found.log_marginal_likelihood[0], by_forward)
assert torch.allclose(found.filtered_probs[0], alpha / alpha.sum(-1, keepdim=True))

# %% [markdown]
# **A control.** Exchange the rows and columns of $A$, a common slip, and the numbers are wrong. A check that cannot
# fail would prove nothing:

# %%
wrong = initial * B[:, x[0]]
for x_t in x[1:8]:
    wrong = (A @ wrong) * B[:, x_t]
print(f"with A transposed {wrong.sum().log():.6f}, right {by_forward:.6f}")
assert abs(wrong.sum().log() - by_paths) > 1e-2

# %% [markdown]
# ## What breaks: long sequences
#
# $\alpha_t$ is a joint probability of $t$ observations. Each throw multiplies it by about $1/6$, and a float64 ends at
# $5 \cdot 10^{-324}$. Look at what happens:

# %%
long = hmm.sample(num_sequences=1, num_steps=NUM_STEPS, seed=3).x[0]
totals = forward(long).sum(-1)
dead = int((totals == 0).nonzero()[0])
print(f"sum_k alpha_t(k) is zero from step {dead + 1} on; log p(x) = {totals[-1].log()}")
assert totals[-1] == 0


# %% [markdown]
# **Scaling.** Divide $\alpha_t$ by its sum $c_t$ after each step. The divisors are no waste, they are the predictions:
#
# $$c_t = p(x_t \mid x_{1:t-1}), \qquad \log p(x_{1:T}) = \sum_{t=1}^{T} \log c_t .$$


# %%
def forward_scaled(x, dtype=torch.float64):
    """Filtered probabilities (T, K), and log c_t (T,)."""
    start, move, see = initial.to(dtype), A.to(dtype), B.to(dtype)
    belief, filtered, log_c = None, [], []
    for x_t in x:
        joint = (start if belief is None else belief @ move) * see[:, x_t]
        c = joint.sum()
        belief = joint / c
        filtered.append(belief)
        log_c.append(c.log())
    return torch.stack(filtered), torch.stack(log_c)


filtered, log_c = forward_scaled(long)
exact = forward_backward.filter(hmm, long[None]).log_marginal_likelihood[0]
print(f"scaled {log_c.sum():.10f}\nengine {exact:.10f}")
assert torch.allclose(log_c.sum(), exact)

# %% alt="Two curves over the steps: the logarithm of the unscaled sum of alpha falls in a line and ends where it becomes zero, the scaled one goes on"
figure, axes = plt.subplots(figsize=(7, 3))
steps = torch.arange(1, NUM_STEPS + 1)
unscaled = r"unscaled: log $\sum_k \alpha_t(k)$"
axes.plot(steps, log_c.cumsum(0), label="scaled: sum of log $c_t$", linewidth=4, alpha=0.4)
axes.plot(steps[:dead], totals[:dead].log(), label=unscaled, color="black")
axes.axvline(dead, linestyle=":", color="black")
axes.text(dead, float(log_c.sum()) / 4, "  underflow: log 0")
axes.set_xlabel("step t")
axes.set_ylabel("log p($x_1, ..., x_t$), nats")
axes.legend(loc="lower left")
plt.show()


# %% [markdown]
# **Logarithms** are the other way out: keep $\log \alpha_t$ and add with `logsumexp`. It never underflows, but for long
# sequences in single precision it is less exact. $\log \alpha_t$ is a large number that grows, so its last digits get
# lost at each step. Scaled beliefs stay near one:


# %%
def forward_in_logs(x, dtype):
    """log p(x) by logsumexp."""
    log_move, log_see = A.to(dtype).log(), B.to(dtype).log()
    log_alpha = initial.to(dtype).log() + log_see[:, x[0]]
    for x_t in x[1:]:
        log_alpha = torch.logsumexp(log_alpha[:, None] + log_move, dim=0) + log_see[:, x_t]
    return torch.logsumexp(log_alpha, dim=0)


longer = hmm.sample(num_sequences=1, num_steps=LONG, seed=4).x[0]
exact = forward_backward.filter(hmm, longer[None]).log_marginal_likelihood[0]
single = torch.float32
error_of_logs = abs(forward_in_logs(longer, single).double() - exact)
error_of_scaling = abs(forward_scaled(longer, single)[1].double().sum() - exact)
print(f"log p(x) = {exact:.3f} over {LONG} steps. Errors in float32, in nats:")
print(f"  logsumexp {error_of_logs:.4f}\n  scaled    {error_of_scaling:.4f}")
assert error_of_scaling < error_of_logs

# %% [markdown]
# ## The picture: what the filter believes
#
# The belief rises with each six and falls with every other number. It follows the true die with a delay, for it has
# seen the past only.

# %% alt="Filtered probability of the loaded die over sixty throws, with the true periods of the loaded die shaded and sixes marked"
loaded = forward_backward.filter(hmm, data.x).filtered_probs[0, :, 1]
figure, axes = plt.subplots(figsize=(7, 3))
throws = torch.arange(1, len(x) + 1)
axes.fill_between(throws, z.double(), step="mid", alpha=0.25, label="the die is loaded")
axes.step(throws, loaded, where="mid", color="black", label="filtered probability of that")
sixes = throws[x == 5]
axes.plot(sixes, torch.full(sixes.shape, 1.06), "v", markersize=4, label="a six")
axes.set_xlabel("throw t")
axes.set_ylabel("probability")
axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)
plt.show()

# %% [markdown]
# ## Takeaways
#
# - The likelihood of an HMM is a sum over $K^T$ paths. Paths that share a state share the rest: $T K^2$ steps suffice.
# - `TraceEnum_ELBO` with `pyro.markov` does the same for any program with finitely many states. The promise matters.
# - The scaling constants are predictions, $c_t = p(x_t \mid x_{1:t-1})$, and $\log p(x) = \sum_t \log c_t$.
# - Scaling is more exact than `logsumexp` on long sequences. The engines of `pgm_rnn` scale.
#
# ## Exercises
#
# ### Exercise 1: look back
#
# Let $\beta_t(k) = p(x_{t+1:T} \mid z_t = k)$. Derive its recursion from $\beta_T = 1$, and compute the **smoothed**
# probabilities $p(z_t \mid x_{1:T}) \propto \alpha_t(k)\, \beta_t(k)$ of the eight throws. Compare with
# `forward_backward.smooth`.
#
# <details>
# <summary>Solution</summary>
#
# $\beta_t(j) = \sum_k A_{jk} B_{k x_{t+1}} \beta_{t+1}(k)$: from $j$ to some $k$, see $x_{t+1}$ there, and the rest
# from there on.
#
# ```python
# betas = [torch.ones(2)]
# for x_t in reversed(x[1:8]):
#     betas.insert(0, A @ (B[:, x_t] * betas[0]))
# joint = alpha * torch.stack(betas)
# assert torch.allclose(joint.sum(-1), joint.sum(-1)[:1])  # p(x_1..x_8), whatever t
# smoothed = joint / joint.sum(-1, keepdim=True)
# assert torch.allclose(smoothed, forward_backward.smooth(hmm, data.x[:, :8]).smoothed_probs[0])
# ```
#
# </details>
#
# ### Exercise 2: the best path
#
# Replace the sum of the forward algorithm by a maximum, and remember where each maximum came from. You get the most
# probable path of states, the Viterbi algorithm. Compare with `forward_backward.most_likely_states` on all 60 throws.
# Is it the path of the most probable single states?
#
# <details>
# <summary>Solution</summary>
#
# In logarithms, because a maximum needs no sums. The two paths need not agree: the second maximises every
# $p(z_t \mid x_{1:T})$ by itself and may even use a transition of probability zero.
#
# ```python
# score = initial.log() + B[:, x[0]].log()
# came_from = []
# for x_t in x[1:]:
#     score, best = (score[:, None] + A.log()).max(dim=0)
#     score = score + B[:, x_t].log()
#     came_from.append(best)
# path = [int(score.argmax())]
# for best in reversed(came_from):
#     path.insert(0, int(best[path[0]]))
# viterbi = forward_backward.most_likely_states(hmm, data.x)
# assert path == viterbi.states[0].tolist()
# assert torch.allclose(score.max(), viterbi.log_prob[0])
# single = forward_backward.smooth(hmm, data.x).smoothed_probs[0].argmax(-1)
# print(int((single != viterbi.states[0]).sum()), "of 60 steps differ")
# ```
#
# </details>
#
# ### Exercise 3: a throw that nobody saw
#
# Throw 5 of the eight was not written down. What is $B_{k x_5}$ to be replaced by, and why? Check with the argument
# `mask` of `forward_backward.filter`, and with the sum over the six values that $x_5$ may have had.
#
# <details>
# <summary>Solution</summary>
#
# By one: $\sum_s B_{ks} = 1$. Summing a missing observation out leaves its state's law as it was predicted.
#
# ```python
# alpha_t = initial * B[:, x[0]]
# for t in range(1, 8):
#     alpha_t = alpha_t @ A
#     if t != 4:
#         alpha_t = alpha_t * B[:, x[t]]
# by_hand = alpha_t.sum()
#
# mask = torch.ones(1, 8, dtype=torch.bool)
# mask[0, 4] = False
# engine = forward_backward.filter(hmm, data.x[:, :8], mask=mask).log_marginal_likelihood.exp()
# six = x[:8].repeat(6, 1)
# six[:, 4] = torch.arange(6)
# summed = forward_backward.filter(hmm, six).log_marginal_likelihood.exp().sum()
# assert torch.allclose(by_hand, engine)
# assert torch.allclose(by_hand, summed)
# ```
#
# </details>
#
# ## Further reading
#
# - L. R. Rabiner (1989). *A tutorial on hidden Markov models and selected applications in speech recognition.* The
#   forward algorithm is section III.A, scaling section V.A.
# - Y. J. Choe, J. Shin, N. Spencer (2017). *Probabilistic Interpretations of Recurrent Neural Networks.* Section 2.2;
#   continued in lesson 4, where the scaled forward algorithm turns out to be a recurrent network.
# - S. Chib (1996). *Calculating posterior distributions and modal estimates in Markov mixture models.* Draws of whole
#   paths, `forward_backward.sample_states`.
