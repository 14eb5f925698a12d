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
# # 10. The VRNN, three bounds, and Bach
#
# **The idea.** A model of music with a hidden vector at every step has no likelihood that one could compute. Three
# bounds take its place: ELBO, IWAE and FIVO. They come from one and the same weighted draws and differ in where the
# logarithm is taken and whether bad draws are replaced on the way.
#
# - **Level:** advanced. **Minutes:** 60, with the exercises 110.
# - **You need:** lesson 2 for the ELBO, lesson 7 for weights and resampling. Lesson 9 helps.
# - **Afterwards you can:** write all three bounds in one function, say which numbers may be compared, and hear what a
#   model has learnt.

# %% tags=["parameters"] short={"NUM_RUNS": 40, "NUM_STEPS": 24, "NUM_PIECES": 3, "MOST_PARTICLES": 16}
NUM_RUNS = 100  # independent runs behind each mean and its error
NUM_STEPS = 48  # quarter notes of a piece
NUM_PIECES = 5  # pieces that are scored
MOST_PARTICLES = 32  # draws of the tightest bounds

# %%
import io
import math
import os
import wave

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Audio

import pgm_rnn as pr
from pgm_rnn.data import DataError, load
from pgm_rnn.inference import smc, svi
from pgm_rnn.zoo import load_pretrained, reference

torch.set_default_dtype(torch.float64)
plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## The model
#
# A variational recurrent network (VRNN) is a recurrent network with a hidden random vector $z_t$ at every step. Its
# memory $h_t$ has read all notes and all hidden vectors before step $t$:
#
# $$
# \begin{aligned}
# h_t &= f(h_{t-1}, z_{t-1}, x_{t-1}) && \text{hidden}\\
# z_t &\sim p(z_t \mid h_t) && \text{prior}\\
# x_t &\sim p(x_t \mid z_t, h_t) && \text{decoder}\\
# q(z_t \mid x_t, h_t) & && \text{encoder, the guide}
# \end{aligned}
# $$
#
# $x_t \in \{0, 1\}^{88}$ are the keys of a piano that sound in quarter note $t$. Training takes some minutes, so the
# package brings a trained model. It has heard 229 chorales by J. S. Bach.

# %%
vrnn = load_pretrained("vrnn-jsb").double()
print(vrnn)

# %% alt="The graph of a VRNN over three steps: the memory h, a double square, leads to the hidden vector z and to the notes x, and reads both"
pr.plot.graph(vrnn, num_steps=3)
plt.show()

# %% [markdown]
# The pieces that we score are chorales from the test set, if the environment variable `PGM_RNN_DATA` names a folder
# that has them. Otherwise they are draws of the model itself, and the lesson reads the same. (`load("jsb")` would
# download them.)


# %%
def pieces():
    """Test chorales or draws, (NUM_PIECES, NUM_STEPS, 88), and what they are."""
    if os.environ.get("PGM_RNN_DATA"):
        try:
            test = load("jsb").test
            long = (test.lengths >= NUM_STEPS).nonzero()[:NUM_PIECES, 0]
            return test.x[long, :NUM_STEPS].double(), "chorales by Bach"
        except DataError as error:
            print(error)
    return vrnn.sample(NUM_PIECES, NUM_STEPS, seed=7).x, "draws of the model"


x, what = pieces()
print(f"{len(x)} {what}, {NUM_STEPS} steps each; {float(x.sum(-1).mean()):.1f} keys per step on average")

# %% [markdown]
# ## Three bounds in one function
#
# Draw $N$ paths from the guide and weigh each of them:
#
# $$w^n = \prod_{t=1}^{T} \frac{p(z_t^n \mid h_t^n)\; p(x_t \mid z_t^n, h_t^n)}{q(z_t^n \mid x_t, h_t^n)},
# \qquad E\, w^n = p(x).$$
#
# - **ELBO** $= E \log w^1$. One path, and the logarithm of its weight.
# - **IWAE** $= E \log \frac1N \sum_n w^n$. The logarithm of a mean of weights.
# - **FIVO** $= E \log \hat Z$, where $\hat Z$ is a particle filter's estimate: after each step, paths with a small
#   weight are replaced by copies of those with a large one.
#
# $\hat Z$ and the mean of weights are unbiased for $p(x)$, and the logarithm is concave. By Jensen's inequality all
# three are at most $\log p(x)$. With $N = 1$ both others are the ELBO, and FIVO that never resamples is IWAE:


# %%
@torch.no_grad()
def bound(model, x, num_particles, resample):
    """One draw of the bound for each sequence of x (B, T, 88): (B,)."""
    N, (B, T) = num_particles, x.shape[:2]
    features = model.encode(x, torch.full((B,), T))
    h = model.initial_memory.expand(N, B, -1)
    log_w, log_z, z = torch.zeros(N, B), torch.zeros(B), None
    for t in range(T):
        prior = model.initial(h) if z is None else model.transition(z, h)
        guide = model.proposal(z, h, features[:, t].expand(N, B, -1))
        z = guide.sample()
        log_w = log_w + prior.log_prob(z) + model.emission(z, h).log_prob(x[:, t]) - guide.log_prob(z)
        if resample and t < T - 1:
            log_z = log_z + log_w.logsumexp(0) - math.log(N)
            chosen = torch.multinomial(log_w.softmax(0).T, N, replacement=True).T[..., None]  # (N, B, 1)
            z, h = z.take_along_dim(chosen, 0), h.take_along_dim(chosen, 0)
            log_w = torch.zeros(N, B)
        h = model.recurrence(h, z, x[:, t].expand(N, B, -1))
    return log_z + log_w.logsumexp(0) - math.log(N)


def mean_and_error(values):
    """Mean over all runs, and its standard error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


short = x[:1, :12]  # twelve steps of one piece, in NUM_RUNS copies, so that all runs go side by side
copies = short.expand(NUM_RUNS, -1, -1)
torch.manual_seed(0)
by_hand = {
    "elbo": bound(vrnn, copies, 1, resample=False),
    "iwae": bound(vrnn, copies, 8, resample=False),
    "fivo": bound(vrnn, copies, 8, resample=True),
}
by_package = {
    "elbo": svi.evaluate(vrnn, copies, bound="elbo", num_particles=1, seed=0).log_likelihoods,
    "iwae": svi.evaluate(vrnn, copies, bound="iwae", num_particles=8, seed=0).log_likelihoods,
    "fivo": smc.log_marginal_likelihood(
        vrnn, copies, num_particles=8, resample="always", resampling="multinomial", seed=0
    ).detach(),
}
for name, mine in by_hand.items():
    (a, a_error), (b, b_error) = mean_and_error(mine), mean_and_error(by_package[name])
    print(f"{name}: by hand {a:.3f} ± {a_error:.3f}, by the package {b:.3f} ± {b_error:.3f}")
    assert abs(a - b) < 5 * math.hypot(a_error, b_error)

# %% [markdown]
# The draws are random, so "the same number" means: the same expectation, within standard errors. `svi.evaluate` with
# `bound="fivo"` resamples only when the weights have become uneven, which is a bit better than resampling at every
# step.
#
# **What breaks: the reconstruction is no bound.** How well does the decoder restore $x$ from a $z$ that has seen it?
# $E_q \sum_t \log p(x_t \mid z_t, h_t)$ is often printed during training. It leaves out the price of $z$, and it lies
# *above* $\log p(x)$. So does the ELBO divided by the number of steps, if it is taken for a bound on $\log p(x)$:


# %%
@torch.no_grad()
def reconstruction(model, x):
    """sum_t log p(x_t | z_t, h_t) for one path from the guide."""
    features = model.encode(x, torch.full((len(x),), x.shape[1]))
    h, total = model.initial_memory.expand(len(x), -1), 0.0
    for t in range(x.shape[1]):
        z = model.proposal(None, h, features[:, t]).sample()
        total = total + model.emission(z, h).log_prob(x[:, t])
        h = model.recurrence(h, z, x[:, t])
    return total


known = reference("vrnn-jsb")  # sequences with known log p(x), from 16 filters with 2048 particles
first = known.data.x[:1]
log_p, log_p_error = float(known.log_marginal_likelihoods[0]), float(known.standard_errors[0])
restored, restored_error = mean_and_error(reconstruction(vrnn, first.expand(NUM_RUNS, -1, -1)))
elbo, elbo_error = mean_and_error(bound(vrnn, first.expand(NUM_RUNS, -1, -1), 1, resample=False))
print(f"log p(x)        {log_p:8.2f} ± {log_p_error:.2f}")
print(f"ELBO            {elbo:8.2f} ± {elbo_error:.2f}")
print(f"reconstruction  {restored:8.2f} ± {restored_error:.2f}")
print(f"ELBO / T        {elbo / first.shape[1]:8.2f}")
assert elbo < log_p
assert restored > log_p + 5 * restored_error
assert elbo / first.shape[1] > log_p

# %% [markdown]
# ## More draws
#
# IWAE rises with $N$, and so does FIVO here. For the reference sequence $\log p(x)$ is known, so that we can see how
# much is missing. All three are ordered **in expectation**: a single run may well lie above $\log p(x)$.

# %%
sizes = [n for n in (1, 2, 4, 8, 16, 32) if n <= MOST_PARTICLES]
many = first.expand(NUM_RUNS, -1, -1)
runs = {name: [bound(vrnn, many, n, resample=name == "FIVO") for n in sizes] for name in ("IWAE", "FIVO")}
for name, values in runs.items():
    print(name, *(f"{float(v.mean()):.2f}±{mean_and_error(v)[1]:.2f}" for v in values))
    above = float((values[-1] > log_p).double().mean())
    print(f"  {above:.0%} of the runs with N = {sizes[-1]} are above log p(x)")
for values in runs.values():
    means, errors = zip(*(mean_and_error(v) for v in values), strict=True)
    assert means[-1] > means[0] + 3 * math.hypot(errors[0], errors[-1])  # more draws, a tighter bound
    assert means[-1] < log_p + 4 * math.hypot(errors[-1], log_p_error)  # and still a bound

# %% alt="Means with error bars of IWAE and FIVO against the number of draws, both rise towards a dotted line at the known log likelihood"
figure, axes = plt.subplots(figsize=(7, 3))
for (name, values), style in zip(runs.items(), ("s--", "o-"), strict=True):
    means, errors = zip(*(mean_and_error(v) for v in values), strict=True)
    axes.errorbar(sizes, means, 2 * np.array(errors), fmt=style, capsize=3, label=name)
axes.axhline(log_p, color="black", linestyle=":", label="log p(x)")
axes.annotate("ELBO", (1, means[0]), xytext=(8, -3), textcoords="offset points")
axes.set_xscale("log", base=2)
axes.set_xticks(sizes, [str(n) for n in sizes])
axes.set_xlabel("draws N")
axes.set_ylabel("nats, mean ± 2 errors")
axes.legend(loc="lower right")
plt.show()

# %% [markdown]
# ## Longer pieces
#
# Why resample? The weight of a whole path is a product of $T$ factors, so the spread of $\log w$ grows with $T$, and of
# $N$ paths soon one carries all the weight. A filter starts afresh at each step. Here is the distance of each bound
# from the best one that we have, FIVO with many particles, as the pieces grow:

# %%
lengths = [length for length in (6, 12, 24, 36, 48) if length <= NUM_STEPS]
losses = {"ELBO": [], "IWAE, N = 16": [], "FIVO, N = 16": []}
settings = {"ELBO": ("elbo", 1), "IWAE, N = 16": ("iwae", 16), "FIVO, N = 16": ("fivo", 16)}
for length in lengths:
    part = x[:, :length]
    best = svi.evaluate(vrnn, part, bound="fivo", num_particles=256, seed=1).log_likelihoods
    for name, (kind, n) in settings.items():
        copies = part.repeat(10, 1, 1)
        found = svi.evaluate(vrnn, copies, bound=kind, num_particles=n, seed=0).log_likelihoods
        losses[name].append(float((best - found.view(10, -1).mean(0)).mean()))
for name, values in losses.items():
    print(f"{name:12}", *(f"{value:6.2f}" for value in values))
assert losses["ELBO"][-1] > losses["IWAE, N = 16"][-1] > losses["FIVO, N = 16"][-1]

# %% alt="Nats lost against the length of the pieces: the ELBO loses most and grows in a line, IWAE with 16 draws also grows, FIVO with 16 particles stays near zero"
figure, axes = plt.subplots(figsize=(7, 3))
for (name, values), style in zip(losses.items(), ("^:", "s--", "o-"), strict=True):
    axes.plot(lengths, values, style, label=name)
axes.axhline(0, color="black", linewidth=0.5)
axes.set_xlabel("steps of a piece")
axes.set_ylabel("nats below the best bound")
axes.legend()
plt.show()

# %% [markdown]
# So a table of results must say which bound a number is, and with how many draws. "Model A has 6.8 nats per step, model
# B has 7.1" means nothing, if A was scored by FIVO with 128 particles and B by the ELBO.
#
# ## Look and listen
#
# The model never saw a rule of harmony. A roll shows which keys sound when:

# %% alt="Two piano rolls, one of a scored piece and one drawn from the model: bars for each sounding key against time in quarter notes"
drawn = vrnn.sample(2, 32, seed=11)
pr.plot.rolls(x[:1, :32], drawn.x[:1], num_sequences=1)
plt.show()

# %% [markdown]
# Sound is a sum of sines. Key $j$ (counted from the lowest A) has the frequency $27.5 \cdot 2^{j/12}$ hertz. A key that
# sounds goes through its sine without a break until it is let go. Each note has three overtones and fades away:

# %%
RATE, STEP = 8000, 0.3  # samples per second, seconds per quarter note


def sound(roll):
    """Samples in -1..1 of a roll (T, 88)."""
    roll = np.asarray(roll)
    samples = np.zeros(int((len(roll) + 2) * STEP * RATE))
    for key in np.flatnonzero(roll.any(0)):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], roll[:, key], [0]])))
        for begin, end in edges.reshape(-1, 2):  # struck at one step, let go at another
            seconds = np.arange(int((end - begin) * STEP * RATE)) / RATE
            frequency = 27.5 * 2 ** (key / 12)
            overtones = [k for k in (1, 2, 3, 4) if k * frequency < RATE / 2]
            tone = sum(np.sin(2 * np.pi * k * frequency * seconds) / k**2 for k in overtones)
            tone *= np.exp(-1.5 * seconds) * np.minimum(1, 100 * seconds) * np.minimum(1, 100 * (seconds[-1] - seconds))
            start = int(begin * STEP * RATE)
            samples[start : start + len(tone)] += tone
    return samples / abs(samples).max()


def wav(samples):
    """A WAV file of 16 bits per sample, as bytes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        out.writeframes((32767 * samples).astype("<i2").tobytes())
    return file.getvalue()


