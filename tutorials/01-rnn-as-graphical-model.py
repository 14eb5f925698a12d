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
# # 1. An RNN is a graphical model
#
# **The idea.** A recurrent network computes its hidden states, a graphical model draws them. Give each hidden state a law
# with all of its mass at the computed value, and the two make the same predictions. Then everything that is known of
# graphical models holds of the network, and a little more.
#
# - **Level:** intermediate. **Minutes:** 60, with the exercises 100.
# - **You need:** lesson 0, and Bayes' rule on a table. D-separation is explained here.
# - **Afterwards you can:** prove Theorem 5 of Choe, Shin & Spencer (2017) on a table, read independences off a graph, and
#   say which of them need a deterministic hidden state.

# %% tags=["parameters"] short={"NUM_STEPS": 6}
NUM_STEPS = 9  # steps T; the table of the last one has 2^(T - 1) hidden states

# %%
from itertools import combinations

import matplotlib.pyplot as plt
import networkx as nx
import torch

import pgm_rnn as pr
from pgm_rnn.graph import D_separated, d_separated, determined_by, read_graph
from pgm_rnn.models import RNN

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The network
#
# A network over two symbols, $x_t \in \{0, 1\}$:
#
# $$h_t = f(h_{t-1}, x_{t-1}), \qquad x_t \sim g(h_t), \qquad t = 1, \dots, T.$$
#
# $h_1$ is a parameter. (The paper counts hidden states one step later; nothing depends on it.)

# %% alt="The graph of the RNN over four steps: double squares for hidden states in a chain, each with an arrow to its observation, and observations with arrows to the next hidden state"
torch.manual_seed(2)
rnn = RNN(cell="elman", num_symbols=2, hidden_dim=3).requires_grad_(False)
for parameter in rnn.parameters():
    parameter.mul_(3.0)  # an untrained network hardly reacts; make it react
graph = read_graph(rnn, 4)
pr.plot.graph(rnn, num_steps=4)
plt.show()

# %% [markdown]
# ## Hidden states as random variables
#
# A graphical model needs a law for every node. We choose a point mass for the hidden states:
#
# $$P(h_t \mid h_{t-1}, x_{t-1}) = \begin{cases} 1 & h_t = f(h_{t-1}, x_{t-1}) \\ 0 & \text{otherwise} \end{cases}$$
#
# and forget that we know the answer. To infer $h_t$ from the observations, a graphical model sums over all values that
# $h_t$ may have. There are finitely many: one for each history $x_{1:t-1}$, so $2^{t-1}$ at step $t$. We number them
# such that the histories of number $i$ go on, after the symbol $s$, to number $2i + s$:

# %%
candidates = [rnn.initial_memory[None]]  # candidates[t]: (2^t, size of the state)
for _ in range(NUM_STEPS - 1):
    before = candidates[-1]
    both = [rnn.recurrence(before, None, torch.full((len(before),), s)) for s in (0, 1)]
    candidates.append(torch.stack(both, dim=1).flatten(0, 1))
emissions = [rnn.emission(None, h).probs for h in candidates]  # g(h), (2^t, 2)
print("candidates at each step:", *(len(h) for h in candidates))


# %% [markdown]
# The law of a hidden state becomes a matrix. For later we let it be noisy: with probability $\varepsilon$ the state is
# drawn uniformly from all candidates. $\varepsilon = 0$ is the network.


# %%
def kernel(t, symbol, noise=0.0):
    """P(h_{t+1} = j | h_t = i, x_t = symbol) for candidates i and j, counted from t = 0."""
    rows, columns = len(candidates[t]), len(candidates[t + 1])
    moves = torch.zeros(rows, columns)
    moves[torch.arange(rows), 2 * torch.arange(rows) + symbol] = 1.0
    return (1 - noise) * moves + noise / columns


def infer(x, noise=0.0):
    """log p(x) and the laws p(h_t | x_1, ..., x_{t-1}), by sums over all candidates."""
    belief, beliefs, total = torch.ones(1), [], 0.0
    for t, symbol in enumerate(x.tolist()):
        beliefs.append(belief)
        joint = belief * emissions[t][:, symbol]  # p(h_t, x_t | the past)
        total = total + joint.sum().log()
        if t + 1 < len(x):
            belief = joint / joint.sum() @ kernel(t, symbol, noise)
    return total, beliefs


# %% [markdown]
# ## Theorem 5
#
# *The graphical model with point masses has the network's law of observations.* Nothing in `infer` knows that the sum
# has one term. Compare it with the network:

