# %% [markdown] assignment="vrnn-music" minutes="120"
# # A variational RNN on music
#
# **Goals.** You write the terms of a VRNN's evidence lower bound, you run its four networks along a piece of music, and you
# average bounds over pieces of different lengths as papers do. **Time:** 120 minutes.
#
# At each step the memory $h_t$ gives a prior of the state, the encoder sees the new chord $x_t$ as well, and the decoder
# gives a probability to each key:
#
# $$z_t \sim N\big(A_p h_t, e^{B_p h_t}\big), \quad
#   q(z_t) = N\big(A_q [x_t, h_t], e^{B_q [x_t, h_t]}\big), \quad
#   x_t \sim \mathrm{Bernoulli}\big(\sigma(D [z_t, h_t] + d)\big), \quad
#   h_{t+1} = \tanh(U x_t + V z_t + W h_t).$$
#
# The second argument of $N$ is the standard deviation of each entry, and $[x, h]$ is $x$ followed by $h$. The networks
# have random weights: training them is the subject of the lesson. Use NumPy and SciPy.

# %%
import numpy as np
from scipy.special import expit, logsumexp

from pgm_rnn.teaching import check_close, student_rng

# %% [markdown]
# ## Your instance
#
# Three pieces of different lengths in your key, and the weights of a small VRNN. The chords were drawn from the zoo's
# VRNN that was trained on Bach's chorales: `pgm_rnn.load_pretrained("vrnn-jsb").sample(8, 24, seed=1)`. Each chord is
# written as its MIDI pitches; `piano_roll` has a row for each step and a column for each of the 64 pitches from 40.


# %%
def piano_roll(text, shift):
    """Chords as an array (T, 64) of zeros and ones, shifted by so many semitones."""
    roll = np.zeros((len(text.split()), 64))
    for step, chord in enumerate(text.split()):
        for pitch in chord.split(".") if chord != "-" else ():
            roll[step, int(pitch) - 40 + shift] = 1.0
    return roll


def make_instance(rng):
    """Three pieces with their lengths, padded with zeros, and weights of a VRNN with 3 states and 5 memory units."""
    pieces = [
        "60.67.75.76 65.72.74.81 71.74 67.72 60.67.72 60.67.72 60.72.75.79 53.62.65.68.77 62.65.70.74.77 55.70.79 72.75 "
        "53.65.68.70.74 62.63.67.70 63.70.72 56.60.72.75 58.67.68.74.77 65.68.74.75 51.67.70 56.72 53.65 55.58.65.70 "
        "60.67.70 56.63.75 58.62.74.77",
        "60.67.75.76.84 60.72 72.75 68.72.75.77.84 65.68.77.84 65.74.89 67.79.86 62.71.77.79.83.86 60.79.84 60.75.76.79.84 "
        "60.75.79.84 60.72.79.84 60.75.79.84 63.72.75.79.81.84 74.79.81.82.83 72.81 70.71.74.82 63.75.79.82 "
        "60.72.75.79.84.87 67.74.82.86 79.84.87 65.70.74.77.84.89 67.75.79.91 72.75.84.88",
        "60.67.75.76 56.57.60.69.72.75.81 50.53.74.77 67.71.74 55.67.71.74.79 55.65.69.71 60.67.72 48.63.71.72 "
        "48.60.64.67.72 60.67.72 67.79 60.65.69.72 60.62.64.67.70.72 65.69.72.77 64.67.72.76 67.71.74 67.71.74 67.71.74 "
        "60.67.76 48.60.67 67.71.72 67.71.74 62.65 59.65.67.83",
        "60.67.72.79 57.72.77.84 60.67 63.67.72.79 62.65.81.82 72.79 60.72.79 65.77 53.62.72.77 59.67.71.74.79 "
        "60.63.72.75.79 60.63.72.75 50.53.56 55.59.62.67.79 59.62.67 60.64.67.70.72 67.72 70.74 65.74 70.74 75.79.84 "
        "74.83 63.79.84 77.86",
        "69.72.79.84 71.74.79 72.79 72.79 72.76 72.74 53.69.72.74.81 67.71.74.79 55.71.74.79 55.67.71.74.79 60.72.76.79 "
        "56.69.72.76.81 62.77.81 59.62.74.79 60.76.77.78 57.69.72.76.78 62.69.74.79 67.74.79 66.72.81 67.74.79 "
        "60.67.72.76.79.84 67.74.79 67.71.74.79 65.66.69.72.81.86",
        "76.84.91 76.84.91 69.76.84.93 76.84.91 81.84.93 62.69.81.84.89.90.93 71.79.86.91 81.86.89 72.76.79.84.88 "
        "72.76.79.83.84.91 72.81.84.89 72.76.79.88 65.77.81.86 84.88 62.77.86 86 67.79.84 69.84 60.66.74.77.89 69.72.76.88 "
        "69.74.81 76.79 62.69.74.81 67.74.83",
    ]
    shift, chosen = int(rng.integers(-4, 5)), rng.choice(len(pieces), size=3, replace=False)
    lengths = np.append(rng.integers(14, 23, size=2), 24)
    x = np.stack([piano_roll(pieces[number], shift) for number in chosen])
    x *= (np.arange(24) < lengths[:, None])[..., None]
    sizes = {"A_p": (3, 5), "B_p": (3, 5), "A_q": (3, 69), "B_q": (3, 69), "D": (64, 8), "d": (64,)}
    sizes |= {"U": (5, 64), "V": (5, 3), "W": (5, 5), "h_1": (5,)}
    weights = {name: 0.4 * rng.normal(size=size) for name, size in sizes.items()}
    weights["d"] -= 2.5
    return {"x": x, "lengths": lengths, "weights": weights, "noise": rng.normal(size=(3, 24, 3))}


