# %% [markdown] assignment="kalman" minutes="120"
# # Kalman filter, smoother, and the extended filter
#
# **Goals.** You write the filter and the smoother of a linear Gaussian state-space model, an update that keeps covariances
# positive, and the extended filter of a noisy RNN; you use them on the flow of the Nile. **Time:** 120 minutes.
#
# $$z_1 \sim N(m, P), \qquad z_t = A z_{t-1} + N(0, Q), \qquad x_t = C z_t + N(0, R).$$
#
# The first state emits: the first update comes before the first prediction. Use NumPy.

# %%
import numpy as np

from pgm_rnn.teaching import check_close, student_rng

# %% [markdown]
# ## Your instance
#
# A model with two states and two observations, data drawn from it, and a window of the yearly flow of the Nile at Aswan
# from 1871 to 1970, in $10^8$ cubic metres (in the public domain; from the data sets of statsmodels).


# %%
def make_instance(rng):
    """A model, 40 observations, a window of 60 to 80 years of the Nile with two variances."""
    nile = [
        *(1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140),
        *(995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140),
        *(1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969),
        *(831, 726, 456, 824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759, 781),
        *(865, 845, 944, 984, 897, 822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874, 848, 890, 744, 749),
        *(838, 1050, 918, 986, 797, 923, 975, 815, 1020, 906, 901, 1170, 912, 746, 919, 718, 714, 740),
    ]
    angle = rng.uniform(0.2, 0.6)
    A = 0.95 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    root, C, m = rng.normal(size=(2, 2)), rng.normal(size=(2, 2)), rng.normal(size=2)
    model = {"m": m, "P": np.diag(rng.uniform(0.5, 2, size=2)), "A": A, "Q": 0.2 * root @ root.T + 0.1 * np.eye(2)}
    model |= {"C": C, "R": np.diag(rng.uniform(0.3, 1.0, size=2))}
    z, x = rng.multivariate_normal(m, model["P"]), []
    for _ in range(40):
        x.append(C @ z + rng.multivariate_normal(np.zeros(2), model["R"]))
        z = A @ z + rng.multivariate_normal(np.zeros(2), model["Q"])
    num_years = int(rng.integers(60, 81))
    first = int(rng.integers(0, 101 - num_years))
    level = {"m": [[1000.0]], "P": [[1e5]], "A": [[1.0]], "Q": [[float(rng.integers(800, 2500))]], "C": [[1.0]]}
    level |= {"R": [[float(rng.integers(12000, 18000))]]}
    level = {name: np.array(value) for name, value in level.items()} | {"m": np.array([1000.0])}
    return {"model": model, "x": np.array(x), "level": level, "nile": np.array(nile[first : first + num_years], float)}


# %%
NAME = ""
instance = make_instance(student_rng("kalman", NAME))
x, model = instance["x"], [instance["model"][name] for name in "mPAQCR"]

# %% [markdown]
# ## 1. The filter
#
# Filtered means and covariances of $p(z_t \mid x_{1:t})$, and the log likelihood
# $\sum_t \log N(x_t; C \hat z_t, C \hat P_t C^\top + R)$ with the predicted moments $\hat z_t, \hat P_t$, in nats.


# %% part="filter"
def kalman_filter(x, m, P, A, Q, C, R):
    """Means (T, D), covariances (T, D, D) and the log likelihood for observations x (T, M)."""
    ### BEGIN SOLUTION
    means, covs, log_likelihood = [], [], 0.0
    for x_t in x:
        S, error = C @ P @ C.T + R, x_t - C @ m
        gain = np.linalg.solve(S, C @ P).T
        log_likelihood -= 0.5 * (error @ np.linalg.solve(S, error) + np.linalg.slogdet(2 * np.pi * S)[1])
        means.append(m + gain @ error)
        covs.append(P - gain @ S @ gain.T)
        m, P = A @ means[-1], A @ covs[-1] @ A.T + Q
    return np.array(means), np.array(covs), log_likelihood
    ### END SOLUTION


# %% check="filter"
means, covs, log_likelihood = kalman_filter(x, *model)
assert means.shape == (40, 2) and covs.shape == (40, 2, 2), "a mean and a covariance per step"
assert (np.linalg.eigvalsh(covs) > 0).all(), "covariances are positive definite"

