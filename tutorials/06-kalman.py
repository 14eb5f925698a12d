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
# # 6. Kalman, EM and the extended filter
#
# **The idea.** If states and observations are Gaussian and everything is linear, a belief is a mean and a covariance, and
# it stays so. Filtering is then linear algebra. A noisy recurrent network is not linear; the extended filter puts a
# tangent in its place, and fails where the tangent misleads.
#
# - **Level:** intermediate. **Minutes:** 75, with the exercises 130.
# - **You need:** the multivariate normal law and conditioning in it, matrices, lesson 5 for the part on EM.
# - **Afterwards you can:** derive and write a Kalman filter, learn its noise by EM, linearise a network, and test whether
#   a filter's intervals can be trusted.

# %% tags=["parameters"] short={"NUM_TRACKS": 40, "EM_ROUNDS": 30}
NUM_TRACKS = 400  # tracks for the test of the intervals
EM_ROUNDS = 200  # rounds of EM

# %%
import copy

import matplotlib.pyplot as plt
import torch
from torch.distributions import MultivariateNormal, Normal

from pgm_rnn.inference import em, kalman
from pgm_rnn.models import LinearGaussianSSM, NoisyRNN

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The model: something that swings
#
# A weight on a spring. The state is position and velocity; the position is measured with an error:
#
# $$z_t = A z_{t-1} + w_t, \quad w_t \sim N(0, Q), \qquad x_t = C z_t + v_t, \quad v_t \sim N(0, R),$$
#
# $$A = \begin{pmatrix} 1 & 0.5 \\ -0.15 & 0.9 \end{pmatrix}, \qquad C = \begin{pmatrix} 1 & 0 \end{pmatrix}, \qquad
# z_1 \sim N(m, P).$$

# %%
A = torch.tensor([[1.0, 0.5], [-0.15, 0.9]])
Q = torch.diag(torch.tensor([0.02, 0.05]))
C = torch.tensor([[1.0, 0.0]])
R = torch.tensor([[1.0]])
m, P = torch.zeros(2), torch.eye(2)
model = LinearGaussianSSM(m, P, A, Q, C, R)
data = model.sample(num_sequences=1, num_steps=50, seed=4)
x = data.x[0]  # (50, 1)

# %% [markdown]
# ## Two steps
#
# **Predict.** If $z_{t-1} \mid x_{1:t-1} \sim N(m, P)$, then $z_t \mid x_{1:t-1} \sim N(A m,\; A P A^\top + Q)$.
#
# **Update.** $z_t$ and $x_t$ are jointly normal, so condition one on the other. With the prediction $N(m, P)$:
#
# $$S = C P C^\top + R, \qquad G = P C^\top S^{-1}, \qquad
# m \leftarrow m + G (x_t - C m), \qquad P \leftarrow P - G S G^\top .$$
#
# $G$ is the *gain*: how far the mean follows a surprise. $p(x_t \mid x_{1:t-1}) = N(C m, S)$ comes for free.


# %%
def kalman_filter(x):
    """Filtered means (T, 2) and covariances (T, 2, 2), and log p(x)."""
    mean, cov, means, covs, log_p = m, P, [], [], 0.0
    for t, x_t in enumerate(x):
        if t > 0:
            mean, cov = A @ mean, A @ cov @ A.T + Q
        S = C @ cov @ C.T + R
        log_p = log_p + MultivariateNormal(C @ mean, S).log_prob(x_t)
        G = cov @ C.T @ torch.linalg.inv(S)
        mean, cov = mean + G @ (x_t - C @ mean), cov - G @ S @ G.T
        means.append(mean)
        covs.append(cov)
    return torch.stack(means), torch.stack(covs), log_p


means, covs, log_p = kalman_filter(x)
found = kalman.filter(model, data.x)
print(f"log p(x): from scratch {log_p:.10f}, engine {found.log_marginal_likelihood[0]:.10f}")
assert torch.allclose(log_p, found.log_marginal_likelihood[0])
assert torch.allclose(means, found.filtered_means[0])
assert torch.allclose(covs, found.filtered_covs[0])