# %%
NAME = ""
instance = make_instance(student_rng("vrnn-music", NAME))
x, lengths, noise, weights = (instance[name] for name in ("x", "lengths", "noise", "weights"))

# %% [markdown]
# ## 1. The divergence of two Gaussians
#
# $\mathrm{KL}(N(m_q, s_q) \,\|\, N(m_p, s_p))$ in nats, summed over the last axis; $s$ are standard deviations.


# %% part="kl"
def kl(mean_q, scale_q, mean_p, scale_p):
    """KL(q || p) (...) of Gaussians with independent entries, each argument (..., D)."""
    ### BEGIN SOLUTION
    ratio, distance = scale_q / scale_p, (mean_q - mean_p) / scale_p
    return (0.5 * (ratio**2 + distance**2 - 1) - np.log(ratio)).sum(-1)
    ### END SOLUTION


# %% check="kl"
check_close(kl(np.ones(2), np.ones(2), np.ones(2), np.ones(2)), 0.0, what="divergence of equal laws")

# %% hidden="reference"
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence


def tensors(*arrays):
    """Arrays as tensors."""
    return [torch.tensor(np.asarray(array)) for array in arrays]


def kl_of(mean_q, scale_q, mean_p, scale_p):
    """KL(q || p), by torch."""
    mean_q, scale_q, mean_p, scale_p = tensors(mean_q, scale_q, mean_p, scale_p)
    return kl_divergence(Normal(mean_q, scale_q), Normal(mean_p, scale_p)).sum(-1).numpy()


def elbo_of(x, noise, weights):
    """The ELBO of a piece and the divergences (T,), by torch's distributions."""
    w = dict(zip(weights, tensors(*weights.values()), strict=True))
    h, total, divergences = w["h_1"], 0.0, []
    for x_t, e_t in zip(*tensors(x, noise), strict=True):
        both = torch.cat([x_t, h])
        q = Normal(w["A_q"] @ both, (w["B_q"] @ both).exp())
        z = q.loc + q.scale * e_t
        divergences.append(float(kl_divergence(q, Normal(w["A_p"] @ h, (w["B_p"] @ h).exp())).sum()))
        logits = w["D"] @ torch.cat([z, h]) + w["d"]
        total += float(Bernoulli(logits=logits).log_prob(x_t).sum()) - divergences[-1]
        h = torch.tanh(w["U"] @ x_t + w["V"] @ z + w["W"] @ h)
    return total, np.array(divergences)


def laws(rng):
    """Means and scales of two laws, (4, 3) each."""
    return rng.normal(size=(4, 3)), rng.uniform(0.2, 2, (4, 3)), rng.normal(size=(4, 3)), rng.uniform(0.2, 2, (4, 3))


# %% test="kl" points="4" says="equal scales: half the squared distance in standard deviations"
mean_q, scale, mean_p = np.array([0.3, -1.0]), np.array([0.5, 2.0]), np.array([1.0, 0.0])
check_close(call("kl", mean_q, scale, mean_p, scale), (((mean_q - mean_p) / scale) ** 2).sum() / 2)

# %% test="kl" points="8" says="the divergence is wrong: is it KL(q || p), and are scales standard deviations?"
some = laws(np.random.default_rng(int(instance["lengths"][0])))
check_close(call("kl", *some), kl_of(*some))

# %% [markdown]
# ## 2. The probability of a chord
#
# The log probability of zeros and ones under independent keys with these logits, summed over the last axis. Logits of
# $\pm 1000$ must give no infinity and no NaN.


