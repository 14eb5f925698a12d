"""What the pictures of the claims show: curves that the claims' own functions measure, each from a fixed seed.

Every curve of a picture is a list of (x, y). A y that rounding alone makes is left out of the curves and is drawn as
a line instead, for its value differs from machine to machine.
"""

import copy
import math
from collections.abc import Callable

import torch

from pgm_rnn.claims.choe_2017 import rao_blackwell, theorem_5
from pgm_rnn.claims.choe_2017.particle_weights import X, contrasting_chain, posterior
from pgm_rnn.claims.choe_2017.proposition_6 import disturbed, pair, stranger
from pgm_rnn.claims.choe_2017.textbook_filter import Weights, filtered_estimates, printed_weights, right_weights
from pgm_rnn.claims.hidden_chain import reachable_chain, sequences_of
from pgm_rnn.claims.instances import random_rnn
from pgm_rnn.claims.regime_paths import regime_paths
from pgm_rnn.claims.sohl_dickstein_2015.elbo_equivalence import noise_gap
from pgm_rnn.claims.torch_recursion import log_likelihood
from pgm_rnn.claims.vidal_2024.joint_normal import JointNormal
from pgm_rnn.claims.vidal_2024.vanishing_gradient import DIM, end_to_end, network, random_matrix, rotation
from pgm_rnn.emissions import Bernoulli
from pgm_rnn.inference import kalman
from pgm_rnn.models.covariance import CovarianceTable
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded

Curve = list[tuple[float, float]]
Curves = dict[str, Curve]

CELLS = {"elman": "Elman", "gru": "GRU", "lstm": "LSTM"}
NUM_STEPS = 6


@torch.no_grad()
def theorem_5_noise() -> Curves:
    """Largest difference in log p(x_2, ..., x_6 | x_1) of the network, against the noise's probability."""
    curves: Curves = {}
    for cell, name in CELLS.items():
        rnn = theorem_5.instance((cell, 1, 2), seed=0)
        chain, x = reachable_chain(rnn, 2, NUM_STEPS), sequences_of(rnn, 2, NUM_STEPS)
        exact = log_likelihood(rnn, x, condition=True)
        curves[name] = []
        for noise in (0.0001, 0.001, 0.01, 0.05, 0.2):
            law = chain.noisy(noise).conditional_law(NUM_STEPS).log()
            curves[name].append((noise, theorem_5.difference(law, exact)))
    return curves


def elbo_gap() -> Curves:
    """Jensen's gap of the bound, in nats, against the scale of the noise in the hidden states."""
    curves: Curves = {}
    for cell, name in CELLS.items():
        rnn = random_rnn(cell, Bernoulli(3), 1, seed=0, hidden_dim=4)
        x, lengths = rnn.sample(5, NUM_STEPS, seed=0).x, torch.full((5,), NUM_STEPS)
        curves[name] = []
        for scale in (0.01, 0.03, 0.1, 0.3, 1.0):
            with seeded(0, stream=4):  # the same normal draws at every scale
                curves[name].append((scale, noise_gap(rnn, x, lengths, num_draws=64, noise=scale)))
    return curves


def lumping_errors() -> Curves:
    """Residual of C.2 and error of the predictions against the distance from a lumpable model."""
    instance = pair(("lumping", 2, 2), seed=0)
    other = stranger(instance, seed=0)
    curves: Curves = {"C.2": [], "predictions": []}
    for epsilon in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5):
        found = disturbed(instance, other, epsilon).residuals()
        curves["C.2"].append((epsilon, found.update))
        curves["predictions"].append((epsilon, found.prediction))
    return curves


def filter_errors() -> Curves:
    """Root mean square error of p(z_5 = 0 | x) over 200 runs of a particle filter, against its particles."""
    chain = contrasting_chain(2, seed=0)
    exact = posterior(chain, X)[0]
    rules: dict[str, Weights] = {"right weight": right_weights, "printed weight": printed_weights}
    curves: Curves = {}
    for name, weights in rules.items():
        curves[name] = []
        for size in (16, 64, 256, 1024, 4096):
            found = filtered_estimates(chain, chain.transition, X, size, 200, weights, seed=size)[:, 0]
            curves[name].append((float(size), float((found - exact).square().mean().sqrt())))
    return curves