# %% [markdown]
# **The definition.** Both might share a mistake. But all observations together are one normal vector, whose covariance
# follows from the model by multiplication. For twelve steps it is a 12 by 12 matrix:

# %%
T = 12
state_cov = [P]
for _ in range(T - 1):
    state_cov.append(A @ state_cov[-1] @ A.T + Q)
joint = torch.empty(T, T)
for s in range(T):
    for t in range(s, T):
        power = torch.matrix_power(A, t - s)
        joint[s, t] = joint[t, s] = (C @ power @ state_cov[s] @ C.T)[0, 0]
by_definition = MultivariateNormal(torch.zeros(T), joint + R * torch.eye(T)).log_prob(x[:T, 0])
print(f"one big normal law {by_definition:.10f}, filter {kalman_filter(x[:T])[2]:.10f}")
assert torch.allclose(by_definition, kalman_filter(x[:T])[2])

# %% [markdown]
# The **smoother** also looks at what comes later. Its band is narrower, and its curve calmer:

# %% alt="Measured positions as dots around the true track, with the filter's mean and 90 percent band, and the smoother's narrower one"
smoothed = kalman.smooth(model, data.x)
steps = torch.arange(1, 51)
figure, axes = plt.subplots(figsize=(7, 3.6))
axes.plot(steps, x[:, 0], ".", color="grey", label="measured")
axes.plot(steps, data.z[0, :, 0], color="black", linewidth=1.5, label="true position")
for name, style, mean, cov in (
    ("filter", "--", found.filtered_means, found.filtered_covs),
    ("smoother", "-.", smoothed.smoothed_means, smoothed.smoothed_covs),
):
    centre, width = mean[0, :, 0], 1.645 * cov[0, :, 0, 0].sqrt()
    (line,) = axes.plot(steps, centre, style, label=f"{name}, with 90 % band")
    axes.fill_between(steps, centre - width, centre + width, color=line.get_color(), alpha=0.2)
axes.set_xlabel("step")
axes.set_ylabel("position")
axes.legend(fontsize=8)
plt.show()
assert (smoothed.smoothed_covs[..., 0, 0] <= found.filtered_covs[..., 0, 0] + 1e-12).all()

# %% [markdown]
# **It is a network.** The covariances do not depend on $x$, and soon they no longer change. Then the mean follows
# $m_t = (I - G C) A\, m_{t-1} + G x_t$: a recurrent network without a nonlinearity, whose weights were computed and not
# trained.

# %%
late = found.filtered_covs[0, -1] @ C.T @ torch.linalg.inv(R)  # the gain, in another form
W, U = (torch.eye(2) - late @ C) @ A, late
by_network = W @ means[-2] + U @ x[-1]
print("filter", means[-1].tolist(), "network", by_network.tolist())
assert torch.allclose(by_network, means[-1], atol=1e-3)

# %% [markdown]
# ## What breaks: wrong noise
#
# A filter with a wrong $Q$ still gives means, and bands. Does the truth lie in a 90 % band in 90 % of the cases?

# %%
tracks = model.sample(num_sequences=NUM_TRACKS, num_steps=50, seed=1)


def coverage(model):
    """Share of true positions inside of the filter's 90 % intervals, and its standard error."""
    belief = kalman.filter(model, tracks.x)
    distance = (tracks.z[..., 0] - belief.filtered_means[..., 0]).abs()
    inside = (distance < 1.645 * belief.filtered_covs[..., 0, 0].sqrt()).double().mean(-1)
    return inside.mean(), inside.std() / NUM_TRACKS**0.5


rigid = LinearGaussianSSM(m, P, A, Q / 10, C, R)
shares = {"right Q": coverage(model), "Q / 10": coverage(rigid)}
for name, (share, error) in shares.items():
    print(f"{name}: {share:.1%} of the positions are in the 90 % band (± {error:.1%})")
assert abs(shares["right Q"][0] - 0.9) < 4 * shares["right Q"][1] + 0.005
assert shares["Q / 10"][0] < 0.8