# %% part="chord"
def chord_log_prob(x, logits):
    """log p(x) (...) of x (..., 64), zeros and ones, under logits (..., 64)."""
    ### BEGIN SOLUTION
    return (x * logits - np.logaddexp(0.0, logits)).sum(-1)
    ### END SOLUTION


# %% check="chord"
check_close(chord_log_prob(x[0, 0], np.zeros(64)), -64 * np.log(2), what="log probability under fair coins")

# %% test="chord" points="6" says="the log probability of a chord is wrong"
logits = np.random.default_rng(int(instance["lengths"][0])).normal(size=(24, 64))
expected = Bernoulli(logits=torch.tensor(logits)).log_prob(torch.tensor(instance["x"][2])).sum(-1).numpy()
check_close(call("chord_log_prob", instance["x"][2], logits), expected)

# %% test="chord" points="4" says="large logits must not overflow: log(1 + exp(a)) is logaddexp(0, a)"
x, logits = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1000.0, -1000.0, -1000.0, 1000.0])
check_close(call("chord_log_prob", x, logits), -2000.0)

# %% [markdown]
# ## 3. The bound of a piece
#
# Run the networks along a piece. The state is $z_t = m + s\,\varepsilon_t$ with the encoder's mean and scale and the
# given noise. Return $\sum_t \log p(x_t \mid z_t, h_t) - \mathrm{KL}_t$, and all $\mathrm{KL}_t$.


# %% part="elbo"
def vrnn_elbo(x, noise, weights):
    """The ELBO, in nats, and the divergences (T,) of a piece x (T, 64) with noise (T, 3)."""
    ### BEGIN SOLUTION
    h, total, divergences = weights["h_1"], 0.0, []
    for x_t, e_t in zip(x, noise, strict=True):
        both = np.concatenate([x_t, h])
        mean, scale = weights["A_q"] @ both, np.exp(weights["B_q"] @ both)
        z = mean + scale * e_t
        divergences.append(kl(mean, scale, weights["A_p"] @ h, np.exp(weights["B_p"] @ h)))
        logits = weights["D"] @ np.concatenate([z, h]) + weights["d"]
        total += chord_log_prob(x_t, logits) - divergences[-1]
        h = np.tanh(weights["U"] @ x_t + weights["V"] @ z + weights["W"] @ h)
    return total, np.array(divergences)
    ### END SOLUTION


# %% check="elbo"
bound, divergences = vrnn_elbo(x[2], noise[2], weights)
assert (divergences >= 0).all() and bound < 0, "divergences are not negative, and a probability is below one"

# %% test="elbo" points="6" says="one step: the memory is h_1"
got, divergences = call("vrnn_elbo", instance["x"][2][:1], instance["noise"][2][:1], instance["weights"], returns=2)
expected = elbo_of(instance["x"][2][:1], instance["noise"][2][:1], instance["weights"])
check_close(got, expected[0], what="ELBO")
check_close(divergences, expected[1], what="divergence")

# %% test="elbo" points="8" says="the divergences along a piece are wrong: the memory reads x and z of the step before"
_, divergences = call("vrnn_elbo", instance["x"][2], instance["noise"][2], instance["weights"], returns=2)
check_close(divergences, elbo_of(instance["x"][2], instance["noise"][2], instance["weights"])[1], what="divergences")

# %% test="elbo" points="10" says="the ELBO of a piece is wrong"
got, _ = call("vrnn_elbo", instance["x"][2], instance["noise"][2], instance["weights"], returns=2)
check_close(got, elbo_of(instance["x"][2], instance["noise"][2], instance["weights"])[0], what="ELBO")

# %% [markdown]
# ## 4. Several samples
#
# The importance-weighted bound of $S$ samples from $\log p(x, z^{(s)})$ and $\log q(z^{(s)})$:
# $\log \frac1S \sum_s p(x, z^{(s)}) / q(z^{(s)})$.


# %% part="iwae"
def iwae(log_p, log_q):
    """The bound from log p(x, z) (S,) and log q(z) (S,), a number."""
    ### BEGIN SOLUTION
    return logsumexp(log_p - log_q) - np.log(len(log_p))
    ### END SOLUTION


# %% check="iwae"
check_close(iwae(np.array([-9.0, -9.0]), np.array([-1.0, -1.0])), -8.0, what="bound of equal weights")

# %% test="iwae" points="4" says="one sample: log p(x, z) - log q(z)"
check_close(call("iwae", np.array([-812.5]), np.array([-3.25])), -809.25)