scored = wav(sound(x[0, :32]))
print(f"{what}: {len(scored) // 1000} kB")
Audio(scored)

# %% [markdown]
# The same for a piece that the model has invented. Listen for what is wrong: keys that are neighbours, too many voices,
# no end. The card of the model measures this.

# %%
Audio(wav(sound(drawn.x[0])))

# %%
peak = np.abs(np.fft.rfft(sound(np.eye(88)[[48] * 8])))  # key 48 is the A of 440 hertz
frequency = np.fft.rfftfreq(int(10 * STEP * RATE), 1 / RATE)[peak.argmax()]
print(f"key 48 sounds at {frequency:.0f} hertz")
assert abs(frequency - 440) < 2

voices = drawn.x.sum(-1).flatten()
close = (drawn.x[..., 1:] * drawn.x[..., :-1]).any(-1).double().mean()
print(f"draws: {float(voices.mean()):.1f} keys per step, {float(close):.0%} of the steps have neighbouring keys")

# %% [markdown]
# ## Takeaways
#
# - ELBO, IWAE and FIVO are means of logarithms of unbiased estimates of $p(x)$, so all are below $\log p(x)$ on
#   average.
# - IWAE moves the mean inside the logarithm. FIVO also replaces bad draws on the way, and loses less on long sequences.
# - Bounds are ordered in expectation. Compare means with standard errors, and only the same bound with the same $N$.
# - The reconstruction term is no bound. A number without the price of $z$ says nothing about $p(x)$.
#
# ## Exercises
#
# ### Exercise 1: without the encoder
#
# Use the prior $p(z_t \mid h_t)$ in place of the guide, so that the draws do not look at $x_t$. Which factor of the
# weight is left? Estimate IWAE and FIVO with 8 draws and compare them with the guided ones.
#
# <details>
# <summary>Solution</summary>
#
# Prior and guide cancel, and $p(x_t \mid z_t, h_t)$ is left. It is a bound still, but a looser one. In the package this
# is `proposal="bootstrap"`.
#
# ```python
# copies = first.expand(NUM_RUNS, -1, -1)
# blind = {
#     kind: smc.log_marginal_likelihood(
#         vrnn, copies, num_particles=8, proposal="bootstrap", resample=kind, seed=0
#     ).detach()
#     for kind in ("never", "always")
# }
# guided = {"never": bound(vrnn, copies, 8, resample=False), "always": bound(vrnn, copies, 8, resample=True)}
# for kind in blind:
#     (a, a_error), (b, b_error) = mean_and_error(blind[kind]), mean_and_error(guided[kind])
#     print(f"resampling {kind}: prior {a:.2f} ± {a_error:.2f}, guide {b:.2f} ± {b_error:.2f}")
#     assert b - a > 3 * math.hypot(a_error, b_error)
# ```
#
# </details>
#
# ### Exercise 2: one mean for the whole batch
#
# A colleague computes IWAE for a batch as $\log \frac1N \sum_n \prod_i w_i^n$, the mean of the weights of all sequences
# together. Is that a bound? Compare it with the sum of the bounds of the single sequences, for batches of 1 and of 8
# copies of the reference sequence.
#
# <details>
# <summary>Solution</summary>
#
# It is a bound on the log likelihood of the batch, but a bad one: the product of many weights is as uneven as the
# weight of one very long sequence, and the bound falls towards the ELBO.
#
# ```python
# torch.manual_seed(4)
# N = 8
# log_w = bound(vrnn, first.expand(N * NUM_RUNS * 8, -1, -1), 1, resample=False).view(N, NUM_RUNS, 8)
# gaps = {}
# for size in (1, 8):
#     part = log_w[:, :, :size]
#     single = (part.logsumexp(0) - math.log(N)).sum(-1)
#     joint = part.sum(-1).logsumexp(0) - math.log(N)
#     gaps[size] = mean_and_error((single - joint) / size)
#     print(f"batch of {size}: {gaps[size][0]:.3f} ± {gaps[size][1]:.3f} nats lost per sequence")
# assert abs(gaps[1][0]) < 1e-12
# assert gaps[8][0] > 3 * gaps[8][1]
# ```
#
# </details>
#
# ### Exercise 3: another key
#
# Move the scored pieces up by six keys, half an octave (`x.roll(6, dims=-1)`), and score both versions by the same
# bound. Which does the model prefer, and what does that say about what it has learnt?
#
# <details>
# <summary>Solution</summary>
#
# The original. For a listener a chorale in another key is the same chorale. The network has one weight for every key
# and knows only the keys that are frequent in its training data. Transposed copies of the data would help.
#
# ```python
# there = svi.evaluate(vrnn, x, bound="fivo", num_particles=32, seed=0).log_likelihoods
# moved = svi.evaluate(vrnn, x.roll(6, dims=-1), bound="fivo", num_particles=32, seed=0).log_likelihoods
# print(f"{float((there - moved).mean()) / NUM_STEPS:.2f} nats per step are lost")
# assert there.mean() > moved.mean()
# ```
#
# </details>
#
# ## Further reading
#
# - J. Chung, K. Kastner, L. Dinh, K. Goel, A. Courville, Y. Bengio (2015). *A recurrent latent variable model for
#   sequential data.* The VRNN.
# - Y. Burda, R. Grosse, R. Salakhutdinov (2016). *Importance weighted autoencoders.* IWAE, and why it rises with the
#   number of draws.
# - C. J. Maddison et al. (2017). *Filtering variational objectives.* FIVO, also for training.
# - N. Boulanger-Lewandowski, Y. Bengio, P. Vincent (2012). *Modeling temporal dependencies in high-dimensional
#   sequences: application to polyphonic music generation and transcription.* The chorales as piano rolls.
