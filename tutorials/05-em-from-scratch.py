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
# # 5. EM from scratch
#
# **The idea.** If the hidden states were known, the best parameters would be counts. They are not known, but their
# probabilities given the data are. Expectation-maximisation counts with these, and again, and each round raises the
# likelihood. Where it ends depends on where it starts.
#
# - **Level:** beginner. **Minutes:** 60, with the exercises 110.
# - **You need:** lesson 3 (forward algorithm, smoothing), logarithms, the normal law.
# - **Afterwards you can:** derive EM, write it for symbols and for real numbers, find local maxima and collapsed states,
#   and choose the number of states.

# %% tags=["parameters"] short={"NUM_STARTS": 8, "ITERATIONS": 40, "MOST_STATES": 4}
NUM_STARTS = 30  # random starts of EM
ITERATIONS = 100  # of EM at most
MOST_STATES = 6  # largest number of states that is tried

# %%
import copy
import warnings

import matplotlib.pyplot as plt
import torch

import pgm_rnn as pr
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import em, forward_backward
from pgm_rnn.models import HMM

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## Counting what you expect
#
# With known states the most likely parameters are shares: $\hat A_{jk}$ is the number of transitions from $j$ to $k$
# over the number of those from $j$. Without them, replace each count by its expectation given the data under the present
# parameters $\theta$:
#
# $$\gamma_t(k) = p_\theta(z_t = k \mid x_{1:T}), \qquad \xi_t(j, k) = p_\theta(z_t = j, z_{t+1} = k \mid x_{1:T}),$$
#
# $$\pi_k \leftarrow \gamma_1(k), \qquad
# A_{jk} \leftarrow \frac{\sum_t \xi_t(j, k)}{\sum_t \sum_k \xi_t(j, k)}, \qquad
# B_{ks} \leftarrow \frac{\sum_t \gamma_t(k) [x_t = s]}{\sum_t \gamma_t(k)} .$$
#
# The first line is the E-step, forward-backward of lesson 3. The second is the M-step. Here it is, for the dishonest
# casino:

# %%
casino = HMM(
    torch.tensor([0.9, 0.1]),
    torch.tensor([[0.95, 0.05], [0.10, 0.90]]),
    torch.tensor([[1 / 6] * 6, [0.1] * 5 + [0.5]]),
)
throws = casino.sample(num_sequences=10, num_steps=100, seed=0).x


def em_step(hmm, x):
    """One round of EM, and log p(x) before it."""
    posterior = forward_backward.smooth(hmm, x)
    gamma = posterior.smoothed_probs  # (B, T, K)
    xi = posterior.pairwise_probs  # (B, T - 1, K, K)
    initial = gamma[:, 0].sum(0)
    transition = xi.sum((0, 1))
    seen = torch.nn.functional.one_hot(x, 6).double()
    emission = torch.einsum("btk,bts->ks", gamma, seen)
    new = HMM(*(table / table.sum(-1, keepdim=True) for table in (initial, transition, emission)))
    return new, posterior.log_marginal_likelihood.sum()


start = HMM(
    torch.tensor([0.5, 0.5]),
    torch.tensor([[0.8, 0.2], [0.2, 0.8]]),
    torch.tensor([[0.18] * 5 + [0.10], [0.14] * 5 + [0.30]]),  # the second die is loaded a little
)
hmm, curve = start, []
for _ in range(ITERATIONS):
    hmm, value = em_step(hmm, throws)
    curve.append(value)
curve = torch.stack(curve)
print(f"log p(x): start {curve[0]:.3f}, after {ITERATIONS} rounds {curve[-1]:.3f}")
print(f"true parameters: {casino.log_marginal_likelihood(throws).sum():.3f}")
assert (curve.diff() > -1e-8).all()  # it never falls
assert curve[-1] > casino.log_marginal_likelihood(throws).sum()

# %% [markdown]
# Two things to notice. The likelihood never falls. And EM ends *above* the true parameters, because it fits the data at
# hand. The package's engine takes the same steps:

# %%
by_engine = copy.deepcopy(start)
fit = em.fit(
    by_engine,
    throws,
    num_iterations=ITERATIONS,
    tolerance=0.0,
    start="model",
    progress=False,
)
print(fit)
assert torch.allclose(fit.log_likelihoods[:5], curve[:5])
assert torch.allclose(by_engine.transition_probs, hmm.transition_probs, atol=1e-4)

