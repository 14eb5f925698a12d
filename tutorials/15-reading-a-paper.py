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
# # 15. Reading a paper with numbers
#
# **The idea.** A printed formula is a hypothesis. Compute both of its sides by ways that have nothing in common, on an
# example that you can redo by hand, and look for an instance on which they differ. Then do the same to your own check:
# it must be able to fail.
#
# - **Level:** intermediate. **Minutes:** 60, with the exercises 110.
# - **You need:** lessons 3 and 7. No other Pyro than the package's models.
# - **Afterwards you can:** test a formula by its sums, its special cases, random instances and Monte Carlo with error
#   bars, and say "wrong" or "imprecise" with evidence.

# %% tags=["parameters"] short={"NUM_RUNS": 20, "LARGEST": 1000, "NUM_ERRATA": 4}
NUM_RUNS = 50  # runs of a particle filter behind each error bar
LARGEST = 10_000  # particles of the largest filter
NUM_ERRATA = 11  # corrections that are measured at the end

# %%
import itertools

import matplotlib.pyplot as plt
import torch

from pgm_rnn.claims import CLAIMS, check
from pgm_rnn.inference import forward_backward
from pgm_rnn.models import HMM, MultiParticleRNN

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# This package implements three papers and a set of lecture slides, and their statements became tests. Most hold. A
# dozen do not as they are printed: a start with one transition too many, a missing factor, a bound that bounds nothing.
# The sources are good ones, and the slips are ordinary. This lesson redoes four of them, each with another tool.
#
# ## Tool 1: sums to one
#
# Vineet (2019), section 3, factorises a variational RNN as
#
# $$P(x_{\le T}) = \prod_t P(x_t \mid z_{\le t}, x_{\le t})\; P(z_t \mid x_{<t}, z_{<t}).$$
#
# Read the index of $x$ in the first factor again. $P(x_t \mid \dots, x_{\le t})$ knows $x_t$, and so it is one. The
# cheapest of all tests finds this: **whatever claims to be a distribution must sum to one.** Five lines, without any
# $z$, for a chain of symbols:

# %%
K, T = 2, 3
torch.manual_seed(0)
start, table = torch.rand(K).softmax(0), torch.rand(K, K).softmax(1)  # p(x_1), p(x_t | x_{t-1})
words = list(itertools.product(range(K), repeat=T))
knows_the_past = sum(start[w[0]] * table[w[0], w[1]] * table[w[1], w[2]] for w in words)
knows_itself = sum(1.0 for w in words)  # p(x_t | x_1, ..., x_t) = 1, three times
print(f"sum over all words: {knows_the_past:.6f} with x_<t, {knows_itself:.0f} = {K}^{T} with x_<=t")
assert torch.allclose(knows_the_past, torch.ones(()))
assert knows_itself == K**T

# %% [markdown]
# Dimensions are the same kind of test. $P(X) = P(X \mid z) P(z)$, on the same pages, has a $z$ on the right that the
# left side does not have: no computer is needed.
#
# ## Tool 2: the smallest example
#
# Choe, Shin & Spencer (2017), section 3.2, start the forward algorithm at the belief $\alpha_0 = P(H_1)$ and apply the
# recursion $\alpha_t = D_{x_t} V \alpha_{t-1}$, with the transition matrix $V$ and the diagonal matrix
# $D_x$ of the emission probabilities of $x$. At $t = 1$ this moves the law of the first state on before the first
# observation is weighed. Two states, one observation, numbers that one can do in the head:

# %%
first = torch.tensor([1.0, 0.0])  # surely state 1
V = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # columns are the old state: the states are exchanged
D = torch.diag(torch.tensor([0.9, 0.2]))  # p(x = 1 | H)
printed, corrected = (D @ V @ first).sum(), (D @ first).sum()
print(f"p(x_1 = 1) by definition {1.0 * 0.9:.1f}, printed start {printed:.1f}, corrected start {corrected:.1f}")
assert abs(corrected - 0.9) < 1e-12
assert abs(printed - 0.2) < 1e-12

# %% [markdown]
# **Each tool has a blind spot.** Does the sum find this slip? No: the printed start gives probabilities that sum to
# one. They belong to another chain, one that moves once more:

# %%
see = torch.tensor([[0.9, 0.1], [0.2, 0.8]])  # p(x | H), rows are states
sums = sum((torch.diag(see[:, x]) @ V @ first).sum() for x in range(2))
print(f"printed start, summed over x_1: {sums:.1f}")
assert abs(sums - 1) < 1e-12