# %%
x = rnn.sample(num_sequences=1, num_steps=NUM_STEPS, seed=0).x[0]
by_sums, beliefs = infer(x)
by_network = rnn.log_prob(x[None])[0]
print(f"sum over all hidden states {by_sums:.12f}\nthe network                {by_network:.12f}")
print(
    "largest probability of a hidden state, per step:",
    *(f"{b.max():.3f}" for b in beliefs),
)
assert torch.allclose(by_sums, by_network)
assert all(torch.allclose(b.max(), torch.tensor(1.0)) for b in beliefs)

# %% [markdown]
# The second line is the proof. The belief about $h_1$ is a point mass. If the belief about $h_t$ is one, a further
# observation cannot move it, and the kernel carries it to one point: $f(h_t, x_t)$. So every belief is a point mass, at
# the state that the network computes, and the prediction $\sum_h P(h_t = h \mid x_{1:t-1})\, g(h)$ has one term.
#
# **What breaks.** Take the hypothesis away. With 5 % noise the beliefs spread and the law is another one:

# %%
with_noise, spread = infer(x, noise=0.05)
print(f"with noise {with_noise:.6f}, network {by_network:.6f}")
print("largest probability:", *(f"{b.max():.3f}" for b in spread))
assert abs(with_noise - by_network) > 1e-4
assert spread[-1].max() < 0.99

# %% [markdown]
# ## Reading independences off the graph
#
# $A$ and $B$ are **d-separated** by $C$ if every law on the graph makes them independent given $C$. One test for it:
# keep the three sets and their ancestors, marry the parents of each child, drop the directions, delete $C$. They are
# separated if no path is left.


# %%
def separated(graph, a, b, given):
    """d-separation by the moral graph of the ancestors."""
    asked = set(a) | set(b) | set(given)
    kept = asked.union(*(nx.ancestors(graph, node) for node in asked))
    moral = graph.subgraph(kept).to_undirected()
    for node in kept:
        moral.add_edges_from(combinations(graph.subgraph(kept).predecessors(node), 2))
    moral.remove_nodes_from(given)
    return not any(nx.has_path(moral, i, j) for i in a for j in b)


questions = {
    "x_4 from x_1, x_2, x_3, given h_4": ({"x_4"}, {"x_1", "x_2", "x_3"}, {"h_4"}),
    "h_3 from x_1, given h_2 and x_2": ({"h_3"}, {"x_1"}, {"h_2", "x_2"}),
    "x_4 from x_1, given x_2 and x_3": ({"x_4"}, {"x_1"}, {"x_2", "x_3"}),
    "h_3 from x_3, x_4, given h_2 and x_2": ({"h_3"}, {"x_3", "x_4"}, {"h_2", "x_2"}),
}
for question, sets in questions.items():
    answer = separated(graph, *sets)
    print(f"{question:40} {'separated' if answer else 'connected'}")
    assert answer == d_separated(graph, *sets)

# %% [markdown]
# The first two are the Markov properties: the hidden state is all that a prediction needs. The third says that without
# the hidden state, the whole past matters.
#
# ## Proposition 4, and why arrows are not enough
#
# The last question is Proposition 4 of the paper: *given $h_2$ and $x_2$, the state $h_3$ is independent of all later
# observations.* The graph says no: there is an arrow from $h_3$ to $x_3$. And yet it is true of a network, because $h_3$
# is *known* once $h_2$ and $x_2$ are. A constant is independent of everything.
#
# The graph can be taught this. **D-separation** (with a capital D) first adds to the given nodes every deterministic node
# whose parents are given ($h_1$ has none: it is a constant), and then asks as before:

# %%
a, b, given = questions["h_3 from x_3, x_4, given h_2 and x_2"]
print("determined by h_2 and x_2:", sorted(determined_by(graph, given) - given))
print(
    "d-separated:",
    d_separated(graph, a, b, given),
    "  D-separated:",
    D_separated(graph, a, b, given),
)
assert not d_separated(graph, a, b, given)
assert D_separated(graph, a, b, given)


# %% [markdown]
# Numbers must agree with words. The mutual information between $h_3$ and $(x_3, x_4)$, given $h_2$ and $x_2$, is zero if
# and only if they are independent:
#
# $$I = \sum_{h_3, x_3, x_4} p(h_3, x_3, x_4) \log \frac{p(x_3, x_4 \mid h_3)}{p(x_3, x_4)} .$$


# %%
def information(noise, state=0, symbol=1):
    """Mutual information of h_3 and (x_3, x_4) given h_2 = candidate `state` and x_2 = symbol, nats."""
    of_h3 = kernel(1, symbol, noise)[state]  # (4,)
    x_3 = emissions[2]  # (4, 2)
    x_4 = torch.stack([kernel(2, s, noise) @ emissions[3] for s in (0, 1)], dim=1)  # (4, 2, 2)
    of_future = x_3[..., None] * x_4  # p(x_3, x_4 | h_3), (4, 2, 2)
    mean = (of_h3[:, None, None] * of_future).sum(0)
    return (of_h3[:, None, None] * of_future * (of_future / mean).log()).sum()