# %% [markdown]
# The second filter believes that hardly anything disturbs the spring. It trusts its prediction too much, and its bands
# are too narrow. Nothing in its output says so; only a check like this one does.
#
# ## Learning the noise by EM
#
# As in lesson 5: complete data would give averages, so take expected ones. For $R$ and $Q$ these are
#
# $$R \leftarrow \frac1{T} \sum_t \mathbb{E}\big[(x_t - C z_t)(x_t - C z_t)^\top\big], \qquad
# Q \leftarrow \frac1{T - 1} \sum_{t > 1} \mathbb{E}\big[(z_t - A z_{t-1})(z_t - A z_{t-1})^\top\big],$$
#
# with expectations under the smoother. $\mathbb{E}\, z_t z_{t-1}^\top$ needs the smoother's covariance of neighbours.

# %%
wrong = LinearGaussianSSM(m, P, A, torch.eye(2), C, torch.eye(1) / 4)
fixed = ("initial_mean", "initial_cov", "transition_matrix", "emission_matrix")

q = kalman.smooth(wrong, tracks.x)
mean, cov = q.smoothed_means, q.smoothed_covs
next_to = q.pairwise_covs  # Cov(z_t, z_{t+1})
left = tracks.x - mean @ C.T
error_cov = (left.mT @ left).mean(0) / 50 + (C @ cov @ C.T).mean((0, 1))
moved = mean[:, 1:] - mean[:, :-1] @ A.T
spread = cov[:, 1:] - A @ next_to - next_to.mT @ A.T + A @ cov[:, :-1] @ A.T
noise_cov = (moved.mT @ moved).mean(0) / 49 + spread.mean((0, 1))

by_engine = copy.deepcopy(wrong)
em.fit(by_engine, tracks, num_iterations=1, frozen=fixed, progress=False)
assert torch.allclose(by_engine.emission_cov, error_cov)
assert torch.allclose(by_engine.transition_cov, noise_cov)

fit = em.fit(by_engine, tracks, num_iterations=EM_ROUNDS, frozen=fixed, progress=False)
print(f"R: true {R.item():.2f}, start 0.25, EM {by_engine.emission_cov.item():.2f}")
print(f"Q of the velocity: true {Q[1, 1]:.3f}, start 1.000, EM {by_engine.transition_cov[1, 1]:.3f}")
assert (fit.log_likelihoods.diff() > -1e-6).all()
assert abs(by_engine.emission_cov.item() - 1) < 0.2

# %% [markdown]
# ## A noisy recurrent network, and a tangent
#
# $$z_t = g(A z_{t-1}) + w_t, \qquad x_t = f(C z_t) + v_t .$$
#
# A normal law pushed through $g = \tanh$ is normal no more. The **extended** filter replaces $g$ and $f$ by their
# tangents at the present mean and does as before:
#
# $$g(A z) \approx g(A m) + A_t (z - m), \quad A_t = \mathrm{diag}\big(g'(A m)\big) A, \qquad
# C_t = \mathrm{diag}\big(f'(C m)\big) C .$$
#
# Two slips are easy here, and both are in print: $A_t$ has $A$ in it and not its transpose, and the tangent does not go
# through the origin.

# %%
network = NoisyRNN.random(latent_dim=3, obs_dim=2, seed=0)
W, V = network.transition_matrix.detach(), network.emission_matrix.detach()
point = torch.tensor([0.5, -1.0, 0.3])
slope = 1 - torch.tanh(W @ point) ** 2
jacobian = torch.autograd.functional.jacobian(lambda z: torch.tanh(W @ z), point)
assert torch.allclose(jacobian, slope[:, None] * W)
assert not torch.allclose(jacobian, slope[:, None] * W.T, atol=0.01)  # as printed


def extended_filter(network, x):
    """log p(x) of the linearised network, and the filtered means."""
    with torch.no_grad():
        A, C, Q, R = W, V, network.transition_cov, network.emission_cov
        mean, cov, means, log_p = network.initial_mean, network.initial_cov, [], 0.0
        for t, x_t in enumerate(x):
            if t > 0:
                A_t = (1 - torch.tanh(A @ mean) ** 2)[:, None] * A
                mean, cov = torch.tanh(A @ mean), A_t @ cov @ A_t.T + Q
            S = C @ cov @ C.T + R
            log_p = log_p + MultivariateNormal(C @ mean, S).log_prob(x_t)
            G = cov @ C.T @ torch.linalg.inv(S)
            mean, cov = mean + G @ (x_t - C @ mean), cov - G @ S @ G.T
            means.append(mean)
        return log_p, torch.stack(means)