# %% [markdown]
# ## Tool 3: random instances, two routes, and a control
#
# A single example may be unlucky or lucky. So draw many models and compare two routes that share no code: the
# recursion, and the definition as a sum over all paths of states. The package's engine is a third:


# %%
def by_paths(hmm, x):
    """p(x) as a sum over all paths of states."""
    total = 0.0
    for path in itertools.product(range(len(hmm.initial_probs)), repeat=len(x)):
        p = hmm.initial_probs[path[0]] * hmm.emission_probs[path[0], x[0]]
        for t in range(1, len(x)):
            p = p * hmm.transition_probs[path[t - 1], path[t]] * hmm.emission_probs[path[t], x[t]]
        total = total + p
    return total


def by_recursion(hmm, x, printed):
    """p(x) by the forward algorithm with the printed start or the corrected one."""
    alpha = hmm.initial_probs
    for t, x_t in enumerate(x):
        if t > 0 or printed:
            alpha = alpha @ hmm.transition_probs
        alpha = alpha * hmm.emission_probs[:, x_t]
    return alpha.sum()


def largest_error(hmms, printed):
    """Largest relative error over the models, each with a sequence of its own."""
    errors = []
    for seed, hmm in enumerate(hmms):
        x = hmm.sample(1, 4, seed=seed).x[0]
        errors.append(abs(by_recursion(hmm, x, printed) / by_paths(hmm, x) - 1))
    return float(torch.stack(errors).detach().max())


hmms = [HMM.random(num_states=3, num_symbols=2, seed=seed) for seed in range(10)]
found = {"corrected": largest_error(hmms, printed=False), "printed": largest_error(hmms, printed=True)}
print({name: f"{error:.1e}" for name, error in found.items()})
x = hmms[0].sample(5, 4, seed=0).x
engine = forward_backward.filter(hmms[0], x).log_marginal_likelihood.exp()
assert torch.allclose(engine, torch.stack([by_paths(hmms[0], x_i) for x_i in x]))
assert found["corrected"] < 1e-12 < 1e-3 < found["printed"]

# %% [markdown]
# The corrected start agrees up to rounding, about $10^{-15}$. There is no doubt left, since nothing lies between
# $10^{-15}$ and the printed formula's error.
#
# **What breaks: a control that cannot fail.** Suppose that we had drawn the models with more taste, all of them started
# in their stationary law, $\pi A = \pi$, as textbooks like it. Then:

# %%
stationary = []
for hmm in hmms:
    law = torch.linalg.matrix_power(hmm.transition_probs, 1000)[0]
    stationary.append(HMM(law, hmm.transition_probs, hmm.emission_probs))
hidden = largest_error(stationary, printed=True)
print(f"the printed start on stationary chains: error {hidden:.1e}")
assert hidden < 1e-12

# %% [markdown]
# The wrong formula passes every one of these tests. That is how such slips survive: **the special case that everybody
# tries is the one that hides them.** A check is worth what its control is worth. Break the hypothesis on purpose, and
# the check must fail. If it does not, it tested nothing.
#
# ## A bound that bounds nothing
#
# Sohl-Dickstein & Kingma (2015), eq. (17), take $L$ networks (particles) that start at different states, whose mixture
# has the likelihood $p(X) = \frac{1}{L} \sum_l \prod_t p(x^t \mid h_l^t)$, and print the bound
#
# $$\log p(X) \;\ge\; \mathcal{K}(X) = \sum_t \log \frac{1}{L} \sum_l p(x^t \mid h_l^t).$$
#
# Two particles, two steps, by hand:

# %%
by_particle = torch.tensor([[0.9, 0.1], [0.1, 0.9]])  # p(x^t = 1 | h_l^t), rows l, columns t
log_p = by_particle.prod(1).mean().log()
bound = by_particle.mean(0).log().sum()
jensen = by_particle.log().sum(1).mean()
print(f"log p(1, 1) = {log_p:.2f}, 'bound' K = {bound:.2f}, bound by Jensen's inequality {jensen:.2f}")
assert bound > log_p + 1
assert jensen <= log_p

# %% [markdown]
# $\mathcal{K}$ is above. Is that one strange example? Tool 1 says why it cannot be: $\exp \mathcal{K}(X)$ sums to one
# over all $X$, too. It is the law of *another* model, whose particle is drawn anew at each step. Of two laws that
# differ, neither can be below the other everywhere. We take a network with random weights and all $2^8$ sequences:

# %%
torch.manual_seed(1)
mixture = MultiParticleRNN(num_particles=2, num_symbols=2, hidden_dim=4, average="sequence")
with torch.no_grad():
    for parameter in mixture.parameters():
        parameter.normal_(std=1.5)