noises = torch.logspace(-4, -0.1, 30)
values = torch.stack([information(noise) for noise in noises])
print(f"no noise: {information(0.0):.1e} nats;  5 % noise: {information(0.05):.1e} nats")
assert abs(information(0.0)) < 1e-12
assert (values > 1e-9).all()

# %% alt="Mutual information against noise, both axes logarithmic: it rises with the noise from nearly nothing and is zero without noise"
figure, axes = plt.subplots(figsize=(6, 3))
axes.loglog(noises, values, marker=".")
axes.set_xlabel(r"noise $\varepsilon$ in the hidden state")
axes.set_ylabel("information on $h_3$ in $x_3, x_4$, nats")
plt.show()

# %% [markdown]
# With noise, later observations do tell something about $h_3$: that is what *smoothing* is for in hidden Markov models.
# In a network there is nothing to smooth. This is the difference between the two families, in one number.
#
# ## Takeaways
#
# - A network is the graphical model whose hidden nodes are point masses (Theorem 5). Inference is running the network.
# - d-separation gives the independences that every law on a graph has. The Markov properties of an RNN are of this kind.
# - Proposition 4 is not of this kind: it needs deterministic nodes, and D-separation.
# - In a network the future says nothing about a hidden state that the past has not said.
#
# ## Exercises
#
# ### Exercise 1: the other family
#
# Ask the question of Proposition 4 about an HMM: is $z_3$ separated from $x_3, x_4$, given $z_2$ and $x_2$? By d- and by
# D-separation? Why does the capital letter change nothing?
#
# <details>
# <summary>Solution</summary>
#
# An HMM has no deterministic node, so nothing is determined but what is given, and the two notions are the same.
#
# ```python
# from pgm_rnn.models import HMM
#
# chain = read_graph(HMM.random(num_states=2, num_symbols=2, seed=0), 4)
# sets = {"z_3"}, {"x_3", "x_4"}, {"z_2", "x_2"}
# assert not d_separated(chain, *sets)
# assert not D_separated(chain, *sets)
# assert determined_by(chain, {"z_2", "x_2"}) == {"z_2", "x_2"}
# ```
#
# </details>
#
# ### Exercise 2: what the network does not model
#
# Remark 1 of the paper: with $x_1$ as an input, the network gives a law of $x_2, \dots, x_T$ only. Sum
# `rnn.log_prob(words, first="condition").exp()` over all $2^4$ words of four symbols, for each $x_1$ and in total. What
# does `first="model"` add?
#
# <details>
# <summary>Solution</summary>
#
# For each $x_1$ the sum is one, so in total it is 2, the number of symbols. `first="model"` adds the factor $g(h_1)(x_1)$.
#
# ```python
# words = torch.cartesian_prod(*[torch.arange(2)] * 4)
# given_x1 = rnn.log_prob(words, first="condition").exp()
# assert torch.allclose(given_x1[words[:, 0] == 0].sum(), torch.tensor(1.0))
# assert torch.allclose(given_x1.sum(), torch.tensor(2.0))
# assert torch.allclose(rnn.log_prob(words, first="model").exp().sum(), torch.tensor(1.0))
# ```
#
# </details>
#
# ### Exercise 3: an arrow too many
#
# Add the arrow $x_3 \to x_4$ to the graph. Which of the four questions change their answers? Predict, then ask.
#
# <details>
# <summary>Solution</summary>
#
# The first: $x_4$ now depends on $x_3$ directly. The others had a connection already, or do not meet the arrow.
#
# ```python
# more = graph.copy()
# more.add_edge("x_3", "x_4")
# changed = [q for q, s in questions.items() if d_separated(more, *s) != d_separated(graph, *s)]
# assert changed == ["x_4 from x_1, x_2, x_3, given h_4"]
# ```
#
# </details>
#
# ## Further reading
#
# - Y. J. Choe, J. Shin, N. Spencer (2017). *Probabilistic Interpretations of Recurrent Neural Networks.* Section 3.1:
#   Theorem 5 and Proposition 4. The claims `theorem-5` and `proposition-4` in [the claims](../docs/claims.md) check them
#   on many networks.
# - D. Geiger, T. Verma, J. Pearl (1990). *Identifying independence in Bayesian networks.* D-separation, with the proof
#   that it finds every independence that deterministic nodes imply.
# - J. Sohl-Dickstein, D. P. Kingma (2015). *Note on Equivalence Between Recurrent Neural Network Time Series Models and
#   Variational Bayesian Models.* The same equivalence seen from variational inference; lesson 2.