# %% [markdown]
# ## Why it never falls
#
# For any law $q$ of the hidden states $\log p_\theta(x) = K(q, \theta) + \mathrm{KL}(q \,\|\, p_\theta(z \mid x))$, as in
# lesson 2, with
#
# $$K(q, \theta) = \mathbb{E}_q \log p_\theta(x, z) + \text{entropy of } q .$$
#
# The E-step takes $q = p_\theta(z \mid x)$ and makes the divergence zero. The M-step raises $K$ in $\theta$. Afterwards
# the divergence is not negative, so that $\log p$ has risen at least as much as $K$. Check it at one step:


# %%
def expected_log_joint(hmm, posterior, x):
    """E_q log p(x, z) with q given by the posterior of another HMM."""
    gamma, xi = posterior.smoothed_probs, posterior.pairwise_probs
    seen = hmm.emission_probs.log().T[x]  # (B, T, K)
    parts = (gamma[:, 0] * hmm.initial_probs.log()).sum(), (gamma * seen).sum()
    return sum(parts) + (xi * hmm.transition_probs.log()).sum()


with torch.no_grad():
    new, before = em_step(start, throws)
    after = new.log_marginal_likelihood(throws).sum()
    q = forward_backward.smooth(start, throws)
    gain_of_bound = expected_log_joint(new, q, throws) - expected_log_joint(start, q, throws)
print(f"gain of the bound {gain_of_bound:.4f}, gain of the likelihood {after - before:.4f}")
assert 0 <= gain_of_bound <= after - before + 1e-9

# %% [markdown]
# ## What breaks first: the start
#
# "Never falls" is no promise of the summit. The likelihood has many local maxima. Take a series of real numbers with
# three levels, and start EM at random places. For normal observations the M-step computes weighted means and variances:

# %%
truth = HMM(
    torch.full((3,), 1 / 3),
    torch.tensor([[0.90, 0.08, 0.02], [0.05, 0.90, 0.05], [0.02, 0.08, 0.90]]),
    Gaussian(1).table(
        loc=torch.tensor([[-2.0], [0.0], [1.5]]),
        scale=torch.tensor([[0.5], [0.5], [1.0]]),
    ),
)
series = truth.sample(num_sequences=4, num_steps=150, seed=1).x
others = truth.sample(num_sequences=4, num_steps=150, seed=2).x


def e_step(initial, A, log_b):
    """Forward-backward for several starts S at once; log_b = log p(x_t | z_t = k), (S, B, T, K)."""
    peak = log_b.amax(-1, keepdim=True)
    b = (log_b - peak).exp().unbind(2)
    belief, alphas, scales = initial[:, None], [], []
    for b_t in b:
        joint = belief * b_t
        scales.append(joint.sum(-1, keepdim=True))
        alphas.append(joint / scales[-1])
        belief = alphas[-1] @ A
    gammas, xi, beta = [alphas[-1]], torch.zeros_like(A), torch.ones_like(belief)
    for t in range(len(b) - 1, 0, -1):
        ahead = b[t] * beta / scales[t]
        xi = xi + A * (alphas[t - 1].mT @ ahead)  # summed over sequences
        beta = ahead @ A.mT
        gammas.append(alphas[t - 1] * beta)
    log_p = (torch.cat(scales, dim=-1).log().sum(-1) + peak.sum((-2, -1))).sum(-1)
    return torch.stack(gammas[::-1], dim=2), xi, log_p


def gaussian_em(x, loc, scale, rounds):
    """EM from means and scales (S, K) for x (B, T, 1); returns log p(x) and scales at each round."""
    K, values, spreads = loc.shape[-1], [], []
    initial = torch.full_like(loc, 1 / K)
    A = (torch.full((K, K), 0.1 / K) + 0.9 * torch.eye(K)).expand(len(loc), K, K)
    for _ in range(rounds):
        laws = torch.distributions.Normal(loc[:, None, None], scale[:, None, None])
        gamma, xi, log_p = e_step(initial, A, laws.log_prob(x))
        values.append(log_p)
        spreads.append(scale)
        weights = gamma / gamma.sum((1, 2), keepdim=True)
        loc = (weights * x).sum((1, 2))
        variance = (weights * (x - loc[:, None, None]) ** 2).sum((1, 2))
        scale = variance.sqrt().clamp(min=1e-100)  # or we would divide by zero below
        initial = gamma[:, :, 0].mean(1)
        A = xi / xi.sum(-1, keepdim=True)
    return torch.stack(values), torch.stack(spreads)