every_word = torch.tensor(list(itertools.product(range(2), repeat=8)))
terms = mixture.particle_log_probs(every_word).detach()  # log p(x^t | h_l^t): (word, step, particle)
log_p = terms.sum(1).logsumexp(-1) - torch.tensor(2.0).log()
K_printed = (terms.logsumexp(-1) - torch.tensor(2.0).log()).sum(-1)
K_jensen = terms.sum(1).mean(-1)

assert torch.allclose(log_p, mixture.log_prob(every_word).detach())  # the package's likelihood
for name, values in (("p", log_p), ("exp K", K_printed), ("exp of Jensen's bound", K_jensen)):
    print(f"sum over all words of {name:22} {values.exp().sum():.6f}")
above = int((K_printed > log_p + 1e-9).sum())
print(f"K is above log p for {above} of 256 words; Jensen's bound for {int((K_jensen > log_p + 1e-9).sum())}")
assert torch.allclose(K_printed.exp().sum(), torch.ones(()))
assert above > 0
assert not (K_jensen > log_p + 1e-9).any()

# %% alt="Histogram over all words of K minus log p(X), with mass on both sides of zero for the printed formula and only below zero for Jensen's bound"
figure, axes = plt.subplots(figsize=(7, 3))
bins = torch.linspace(-4, 4, 41).numpy()
axes.hist((K_jensen - log_p).clamp(-4, 4).numpy(), bins, color="tab:gray", alpha=0.6, label="Jensen's bound")
axes.hist(
    (K_printed - log_p).clamp(-4, 4).numpy(), bins, histtype="step", color="black", linewidth=2, label="printed K"
)
axes.axvline(0, color="black", linestyle=":")
axes.set_xlabel(r"bound $-$ log p(X), nats (a bound is never above zero)")
axes.set_ylabel("words")
axes.legend()
plt.show()

# %% [markdown]
# ## Tool 4: Monte Carlo with error bars
#
# Choe et al., section 2.3, weigh a particle by $W_t = P(H_t \mid x_t, H_{t-1}) / q(H_t \mid H_{t-1})$. Importance
# sampling divides the *target* by the proposal, and the target grows by $p(x_t \mid H_t)\, P(H_t \mid H_{t-1})$. By
# Bayes' rule the printed weight is the right one divided by $p(x_t \mid H_{t-1})$: it forgets how well the particle's
# past foresaw $x_t$.
#
# Two states that never change, $p(x = 1 \mid H) = (0.9, 0.1)$, and $x_1 = x_2 = 1$. Exactly,
# $P(H = 1 \mid x_1, x_2) = 0.81 / 0.82 = 0.988$. A state that never changes is sure to stay, so the printed weight of
# step 2 is $1 / 1$ for every particle. A filter is random; **a number without an error bar is no evidence**:


# %%
def filtered(num_particles, printed):
    """A particle filter's estimate of P(H = 1 | x_1 = 1, x_2 = 1), the particles proposed by the model."""
    h = torch.randint(2, (num_particles,))  # P(H_1) = (1/2, 1/2)
    likelihood = torch.tensor([0.9, 0.1])[h]
    weights = likelihood.clone()  # after x_1, where both agree
    weights *= torch.ones(num_particles) if printed else likelihood
    return weights[h == 0].sum() / weights.sum()


exact = 0.81 / 0.82
sizes = [size for size in (30, 100, 300, 1000, 3000, 10_000) if size <= LARGEST]
torch.manual_seed(2)
means, spreads, errors = {}, {}, {}
for printed in (False, True):
    runs = torch.stack([torch.stack([filtered(M, printed) for _ in range(NUM_RUNS)]) for M in sizes])
    means[printed], spreads[printed] = runs.mean(1), runs.std(1)
    errors[printed] = spreads[printed] / NUM_RUNS**0.5
for printed, name in ((False, "corrected"), (True, "printed")):
    away = (means[printed][-1] - exact) / errors[printed][-1]
    estimate = f"{means[printed][-1]:.5f} ± {errors[printed][-1]:.5f}"
    print(f"{name:9} {estimate}: {away:+.1f} standard errors from {exact:.5f}")
assert abs(means[False][-1] - exact) < 5 * errors[False][-1]
assert abs(means[True][-1] - exact) > 20 * errors[True][-1]

# %% alt="Estimates against the number of particles, with bands that become narrower: those with the corrected weight approach the exact line at 0.988, those with the printed weight approach 0.9"
figure, axes = plt.subplots(figsize=(7, 3))
for printed, name, style in ((False, "corrected weight", "o-"), (True, "printed weight", "s--")):
    (line,) = axes.plot(sizes, means[printed], style, label=f"{name}: mean and spread of the runs")
    low, high = means[printed] - 2 * spreads[printed], means[printed] + 2 * spreads[printed]
    axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.2)