# %% hidden="reference"
import torch

from pgm_rnn.inference import kalman
from pgm_rnn.models import LinearGaussianSSM, NoisyRNN


def parts(model):
    """The parameters in the order of the functions."""
    return [model[name] for name in "mPAQCR"]


def exact(x, model, function="filter", noisy=False, **options):
    """The result of the package's filter or smoother."""
    built = (NoisyRNN if noisy else LinearGaussianSSM)(*map(torch.tensor, parts(model)))
    return getattr(kalman, function)(built, torch.tensor(x)[None], **options)


def array(tensor):
    """The first sequence of a batch as an array."""
    return tensor[0].detach().numpy()


def joint_gaussian(x, model):
    """Posterior mean of all states (T, D) and log p(x), by the joint Gaussian law of all states and observations."""
    m, P, A, Q, C, R = parts(model)
    num_steps, size = len(x), len(m)
    means, blocks = [m], [[P]]
    for t in range(1, num_steps):
        means.append(A @ means[-1])
        for s in range(t):
            blocks[s].append(blocks[s][-1] @ A.T)
        blocks.append([A @ blocks[t - 1][0] @ A.T + Q])
    cov = np.zeros((num_steps * size, num_steps * size))
    for s in range(num_steps):
        for t in range(s, num_steps):
            cov[s * size : (s + 1) * size, t * size : (t + 1) * size] = blocks[s][t - s]
            cov[t * size : (t + 1) * size, s * size : (s + 1) * size] = blocks[s][t - s].T
    big = np.kron(np.eye(num_steps), C)
    S = big @ cov @ big.T + np.kron(np.eye(num_steps), R)
    error = (x - np.array(means) @ C.T).reshape(-1)
    log_p = -0.5 * (error @ np.linalg.solve(S, error) + np.linalg.slogdet(2 * np.pi * S)[1])
    return np.array(means) + (cov @ big.T @ np.linalg.solve(S, error)).reshape(num_steps, size), log_p


# %% test="filter" points="6" says="one observation: Bayes' rule for two Gaussians, with no prediction before it"
m, P, A, Q, C, R = parts(instance["model"])
means, covs, _ = call("kalman_filter", instance["x"][:1], *parts(instance["model"]), returns=3)
expected = np.linalg.inv(np.linalg.inv(P) + C.T @ np.linalg.solve(R, C))
check_close(covs, expected[None], what="covariance")
check_close(means, [expected @ (np.linalg.solve(P, m) + C.T @ np.linalg.solve(R, instance["x"][0]))], what="mean")

# %% test="filter" points="6" says="the filtered means are wrong on your data"
means, _, _ = call("kalman_filter", instance["x"], *parts(instance["model"]), returns=3)
check_close(means, array(exact(instance["x"], instance["model"]).filtered_means), what="means")

# %% test="filter" points="4" says="the filtered covariances are wrong on your data"
_, covs, _ = call("kalman_filter", instance["x"], *parts(instance["model"]), returns=3)
check_close(covs, array(exact(instance["x"], instance["model"]).filtered_covs), what="covariances")

# %% test="filter" points="8" says="the log likelihood is not that of the joint Gaussian law of all observations"
_, _, value_ = call("kalman_filter", instance["x"], *parts(instance["model"]), returns=3)
check_close(value_, joint_gaussian(instance["x"], instance["model"])[1], what="log likelihood")

# %% [markdown]
# ## 2. An update that stays positive
#
# For any gain $K$, right or rounded, the covariance after the update is
# $(I - KC) P (I - KC)^\top + K R K^\top$ (Joseph's form).


# %% part="joseph"
def joseph(P, K, C, R):
    """The covariance (D, D) after an update with gain K (D, M)."""
    ### BEGIN SOLUTION
    rest = np.eye(len(P)) - K @ C
    return rest @ P @ rest.T + K @ R @ K.T
    ### END SOLUTION


# %% check="joseph"
check_close(
    joseph(np.eye(2), np.zeros((2, 1)), np.ones((1, 2)), np.eye(1)), np.eye(2), what="covariance without update"
)

# %% test="joseph" points="4" says="with the Kalman gain it is P - K S K'"
_, P, _, _, C, R = parts(instance["model"])
S = C @ P @ C.T + R
K = P @ C.T @ np.linalg.inv(S)
check_close(call("joseph", P, K, C, R), P - K @ S @ K.T)

