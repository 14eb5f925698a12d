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
# # 0. One graph
#
# **The idea.** A recurrent network, a hidden Markov model and a state-space model look like three subjects. They are one
# directed graph whose nodes have different conditional laws. What you can ask of one you can ask of all.
#
# - **Level:** beginner. **Minutes:** 45, with the exercises 75.
# - **You need:** conditional probability, and what a recurrent network is. Pyro is explained as it is used.
# - **Afterwards you can:** read a model's graph, write the joint density that it stands for, and use the same calls for
#   every model of the course.

# %% tags=["parameters"] short={"NUM_STEPS": 12}
NUM_STEPS = 40  # steps of the sequences that are drawn

# %%
import matplotlib.pyplot as plt
import torch
from pyro import poutine

import pgm_rnn as pr
from pgm_rnn.emissions import Gaussian
from pgm_rnn.graph import read_graph
from pgm_rnn.inference import svi
from pgm_rnn.models import HMM, RNN, VRNN, LinearGaussianSSM

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## One step of everything
#
# Every model of this course is an answer to three questions about a sequence $x_1, \dots, x_T$:
#
# $$
# \begin{aligned}
# h_t &= f(h_{t-1}, z_{t-1}, x_{t-1}) && \text{what is remembered? (no randomness)}\\
# z_t &\sim p(z_t \mid z_{t-1}, h_t) && \text{what is hidden and random?}\\
# x_t &\sim p(x_t \mid z_t, h_t) && \text{what is seen?}
# \end{aligned}
# $$
#
# The joint density is the product of the factors, one per node:
#
# $$p(x_{1:T}, z_{1:T}) = \prod_{t=1}^{T} p(z_t \mid z_{t-1}, h_t)\; p(x_t \mid z_t, h_t).$$
#
# A model may leave an answer out. An RNN has no $z$, an HMM has no $h$, and a variational RNN has both:

# %%
torch.manual_seed(0)
models = {
    "RNN": RNN(cell="elman", num_symbols=3, hidden_dim=4),
    "HMM": HMM.random(num_states=2, num_symbols=3, seed=0),
    "Linear Gaussian": LinearGaussianSSM.random(latent_dim=2, obs_dim=1, seed=0),
    "VRNN": VRNN(obs_dim=2, latent_dim=2, hidden_dim=4),
}

# %% alt="The graphs of an RNN, an HMM, a linear Gaussian model and a VRNN over three steps, beside each other"
pr.plot.graph(models)
plt.show()

# %% [markdown]
# Grey nodes are seen, white ones hidden. A double square is a node without randomness: given its parents it has one
# value. HMM and linear Gaussian model have the same graph. They differ in what $z_t$ is: a number from $1..K$, or a
# vector.
#
# These pictures were not drawn by hand. They are read from one run of each model's program:

# %%
for name in ("RNN", "HMM"):
    print(f"{name}:", *(f"{a}->{b}" for a, b in read_graph(models[name], 3).edges))

edges = {name: set(read_graph(model, 3).edges) for name, model in models.items()}
assert edges["HMM"] == edges["Linear Gaussian"]
assert edges["HMM"] != edges["RNN"]

# %% [markdown]
# ## A model is a Pyro program
#
# In Pyro a model is a function that draws its variables in order. Each draw is a *site* with a name and a law. Here are
# the sites of the RNN. The law of every $h_t$ is a `Delta`, all of whose mass sits at one value:

# %%
x = models["RNN"].sample(num_sequences=1, num_steps=3, seed=1).x
trace = poutine.trace(models["RNN"].model).get_trace(x, rendering="unrolled", memory="sampled")
for site in ("h_1", "x_1", "h_2", "x_2", "h_3", "x_3"):
    print(f"{site} ~ {type(trace.nodes[site]['fn']).__name__}")
assert type(trace.nodes["h_2"]["fn"]).__name__ == "Delta"

# %% [markdown]
# The density of a run is the product of its sites' densities. For an RNN the $h_t$ contribute a factor of one each, so
# that $\log p(x) = \sum_t \log p(x_t \mid h_t)$. We compute that sum with torch alone and compare:

# %%
rnn = models["RNN"]
h, total = rnn.initial_memory, 0.0
for x_t in x[0]:
    total = total + rnn.emission(None, h).log_prob(x_t)
    h = rnn.recurrence(h, None, x_t)
by_pyro = trace.log_prob_sum()
print(f"by hand {total:.12f}\nby Pyro {by_pyro:.12f}\nmodel   {rnn.log_prob(x)[0]:.12f}")
assert torch.allclose(total, by_pyro)
assert torch.allclose(total, rnn.log_prob(x)[0])

# %% [markdown]
# For an HMM the same recipe gives $\log p(x, z)$, the *joint* density. The RNN's recipe gives the likelihood because
# nothing random is hidden. That is the whole difference between them, and lessons 1 to 4 are about it:

# %%
hmm = models["HMM"]
drawn = hmm.sample(num_sequences=1, num_steps=3, seed=1)
z, x = drawn.z[0], drawn.x[0]
by_hand = hmm.initial_probs[z[0]].log() + hmm.emission_probs[z[0], x[0]].log()
for t in (1, 2):
    by_hand = by_hand + hmm.transition_probs[z[t - 1], z[t]].log() + hmm.emission_probs[z[t], x[t]].log()