drawn = network.sample(num_sequences=1, num_steps=30, seed=0)
ours, theirs = (
    extended_filter(network, drawn.x[0]),
    kalman.filter(network, drawn.x, method="extended"),
)
print(f"from scratch {ours[0]:.8f}, engine {theirs.log_marginal_likelihood[0]:.8f}")
assert torch.allclose(ours[0], theirs.log_marginal_likelihood[0])
assert torch.allclose(ours[1], theirs.filtered_means[0])

# %% [markdown]
# ## What breaks: where the tangent is blind
#
# How good is it? In one dimension we can know: put the state on a fine grid and filter as in an HMM. Two networks, with
# $z_t = \tanh(1.6\, z_{t-1}) + w_t$. The first shows $z_t$ itself, the second only $\max(z_t, 0)$:


# %%
def on_a_grid(network, x, output):
    """log p(x) and filtered means by sums over 801 values of z."""
    z = torch.linspace(-4, 4, 801)
    width = z[1] - z[0]
    noise, error = (cov.detach().sqrt().item() for cov in (network.transition_cov, network.emission_cov))
    moves = Normal(torch.tanh(1.6 * z)[:, None], noise).log_prob(z).exp() * width
    belief, log_p, means = Normal(0.5, 0.5**0.5).log_prob(z).exp(), 0.0, []
    for x_t in x[:, 0]:
        joint = belief * Normal(output(z), error).log_prob(x_t).exp()
        total = joint.sum() * width
        log_p = log_p + total.log()
        means.append((joint * z).sum() * width / total)
        belief = joint / total @ moves
    return log_p, torch.stack(means)


one = torch.eye(1)
panels = {}
for output, function in (("identity", lambda z: z), ("relu", torch.relu)):
    net = NoisyRNN(one[0] / 2, 0.5 * one, 1.6 * one, 0.2 * one, one, 0.05 * one, output=output)
    seen = net.sample(num_sequences=1, num_steps=60, seed=1)
    exact, exact_means = on_a_grid(net, seen.x[0], function)
    print(f"output {output}: exact log p(x) {exact:.2f}")
    panels[output] = {"exact": exact_means}
    for method in ("extended", "unscented"):
        belief = kalman.filter(net, seen.x, method=method)
        panels[output][method] = belief.filtered_means[0, :, 0].detach()
        apart = (panels[output][method] - exact_means).pow(2).mean().sqrt()
        print(f"  {method:9} {belief.log_marginal_likelihood[0]:8.2f}, means off by {apart:.3f}")
        panels[output, method] = apart
assert panels["identity", "extended"] < 0.05
assert panels["relu", "extended"] > 0.3
assert panels["relu", "unscented"] < panels["relu", "extended"]

# %% alt="Filtered means over time for the two outputs: for the identity all filters agree, for relu the extended filter stays negative once it is"
figure, axes = plt.subplots(2, 1, figsize=(7, 4.5), layout="constrained", sharex=True)
for panel, output in zip(axes, ("identity", "relu"), strict=True):
    panel.plot(
        panels[output]["exact"],
        color="black",
        linewidth=2.5,
        alpha=0.5,
        label="exact, on a grid",
    )
    panel.plot(panels[output]["extended"], "--", label="extended")
    panel.plot(panels[output]["unscented"], ":", label="unscented")
    panel.set_title(f"output: {output}", fontsize=10)
    panel.set_ylabel("filtered mean")
axes[0].set_ylim(-2.5, 1.7)  # room for the legend
axes[0].legend(fontsize=8, ncols=3, loc="lower left")
axes[1].set_xlabel("step")
plt.show()