axes.axhline(exact, color="black", linestyle=":", label="exact, 0.81 / 0.82")
axes.set_xscale("log")
axes.set_xlabel("particles")
axes.set_ylabel(r"$P(H = 1 \mid x_1, x_2)$")
axes.set_ylim(0.7, 1.05)
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# Two things to note. For few particles the *corrected* filter is biased, too: a ratio of two estimates is right only in
# the limit. A test at 30 particles could have condemned it, so know what is claimed: unbiased, or consistent? And the
# distance is measured in standard errors. Choose the number that you will believe before you look. This package allows
# six for a claim that must hold, because it tests many of them.
#
# ## "Wrong" and "imprecise"
#
# Words matter, for authors read errata. The package calls a printed statement
#
# - **wrong**, if under the hypotheses that are printed, or obvious from the text, it is false: all those above;
# - **imprecise**, if it is right in some reading, or often, and the text does not say which.
#
# An example of the second: the same authors see a particle filter as a network with a random seed $h_0$ "injected at
# the beginning of the chain". With a random number generator started from $h_0$, the estimate of $p(x)$ is unbiased.
# But read to the letter, the formula $q^*(H_{t-1}, h_0)$ has no $t$ in it, so every step meets the *same* uniform
# number. One particle, two throws of a fair coin, $x_t = 1$ if and only if $H_t = 1$; so $P(x = (1, 1)) = 1/4$. The
# expectation over the seed can be done exactly, on a grid of uniforms:

# %%
u = (torch.arange(1000) + 0.5) / 1000
coin = (u < 0.5).double()  # H_t as a function of its uniform
fresh = (coin[:, None] * coin[None, :]).mean()
same = (coin * coin).mean()
print(f"mean estimate of 1/4: fresh uniforms {fresh:.4f}, the same uniform twice {same:.4f}")
assert abs(fresh - 0.25) < 1e-12
assert abs(same - 0.5) < 1e-12

# %% [markdown]
# ## The registry
#
# In the package each such statement is a *claim*: two routes, a tolerance that follows from rounding or from chance,
# and a control. For an erratum the statement is the correction, and the control is what was printed. It holds if the
# residual is within the tolerance and the control is outside:

# %%
errata = [claim for claim in CLAIMS.values() if claim.kind == "erratum"]
slow = ("noise-can-help", "extended-kalman-jacobians", "particle-weights", "particle-filter-unbiased")
errata.sort(key=lambda claim: slow.index(claim.id) if claim.id in slow else -1)  # the slowest last, and left out
results = [check(claim, quick=True) for claim in errata[:NUM_ERRATA]]
for claim, result in zip(errata, results, strict=False):
    print(f"{result.id:26} {claim.erratum:9} {result.verdict}")
assert all(result.verdict == "holds" for result in results)

# %% alt="For each erratum the residual of the correction on a logarithmic axis, left of its tolerance, and the residual of the printed formula, right of it"
figure, axes = plt.subplots(figsize=(7, 0.6 + 0.32 * len(results)))
for row, result in enumerate(results):
    axes.plot([result.tolerance] * 2, [row - 0.35, row + 0.35], color="black", label=None if row else "tolerance")
    residual = max(result.residual, 1e-16)  # an exact zero
    axes.plot(residual, row, "o", color="tab:blue", label=None if row else "correction")
    axes.plot(result.control_residual, row, "X", color="tab:orange", label=None if row else "printed (control)")
axes.set_xscale("log")
axes.set_yticks(range(len(results)), [result.id for result in results])
axes.invert_yaxis()
axes.set_xlabel("difference of the two routes, or standard errors for particle-weights")
axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.6 / (0.6 + 0.32 * len(results))), ncols=3, frameon=False)
plt.show()