@torch.no_grad()
def weight_variances() -> Curves:
    """Exact relative variance of one weight after three steps against the scale of the observations' noise."""
    given = rao_blackwell.instance((2, 2, 1), seed=0)
    curves: Curves = {"vectors drawn": [], "vectors summed out": []}
    for scale in (0.03, 0.1, 0.3, 1.0, 3.0):
        model = copy.deepcopy(given.model)
        model.emission_covariances = CovarianceTable(scale * given.model.emission_covariances.scale_tril)
        v, w = given._replace(model=model, paths=regime_paths(model, len(given.x))).second_moments()
        curves["vectors drawn"].append((scale, w - 1))
        curves["vectors summed out"].append((scale, v - 1))
    return curves


def gradient_norms() -> Curves:
    """||dh_T/dh_1|| against T: linear networks with three spectral radii, an orthogonal one, and tanh."""
    zero = torch.zeros(DIM)
    networks = {
        f"linear, |λ₁| = {radius}": network("elman-linear", random_matrix(radius, seed=0), zero, seed=0)
        for radius in (1.2, 0.95, 0.7)
    }
    networks["linear, orthogonal"] = network("elman-linear", rotation(0), zero, seed=0)
    networks["tanh, orthogonal"] = network("elman", rotation(0), zero, seed=0)
    return {name: [(float(T), _norm(rnn, T)) for T in (1, 5, 10, 20, 30, 40, 50)] for name, rnn in networks.items()}


def _norm(rnn: RNN, num_steps: int) -> float:
    return float(torch.linalg.matrix_norm(end_to_end(rnn, num_steps, seed=0), 2))


@torch.no_grad()
def kalman_gains() -> Curves:
    """The gain of a local level against the step: by the recursion, and by the joint normal law of all variables."""
    curves: Curves = {}
    one, steps = torch.ones(1, 1, dtype=torch.float64), list(range(1, 13))
    x = torch.zeros(1, len(steps), 1, dtype=torch.float64)
    for ratio in (1.0, 0.1, 0.01):
        level = LinearGaussianSSM(one[0], 4 * one, one, ratio * one, one, one)
        recursion = kalman.filter(level, x).filtered_covs.flatten()  # the gain is P C' / R, and C = R = 1
        joint = JointNormal(level.moments(), len(steps), None, 1).given(x, steps).covs.flatten()
        curves[f"filter, Q/R = {ratio:g}"] = [(float(t), float(gain)) for t, gain in zip(steps, recursion, strict=True)]
        curves[f"joint law, Q/R = {ratio:g}"] = [(float(t), float(gain)) for t, gain in zip(steps, joint, strict=True)]
    return curves


def steady_gain(ratio: float) -> float:
    """The gain after infinitely many steps, of a local level with Q/R = q: K^2 = q (1 - K)."""
    return (-ratio + math.sqrt(ratio**2 + 4 * ratio)) / 2


def tangents() -> Curves:
    """tanh, its tangent at m = 1, and the line of that slope through the origin."""
    places = [-0.5 + 0.125 * i for i in range(25)]
    slope = 1 - math.tanh(1) ** 2
    return {
        "g(z) = tanh(z)": [(z, math.tanh(z)) for z in places],
        "g(m) + A (z − m)": [(z, math.tanh(1) + slope * (z - 1)) for z in places],
        "printed: A z": [(z, slope * z) for z in places],
    }


CURVES: dict[str, Callable[[], Curves]] = {
    "theorem-5": theorem_5_noise,
    "elbo-equivalence": elbo_gap,
    "proposition-6-slope": lumping_errors,
    "particle-filter-rate": filter_errors,
    "rao-blackwell": weight_variances,
    "vanishing-gradient": gradient_norms,
    "kalman-is-exact": kalman_gains,
    "extended-kalman-offset": tangents,
}
"""The curves of the pictures, by the ids of the claims."""


def measure(name: str) -> Curves:
    """The curves of a claim's picture, in double precision, as claims are measured."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return CURVES[name]()
    finally:
        torch.set_default_dtype(before)