# %% [markdown]
# Where the predicted mean is negative, the slope of relu is zero, so $C_t = 0$ and the gain is zero: the extended filter
# does not look at the observation. It predicts another negative mean, and never looks again. The unscented filter tries several points and sees that some of them are
# positive. Particle filters (lesson 7) need no tangent.
#
# ## Takeaways
#
# - Linear and Gaussian: beliefs are means and covariances. Predict adds noise, update conditions.
# - The covariances do not depend on the data, so the filter ends as a linear recurrent network.
# - A filter's bands are as good as its noise. Check their coverage, and learn the noise by EM.
# - The extended filter is right where the functions are nearly straight over the width of the belief. Check it where you
#   can: by a grid, particles, or another linearisation.
#
# ## Exercises
#
# ### Exercise 1: the smoother from scratch
#
# Write the backward pass of Rauch, Tung and Striebel: from the filtered $m_t, P_t$, the prediction $\bar m = A m_t$,
# $\bar P = A P_t A^\top + Q$ and $J = P_t A^\top \bar P^{-1}$,
# $m^s_t = m_t + J (m^s_{t+1} - \bar m)$ and $P^s_t = P_t + J (P^s_{t+1} - \bar P) J^\top$.
#
# <details>
# <summary>Solution</summary>
#
# ```python
# mean_s, cov_s = [means[-1]], [covs[-1]]
# for t in range(len(x) - 2, -1, -1):
#     ahead = A @ covs[t] @ A.T + Q
#     J = covs[t] @ A.T @ torch.linalg.inv(ahead)
#     mean_s.insert(0, means[t] + J @ (mean_s[0] - A @ means[t]))
#     cov_s.insert(0, covs[t] + J @ (cov_s[0] - ahead) @ J.T)
# assert torch.allclose(torch.stack(mean_s), smoothed.smoothed_means[0])
# assert torch.allclose(torch.stack(cov_s), smoothed.smoothed_covs[0])
# ```
#
# </details>
#
# ### Exercise 2: a missing measurement
#
# Skip the update at the steps 20 to 29 (counted from zero). What do the bands do? Compare with `kalman.filter`, given
# NaN at these steps.
#
# <details>
# <summary>Solution</summary>
#
# ```python
# mean, cov, widths = m, P, []
# for t, x_t in enumerate(x):
#     if t > 0:
#         mean, cov = A @ mean, A @ cov @ A.T + Q
#     if not 20 <= t < 30:
#         G = cov @ C.T @ torch.linalg.inv(C @ cov @ C.T + R)
#         mean, cov = mean + G @ (x_t - C @ mean), cov - G @ C @ cov
#     widths.append(cov[0, 0].sqrt())
# gap = data.x.clone()
# gap[:, 20:30] = torch.nan
# belief = kalman.filter(model, gap)
# assert torch.allclose(mean, belief.filtered_means[0, -1])
# assert torch.allclose(torch.stack(widths) ** 2, belief.filtered_covs[0, :, 0, 0])
# assert widths[29] > 1.3 * widths[19]  # they open
# ```
#
# </details>
#
# ### Exercise 3: the tangent through the origin
#
# The slide's linear system is $\tilde z_{t+1} = A_t \tilde z_t + w_t$, without the constant $g(A m) - A_t m$. Predict
# from $m = 1$ with $A = 1$, $g = \tanh$: by how much do the two predictions differ, and for which $g$ do they agree?
#
# <details>
# <summary>Solution</summary>
#
# $\tanh(1) = 0.762$ against $0.420 \cdot 1$. They agree for every $m$ only if $g(u) = u\, g'(u)$, that is for a linear $g$.
#
# ```python
# u = torch.tensor(1.0)
# right = torch.tanh(u)
# without = (1 - torch.tanh(u) ** 2) * u
# print(f"{right:.3f} {without:.3f}")
# assert abs(right - without) > 0.3
# ```
#
# </details>
#
# ## Further reading
#
# - S. Särkkä (2013). *Bayesian Filtering and Smoothing.* Chapters 4, 5 and 8.
# - H. E. Rauch, F. Tung, C. T. Striebel (1965). *Maximum likelihood estimates of linear dynamic systems.* The smoother.
# - R. H. Shumway, D. S. Stoffer (1982). *An approach to time series smoothing and forecasting using the EM algorithm.*
# - R. Vidal (2024). *Deep Generative Models: Recurrent Neural Networks.* The extended filter for networks;
#   [the errata](../docs/errata.md) list both slips.