generator = torch.Generator().manual_seed(0)
picked = torch.randint(series.numel(), (NUM_STARTS, 3), generator=generator)
means = series.flatten()[picked]  # three observations as means
curves, _ = gaussian_em(series, means, torch.full_like(means, 0.3), ITERATIONS)
best = curves[-1].max()
of_truth = truth.log_marginal_likelihood(series).sum()
print(f"best {best:.2f}, worst {curves[-1].min():.2f}, true parameters {of_truth:.2f}")
assert best > of_truth
assert curves[-1].min() < best - 5  # another maximum, or a long plateau

# %% alt="Log likelihood against rounds of EM for all random starts: most curves end at the same height, some stay on a plateau below it"
figure, axes = plt.subplots(figsize=(7, 3.2))
axes.plot(curves, color="C0", alpha=0.5, linewidth=1)
axes.axhline(best, linestyle="--", color="black", linewidth=0.8, label="best of all starts")
axes.set_ylim(float(best) - 250, float(best) + 15)
axes.set_xlabel("round")
axes.set_ylabel("log p(x), nats")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# So start more than once and keep the best. `em.fit` runs many starts side by side; by default the first one is
# estimated from the data by k-means:

# %%
model = HMM.random(num_states=3, emission=Gaussian(1), seed=0)
fit = em.fit(model, series, num_restarts=NUM_STARTS, num_iterations=ITERATIONS, progress=False)
ends = fit.restarts.log_likelihoods
best_ends = int((ends > ends.max() - 1).sum())
print(f"{best_ends} of {NUM_STARTS} starts end within 1 nat of the best")
assert fit.log_likelihoods[-1] > best - 1

# %% [markdown]
# ## What breaks next: collapse
#
# A normal density has no bound: put a state's mean on one observation and let its scale go to zero, and the likelihood
# goes to infinity. EM finds such holes if it starts near one. Here are a series with a constant stretch, as from a stuck
# sensor, and a state that starts there:

# %%
stuck = series[:1].clone()
stuck[0, 60:66] = 3.0
values, scales = gaussian_em(stuck, torch.tensor([[-2.0, 0.5, 3.0]]), torch.tensor([[0.5, 1.0, 0.02]]), 6)
for number, (value, scale) in enumerate(zip(values[:, 0], scales[:, 0, 2], strict=True)):
    print(f"round {number}: log p(x) {value:8.1f}, scale of the third state {scale:.1e}")
assert scales[-1, 0, 2] < 1e-6
assert values[-1] > values[0] + 50

# %% [markdown]
# The package holds scales above a small fraction of the data's spread, and warns where that floor is touched:

# %%
table = Gaussian(1).table(loc=torch.tensor([[-2.0], [0.5], [3.0]]), scale=torch.tensor([[0.5], [1.0], [0.02]]))
collapsed = HMM(torch.full((3,), 1 / 3), torch.full((3, 3), 1 / 3), table)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    em.fit(collapsed, stuck, num_iterations=50, start="model", progress=False)
print(said[0].message)
assert issubclass(said[0].category, em.EmWarning)

# %% [markdown]
# A collapsed state is no discovery. Leave the stretch out (as missing values, exercise 3 of lesson 3), use fewer states,
# or raise `min_scale`.
#
# ## How many states?
#
# More states always fit the training data better. What they are worth shows on other sequences, or by a criterion that
# charges for parameters: $\text{BIC} = -2 \log p(x) + d \log N$, with $d$ free parameters and $N$ observations.

# %%
rows = []
for K in range(1, MOST_STATES + 1):
    model = HMM.random(num_states=K, emission=Gaussian(1), seed=0)
    d = pr.num_free_parameters(model)
    em.fit(model, series, num_restarts=5, num_iterations=ITERATIONS, progress=False)
    with torch.no_grad():
        inside, outside = (float(model.log_marginal_likelihood(x).sum()) for x in (series, others))
    bic = -2 * inside + d * torch.tensor(float(series.numel())).log().item()
    rows.append((K, d, inside, outside, bic))
    print(f"K = {K}: {d:2} parameters, training {inside:8.1f}, others {outside:8.1f}, BIC {bic:7.1f}")
K, d, inside, outside, bic = map(torch.tensor, zip(*rows, strict=True))
assert int(K[bic.argmin()]) == 3
assert inside[-1] > inside[2]