joint = hmm.log_prob(drawn.x, drawn.z)[0]
likelihood = hmm.log_marginal_likelihood(drawn.x)[0]
print(f"log p(x, z) {joint:.6f}, by hand {by_hand:.6f}\nlog p(x)    {likelihood:.6f}")
assert torch.allclose(joint, by_hand)
assert joint < likelihood  # one term of a sum

# %% [markdown]
# ## Every model, the same calls
#
# Drawing, scoring, filtering and forecasting follow from the three conditionals, and so they exist for every model. Two
# more models, both for one real number per step:

# %% alt="A drawn sequence of an RNN and one of a linear Gaussian model, each continued by a forecast with two shaded intervals"
torch.manual_seed(0)
pair = {
    "RNN": RNN(cell="gru", emission=Gaussian(1), hidden_dim=8),
    "Linear Gaussian": LinearGaussianSSM.random(latent_dim=2, obs_dim=1, seed=5),
}
figure, panels = plt.subplots(2, 1, figsize=(7, 5), layout="constrained")
for panel, (name, model) in zip(panels, pair.items(), strict=True):
    data = model.sample(num_sequences=1, num_steps=NUM_STEPS, seed=2)
    ahead = pr.forecast(model, data, num_steps=8, levels=(50, 90))
    pr.plot.forecast(ahead, axes=panel)
    panel.set_title(name)
plt.show()

# %% [markdown]
# How the number $\log p(x)$ is found differs: the RNN reads it off, the linear Gaussian model needs an integral, and the
# VRNN can only be bounded. The answer says which of these it is:

# %%
for name, model in {**pair, "VRNN": models["VRNN"]}.items():
    data = model.sample(num_sequences=5, num_steps=NUM_STEPS, seed=3)
    bound = "elbo" if name == "VRNN" else "exact"
    score = svi.evaluate(model, data, bound=bound)
    print(f"{name:16} {score.nats_per_step:.3f} nats per step ({bound})")

# %% [markdown]
# **What breaks.** Not every question has an exact answer for every model. Ask for what cannot be had, and the package
# says so:

# %%
vrnn = models["VRNN"]
try:
    svi.evaluate(vrnn, vrnn.sample(num_sequences=2, num_steps=5, seed=0), bound="exact")
    refused = False
except (TypeError, ValueError) as error:
    refused = True
    print(error)
assert refused

# %% [markdown]
# ## Takeaways
#
# - One graph, three questions: what is remembered, what is hidden, what is seen.
# - The joint density is a product, one factor per node. A deterministic node has the factor one.
# - If nothing random is hidden, the joint density is the likelihood. Otherwise the hidden states must be summed out.
# - Models differ in their conditionals; the calls stay the same.
#
# ## Exercises
#
# ### Exercise 1: a graph by hand
#
# A Markov chain has $x_t \sim p(x_t \mid x_{t-1})$ and nothing else. Which of $h$ and $z$ does it have, if it is to be
# this lesson's graph? Write down the edges of three steps, and compare with `read_graph(MarkovChain.random(...), 3)`.
#
# <details>
# <summary>Solution</summary>
#
# The memory is the last observation, $h_t = x_{t-1}$, and there is no $z$.
#
# ```python
# from pgm_rnn.models import MarkovChain
#
# chain = read_graph(MarkovChain.random(num_symbols=3, seed=0), 3)
# print(*(f"{a}->{b}" for a, b in chain.edges))
# assert {("x_1", "h_2"), ("h_2", "x_2"), ("x_2", "h_3"), ("h_3", "x_3")} <= set(chain.edges)
# assert not any(name.startswith("z") for name in chain.nodes)
# assert ("h_2", "h_3") not in chain.edges  # this arrow makes it a recurrent network
# ```
#
# </details>
#
# ### Exercise 2: the sum that the HMM hides
#
# Compute $p(x_{1:3})$ of the HMM above from `hmm.log_prob` alone, as a sum over its $2^3$ paths. Compare with
# `log_marginal_likelihood`.
#
# <details>
# <summary>Solution</summary>
#
# ```python
# paths = torch.cartesian_prod(*[torch.arange(2)] * 3)
# joints = hmm.log_prob(drawn.x.expand(8, -1), paths)
# assert torch.allclose(joints.logsumexp(0), hmm.log_marginal_likelihood(drawn.x)[0])
# ```
#
# </details>
#
# ### Exercise 3: laws sum to one
#
# Sum $p(x_{1:3})$ of the RNN and of the HMM over all $3^3$ sequences of three symbols. Why must both be one, although
# the RNN was never normalised over sequences?
#
# <details>
# <summary>Solution</summary>
#
# Sum over $x_3$ first: $p(x_3 \mid h_3)$ sums to one, because $h_3$ does not depend on $x_3$. Then over $x_2$, and so on.
#
# ```python
# words = torch.cartesian_prod(*[torch.arange(3)] * 3)
# for model in (rnn, hmm):
#     total = model.log_marginal_likelihood(words).exp().sum()
#     assert torch.allclose(total, torch.tensor(1.0))
# ```
#
# </details>
#
# ## Further reading
#
# - Y. J. Choe, J. Shin, N. Spencer (2017). *Probabilistic Interpretations of Recurrent Neural Networks.* Sections 2 and
#   3.1: the graphs of fig. 2 and 3.
# - R. Vidal (2024). *Deep Generative Models: Recurrent Neural Networks.* A taxonomy of models of sequences.
# - J. Chung, K. Kastner, L. Dinh, K. Goel, A. Courville, Y. Bengio (2015). *A recurrent latent variable model for
#   sequential data.* The model with both $h$ and $z$; lesson 10.