# %% test="joseph" points="4" says="with any other gain it is the covariance of z - K (C z + noise)"
_, P, _, _, C, R = parts(instance["model"])
K = np.array([[0.9, -0.3], [0.2, 0.7]])
check_close(call("joseph", P, K, C, R), P - K @ C @ P - P @ C.T @ K.T + K @ (C @ P @ C.T + R) @ K.T)

# %% [markdown]
# ## 3. The smoother
#
# Backwards from the last step, with $G_t = P_t A^\top \hat P_{t+1}^{-1}$ (Rauch, Tung and Striebel):
# $\tilde z_t = z_t + G_t(\tilde z_{t+1} - \hat z_{t+1})$ and
# $\tilde P_t = P_t + G_t(\tilde P_{t+1} - \hat P_{t+1}) G_t^\top$.


# %% part="smoother"
def smoother(means, covs, A, Q):
    """Smoothed means (T, D) and covariances (T, D, D) from the filtered ones."""
    ### BEGIN SOLUTION
    means, covs = means.copy(), covs.copy()
    for t in range(len(means) - 2, -1, -1):
        predicted_mean, predicted_cov = A @ means[t], A @ covs[t] @ A.T + Q
        gain = np.linalg.solve(predicted_cov, A @ covs[t]).T
        means[t] = means[t] + gain @ (means[t + 1] - predicted_mean)
        covs[t] = covs[t] + gain @ (covs[t + 1] - predicted_cov) @ gain.T
    return means, covs
    ### END SOLUTION


# %% check="smoother"
smoothed_means, smoothed_covs = smoother(means, covs, instance["model"]["A"], instance["model"]["Q"])
assert np.trace(smoothed_covs[5]) < np.trace(covs[5]), "the future tells more about a state"

# %% test="smoother" points="4" says="at the last step, smoothed and filtered moments are the same"
filtered = exact(instance["x"], instance["model"])
means, covs = array(filtered.filtered_means), array(filtered.filtered_covs)
A, Q = instance["model"]["A"], instance["model"]["Q"]
smoothed, smoothed_covs = call("smoother", means, covs, A, Q, returns=2)
check_close(numbers(smoothed)[-1], means[-1], what="means")
check_close(numbers(smoothed_covs)[-1], covs[-1], what="covariances")

# %% test="smoother" points="8" says="the smoothed means are not those of the joint Gaussian law"
filtered = exact(instance["x"], instance["model"])
means, covs = array(filtered.filtered_means), array(filtered.filtered_covs)
smoothed, _ = call("smoother", means, covs, instance["model"]["A"], instance["model"]["Q"], returns=2)
check_close(smoothed, joint_gaussian(instance["x"], instance["model"])[0], rtol=1e-5, atol=1e-7, what="means")

# %% test="smoother" points="6" says="the smoothed covariances are wrong on your data"
filtered = exact(instance["x"], instance["model"])
means, covs = array(filtered.filtered_means), array(filtered.filtered_covs)
_, smoothed = call("smoother", means, covs, instance["model"]["A"], instance["model"]["Q"], returns=2)
check_close(
    smoothed, array(exact(instance["x"], instance["model"], "smooth").smoothed_covs), rtol=1e-5, what="covariances"
)

# %% [markdown]
# ## 4. The extended filter of a noisy RNN
#
# Now $z_t = \tanh(A z_{t-1}) + N(0, Q)$, and the rest is as before. Linearise the transition at the filtered mean: the
# predicted mean is $\tanh(A m)$ and the predicted covariance $F P F^\top + Q$ with $F = \mathrm{diag}(1 - \tanh^2(A m)) A$.


# %% part="extended"
def extended_filter(x, m, P, A, Q, C, R):
    """Filtered means (T, D) and the approximate log likelihood."""
    ### BEGIN SOLUTION
    means, log_likelihood = [], 0.0
    for x_t in x:
        one, covs, log_p = kalman_filter(x_t[None], m, P, A, Q, C, R)
        log_likelihood += log_p
        means.append(one[0])
        m = np.tanh(A @ one[0])
        F = (1 - m**2)[:, None] * A
        P = F @ covs[0] @ F.T + Q
    return np.array(means), log_likelihood
    ### END SOLUTION