# %% alt="Left: log likelihood of the training data rises with the number of states, that of other data levels off. Right: BIC is lowest at three states"
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(K, inside, "o-", label="training data")
left.plot(K, outside, "s--", label="other data")
left.set_ylabel("log p(x), nats")
left.legend()
right.plot(K, bic, "o-")
right.set_ylabel("BIC, smaller is better")
for panel in (left, right):
    panel.set_xlabel("number of states K")
    panel.set_xticks(K)
plt.show()

# %% [markdown]
# ## Takeaways
#
# - E-step: probabilities of states given the data. M-step: the estimates of complete data, with expected counts.
# - EM raises a bound that touches the likelihood, so that the likelihood never falls.
# - It ends at a local maximum. Start several times, from the data if you can.
# - Real-valued observations let states collapse. Watch for warnings, constant stretches, tiny scales.
# - The training likelihood cannot choose $K$; BIC or other data can.
#
# ## Exercises
#
# ### Exercise 1: the perfect symmetry
#
# Start EM for the casino with two *equal* states: uniform $\pi$ and $A$, and equal rows of $B$. What happens, and after
# how many rounds?
#
# <details>
# <summary>Solution</summary>
#
# Equal states get equal expected counts and stay equal. After one round $B$ holds the frequencies of the data, and
# nothing changes any more: a saddle point, not a maximum.
#
# ```python
# equal = HMM(torch.full((2,), 0.5), torch.full((2, 2), 0.5), torch.full((2, 6), 1 / 6))
# once, _ = em_step(equal, throws)
# twice, _ = em_step(once, throws)
# frequencies = torch.bincount(throws.flatten(), minlength=6) / throws.numel()
# assert torch.allclose(once.emission_probs, frequencies.expand(2, 6))
# assert torch.allclose(twice.emission_probs, once.emission_probs)
# assert once.log_marginal_likelihood(throws).sum() < curve[-1]
# ```
#
# </details>
#
# ### Exercise 2: zeros stay
#
# Start with a transition of probability zero. Show that EM never changes it, and say why this is useful for left-to-right
# models. What does `em.fit(..., pseudo_count=1.0)` do to the other entries?
#
# <details>
# <summary>Solution</summary>
#
# $\xi_t(j, k)$ contains the factor $A_{jk}$, so zero stays zero: structure can be put in by zeros. A pseudo-count is added to
# every expected count of a possible transition, which keeps it away from zero.
#
# ```python
# loop = HMM(torch.tensor([1.0, 0.0]), torch.tensor([[0.9, 0.1], [0.0, 1.0]]), start.emission_probs)
# changed, _ = em_step(loop, throws)
# assert changed.transition_probs[1, 0] == 0
# assert changed.transition_probs[0, 1] > 0
#
# prior = copy.deepcopy(start)
# em.fit(prior, throws, num_iterations=50, pseudo_count=1.0, start="model", progress=False)
# plain = copy.deepcopy(start)
# em.fit(plain, throws, num_iterations=50, start="model", progress=False)
# assert prior.emission_probs.min() >= plain.emission_probs.min()
# ```
#
# </details>
#
# ### Exercise 3: count the parameters
#
# Write down the number of free parameters of an HMM with $K$ states and one normal observation per step, and check it
# against `pr.num_free_parameters`. Which $K$ would AIC, $-2 \log p(x) + 2d$, choose here?
#
# <details>
# <summary>Solution</summary>
#
# $K - 1$ for $\pi$, $K (K - 1)$ for $A$, $2K$ for means and scales: $K^2 + 2K - 1$. AIC charges less per parameter than
# BIC for more than $e^2 \approx 7$ observations, so it never chooses fewer states.
#
# ```python
# assert d.tolist() == [k**2 + 2 * k - 1 for k in K.tolist()]
# aic = -2 * inside + 2 * d
# print("AIC chooses", int(K[aic.argmin()]))
# assert K[aic.argmin()] >= K[bic.argmin()]
# ```
#
# </details>
#
# ## Further reading
#
# - L. R. Rabiner (1989). *A tutorial on hidden Markov models and selected applications in speech recognition.* Section
#   III.C: the re-estimation formulas.
# - R. Vidal (2024). *Deep Generative Models: Recurrent Neural Networks.* EM beside gradient steps.
# - S. S. Wilks (1938). *The large-sample distribution of the likelihood ratio for testing composite hypotheses.* Why the
#   likelihood of the fit lies above that of the truth by about $d / 2$ nats.