# %% [markdown]
# All of them, with quotations and proofs, are on the page [errata](../docs/errata.md). To measure one at the command
# line: `pgm-rnn verify forward-start`.
#
# ## Takeaways
#
# - Test a formula by the cheapest tool first: dimensions, sums to one, the smallest example. Then random instances and
#   two routes that share no code. Monte Carlo comes last, with error bars.
# - Every tool has a blind spot, and special cases hide errors. Draw instances that nobody would choose.
# - A check needs a control: break the hypothesis, and it must fail.
# - "Wrong" needs a counterexample within the printed hypotheses. Otherwise say "imprecise", and give the reading in
#   which it is right.
# - Suspect your own code first. Only two routes that agree with each other, and not with the page, speak against it.
#
# ## Exercises
#
# ### Exercise 1: a derivative
#
# Slides on the extended Kalman filter linearise $g(A z)$ with the matrix $\tilde A = \mathrm{diag}(g'(A z)) A^\top$.
# Test this with $g = \tanh$ and finite differences. For which matrices $A$ does the slip stay hidden?
#
# <details>
# <summary>Solution</summary>
#
# By the chain rule the Jacobian is $\mathrm{diag}(g'(A z))\, A$, without the transpose. Symmetric matrices hide it, and
# so does any example in one dimension.
#
# ```python
# torch.manual_seed(3)
# A, z, step = torch.randn(3, 3), torch.randn(3), 1e-6
# numeric = torch.stack(
#     [((A @ (z + step * e)).tanh() - (A @ (z - step * e)).tanh()) / (2 * step) for e in torch.eye(3)], dim=1
# )
# slopes = torch.diag(1 - (A @ z).tanh() ** 2)
# assert (slopes @ A - numeric).abs().max() < 1e-8
# assert (slopes @ A.mT - numeric).abs().max() > 1e-2
#
# S = A + A.mT
# numeric = torch.autograd.functional.jacobian(lambda z: (S @ z).tanh(), z)
# slopes = torch.diag(1 - (S @ z).tanh() ** 2)
# assert torch.allclose(slopes @ S.mT, numeric)  # the printed formula passes
# ```
#
# </details>
#
# ### Exercise 2: sum or average?
#
# A note says of the terms of the variational bound: "This is averaged across all timesteps to approximate the
# expectation." Take two throws of a fair coin and a guide that equals the prior, so that every term is $\log 0.5$. Is
# the average a bound on $\log p(x)$? Is the sentence wrong or imprecise? In which reading is it right?
#
# <details>
# <summary>Solution</summary>
#
# The sum of the terms is $2 \log 0.5 = -1.39 = \log p(x)$; their average is $-0.69$, above it, and no bound. As an
# objective for training on sequences of *one* length the average has the same maximum, and what approximates the
# expectation is an average over draws of $z$. So: imprecise. The claim is `vrnn-objective-sum`.
#
# ```python
# terms = torch.tensor([0.5, 0.5]).log()
# log_likelihood = torch.tensor(0.25).log()
# assert torch.allclose(terms.sum(), log_likelihood)
# assert terms.mean() > log_likelihood
# assert CLAIMS["vrnn-objective-sum"].erratum == "imprecise"
# ```
#
# </details>
#
# ### Exercise 3: search for a counterexample
#
# "This contribution of the noise to $h^t$ can trivially be minimized by letting $\sigma \to 0$", says a paper: noise in
# a network's hidden state should never help. Take one step, $h = \sigma \epsilon$ with $\epsilon = \pm 1$, one half
# each, and $p(x = 1 \mid h) = (1 + e^{-(a h^2 + c)})^{-1}$. Search for $a$ and $c$ for which the mean of
# $\log p(x = 1 \mid h)$ is larger at $\sigma = 1$ than at $\sigma = 0$. What is still true?
#
# <details>
# <summary>Solution</summary>
#
# Noise helps wherever the noise-free path is a bad one, here for every $a > 0$. What always holds is weaker: *some*
# fixed displacement of the states is at least as good as the noise, since a mean never exceeds its largest term.
#
# ```python
# import math
#
# found = []
# for a, c in itertools.product((-2.0, -1.0, 1.0, 2.0), (-2.0, 0.0, 2.0)):
#     by_state = {h: -torch.tensor(1 + math.exp(-(a * h**2 + c))).log() for h in (-1, 0, 1)}
#     noisy = (by_state[-1] + by_state[1]) / 2
#     assert noisy <= max(by_state[-1], by_state[1])  # a fixed displacement is as good
#     if noisy > by_state[0]:
#         found.append((a, c))
# print(found)
# assert found and all(a > 0 for a, _ in found)
# ```
#
# </details>
#
# ## Further reading
#
# - Y. J. Choe, J. Shin, N. Spencer (2017). *Probabilistic Interpretations of Recurrent Neural Networks.* Sections 2.3,
#   3.2 and 3.3 with this lesson beside them.
# - J. Sohl-Dickstein, D. P. Kingma (2015). *Note on Equivalence Between Recurrent Neural Network Time Series Models and
#   Variational Bayesian Models.* Section 3.1.
# - S. S. Vineet (2019). *Variational Recurrent Neural Networks.* Sections 2 and 3.
# - P. Del Moral (2004). *Feynman-Kac Formulae.* What is unbiased about a particle filter, and what is only consistent.