# %% test="iwae" points="6" says="the bound is the log of the mean of the weights, which may be as small as exp(-2000)"
log_p, log_q = np.array([-2000.0, -2001.0, -1999.5]), np.array([-1.0, -2.5, -0.5])
weights_ = np.exp(log_p - log_q + 1999)
check_close(call("iwae", log_p, log_q), np.log(weights_.mean()) - 1999, rtol=1e-9)

# %% [markdown]
# ## 5. Nats per step
#
# Papers report the negative bound per step of music: the sum over all steps of all pieces, divided by the number of these
# steps. Padding is no step, whatever number stands there.


# %% part="average"
def nats_per_step(bounds, lengths):
    """The negative mean bound per step, from bounds (N, T) by step and the lengths (N,) of the pieces."""
    ### BEGIN SOLUTION
    inside = np.arange(bounds.shape[1]) < np.asarray(lengths)[:, None]
    return -np.where(inside, bounds, 0.0).sum() / np.sum(lengths)
    ### END SOLUTION


# %% check="average"
check_close(nats_per_step(np.full((2, 4), -3.0), np.array([4, 2])), 3.0, what="mean of equal bounds")

# %% test="average" points="3" says="pieces of equal lengths: minus the mean of all bounds"
check_close(call("nats_per_step", np.array([[-1.0, -2.0], [-3.0, -6.0]]), np.array([2, 2])), 3.0)

# %% test="average" points="7" says="padding counts, or short pieces count as much as long ones"
bounds = np.array([[-1.0, -2.0, np.nan], [-3.0, -7.0, -8.0]])
check_close(call("nats_per_step", bounds, np.array([2, 3])), 21 / 5)
check_close(call("nats_per_step", np.array([[-1.0, -50.0], [-3.0, -5.0]]), np.array([1, 2])), 3.0)

# %% [markdown]
# ## 6. Your numbers
#
# For your three pieces without their padding: the ELBO of the last piece, the mean number of keys per chord, and the nats
# per step of a model without memory whose keys are independent, each with the frequency of that key in your three pieces
# (a key that is never played has probability zero and adds nothing).

# %% part="numbers"
### BEGIN SOLUTION
chords = np.concatenate([piece[:length] for piece, length in zip(x, lengths, strict=True)])
rates = chords.mean(0)
entropy = -sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0) for p in (rates, 1 - rates)).sum()
answers = {
    "elbo": vrnn_elbo(x[2], noise[2], weights)[0],
    "keys_per_chord": chords.sum(1).mean(),
    "nats_per_step": entropy,
}
### END SOLUTION

# %% check="numbers"
assert set(answers) == {"elbo", "keys_per_chord", "nats_per_step"}, "these are the names of the three answers"

# %% test="numbers" points="3" says="elbo is not that of your last piece"
expected = elbo_of(instance["x"][2], instance["noise"][2], instance["weights"])[0]
check_close(value("answers")["elbo"], expected, rtol=1e-5)

# %% test="numbers" points="2" says="keys_per_chord is not that of your pieces"
check_close(value("answers")["keys_per_chord"], instance["x"].sum() / instance["lengths"].sum(), rtol=1e-4)

# %% test="numbers" points="3" says="nats_per_step is not that of independent keys on your pieces"
rates = instance["x"].sum((0, 1)) / instance["lengths"].sum()
check_close(value("answers")["nats_per_step"], Bernoulli(torch.tensor(rates)).entropy().sum(), rtol=1e-4)

# %% [markdown] question="collapse" points="7"
# **Question 1.** A control: in a trained model the encoder is replaced by the prior, and the bound hardly changes; all
# $\mathrm{KL}_t$ are near zero. Which hypothesis about the state does this control break, why is the model then an RNN, and
# which part of the four networks lets training end there?

# %% [markdown] rubric="collapse"
# - 3 points: that the state carries information on the chord: q equals the prior, the state is noise (posterior collapse).
# - 2 points: the decoder predicts from h alone, which is a deterministic function of the past: an RNN.
# - 2 points: a decoder that reads h (and a strong memory) needs no z, and each nat in KL must be paid back by the decoder.

# %% [markdown] question="bounds" points="7"
# **Question 2.** Model A has an ELBO of 6.9 nats per step, model B an importance-weighted bound with 100 samples of 6.8
# nats per step. Which hypothesis does the comparison "B is better" need, which control would test it, and which model could
# have the better likelihood?

# %% [markdown] rubric="bounds"
# - 3 points: that both bounds have the same gap; they are different bounds, and the second is tighter for the same model.
# - 2 points: evaluate both with the same bound, and with more samples until it no longer falls.
# - 2 points: either: A's likelihood may be anywhere below 6.9 nats per step.