# %% check="extended"
small = [model[0] * 1e-4, model[1] * 1e-8, model[2], model[3] * 1e-8, model[4], model[5] * 1e-8]
near, _ = extended_filter(x * 1e-4, *small)
check_close(
    near, kalman_filter(x * 1e-4, *small)[0], rtol=1e-4, atol=1e-7, what="means near zero, where tanh is a line"
)

# %% test="extended" points="4" says="the first update is that of the Kalman filter"
means, value_ = call("extended_filter", instance["x"][:1], *parts(instance["model"]), returns=2)
first = exact(instance["x"][:1], instance["model"])
check_close(means, array(first.filtered_means), what="means")
check_close(value_, float(first.log_marginal_likelihood[0].detach()), what="log likelihood")

# %% test="extended" points="8" says="the filtered means of the extended filter are wrong on your data"
means, _ = call("extended_filter", instance["x"], *parts(instance["model"]), returns=2)
filtered = exact(instance["x"], instance["model"], noisy=True, method="extended")
check_close(means, array(filtered.filtered_means), rtol=1e-5, what="means")

# %% test="extended" points="6" says="the log likelihood of the extended filter is wrong on your data"
_, value_ = call("extended_filter", instance["x"], *parts(instance["model"]), returns=2)
filtered = exact(instance["x"], instance["model"], noisy=True, method="extended")
check_close(value_, float(filtered.log_marginal_likelihood[0].detach()), rtol=1e-5, what="log likelihood")

# %% [markdown]
# ## 5. Your numbers
#
# The flow of the Nile as a level that moves, `instance["level"]` with observations `instance["nile"]`: the log
# likelihood, the filtered level of the last year, and the smoothed level of the 30th year (`t = 29`).

# %% part="numbers"
### BEGIN SOLUTION
level = [instance["level"][name] for name in "mPAQCR"]
means, covs, log_likelihood = kalman_filter(instance["nile"][:, None], *level)
smoothed_means, _ = smoother(means, covs, level[2], level[3])
answers = {"log_likelihood": log_likelihood, "last_level": means[-1, 0], "level_at_29": smoothed_means[29, 0]}
### END SOLUTION

# %% check="numbers"
assert set(answers) == {"log_likelihood", "last_level", "level_at_29"}, "these are the names of the three answers"

# %% test="numbers" points="3" says="log_likelihood is not that of your data"
expected = float(exact(instance["nile"][:, None], instance["level"]).log_marginal_likelihood[0].detach())
check_close(value("answers")["log_likelihood"], expected, rtol=1e-5)

# %% test="numbers" points="2" says="last_level is not that of your data"
expected = array(exact(instance["nile"][:, None], instance["level"]).filtered_means)[-1, 0]
check_close(value("answers")["last_level"], expected, rtol=1e-5)

# %% test="numbers" points="3" says="level_at_29 is not that of your data"
expected = array(exact(instance["nile"][:, None], instance["level"], "smooth").smoothed_means)[29, 0]
check_close(value("answers")["level_at_29"], expected, rtol=1e-5)

# %% [markdown] question="outliers" points="6"
# **Question 1.** A control: one observation in fifty is replaced by a value twenty standard deviations away. The filtered
# mean follows it, and the filtered covariance does not change at all. Which hypothesis does the control break, why does
# the covariance not notice, and which filter of this course would cope?

# %% [markdown] rubric="outliers"
# - 2 points: Gaussian noise of the observations; such values have no probability under it.
# - 2 points: the covariance does not depend on the observations, only on the model.
# - 2 points: a particle filter with heavy-tailed noise (Student's t), or a mixture; not the extended filter, which is
#   Gaussian too.

# %% [markdown] question="linearisation" points="6"
# **Question 2.** With larger covariance $Q$ the extended filter's log likelihood departs from a particle filter's, with
# small $Q$ it does not. Which hypothesis does the extended filter need, where in your code is it used, and what do you
# expect for a transition that is linear?

# %% [markdown] rubric="linearisation"
# - 2 points: the transition is nearly linear over the spread of the filtered law, so that the predicted law is Gaussian.
# - 2 points: in the prediction: tanh of the mean for the mean of tanh, and F P F' for its covariance.
# - 2 points: with a linear transition it is the Kalman filter and exact, whatever Q is.
