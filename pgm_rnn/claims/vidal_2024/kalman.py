"""The Kalman filter and smoother are exact for the linear dynamical system.

z_t = A z_{t-1} + B u_t + w_t,   x_t = C z_t + D u_t + v_t,   w_t, v_t normal
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.claims.vidal_2024.joint_normal import JointNormal, joint_rounding
from pgm_rnn.inference import kalman
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.noisy_rnn import NoisyRNN
from pgm_rnn.randomness import seeded

Case = tuple[int, int, int | None]
"""Entries of a state, of an observation and of an input."""


def moments_distance(found: kalman.Filtered, exact: JointNormal, x: Tensor) -> float:
    """The largest difference of log likelihoods and of filtered, predicted and (where found) smoothed moments."""
    num_steps = x.shape[1]
    steps = list(range(num_steps))
    pairs = [(found.log_marginal_likelihood, exact.log_likelihood(x))]
    given = {"filtered": [t + 1 for t in steps], "predicted": steps}
    if isinstance(found, kalman.Smoothed):
        given["smoothed"] = [num_steps] * num_steps
    for name, seen in given.items():
        posterior = exact.given(x, seen)
        pairs.append((getattr(found, f"{name}_means"), posterior.means))
        pairs.append((getattr(found, f"{name}_covs"), posterior.covs.expand(len(x), -1, -1, -1)))
    return largest(float((a - b).abs().max()) for a, b in pairs)


def system(case: Case, seed: int) -> LinearGaussianSSM:
    """A random stable system in float64, drawn anew for each seed."""
    return LinearGaussianSSM.random(case[0], case[1], input_dim=case[2], seed=seed).double()


def driven(case: Case, seed: int, num_sequences: int, num_steps: int) -> Tensor | None:
    """Standard normal inputs, or None for a system without."""
    if case[2] is None:
        return None
    with seeded(seed, stream=4):
        return torch.randn(num_sequences, num_steps, case[2], dtype=torch.float64)


class KalmanIsExact(Claim):
    """Likelihood and moments of the recursions are those of one large normal vector."""

    id = "kalman-is-exact"
    source = f"{PAPER}, RNNs vs LDSs"
    statement = "in a linear dynamical system the Kalman filter gives the moments of z_t given x_{1:t} and log p(x)"
    quotation = "Exact inference via Kalman filter"
    meaning = (
        "If everything is linear and all noise is normal, the law of the state given the observations is always "
        "normal, and inference consists of two recursions, for its mean and its covariance."
    )
    hypotheses = "transition and emission are linear, all noise is normal"
    routes = (
        "the engine's recursions, against the joint normal law of all states and observations, conditioned with no "
        "recursion: filtered, predicted and smoothed moments and log p(x_{1:T}), with inputs and without"
    )
    control = "the transition's mean passed through tanh, and filtered by linearisation"
    proof = (
        "States and observations are linear in the noise, hence jointly normal. If z_t | x_{1:t-1} ~ N(m, P), then "
        "Cov(z_t, x_t | x_{1:t-1}) = P C' and Var(x_t | x_{1:t-1}) = F = C P C' + R, and conditioning a joint normal "
        "law gives z_t | x_{1:t} ~ N(m + P C' F^{-1} (x_t - C m), P - P C' F^{-1} C P). Through z_{t+1} = A z_t + b + "
        "w this gives the next m and P, and log p(x) = sum_t log N(x_t; C m_t, F_t) by the chain rule. With a tanh in "
        "the transition the joint law is not normal."
    )

    num_sequences = 4
    num_steps = 6

    @override
    def cases(self) -> Sequence[Case]:
        return [(1, 1, None), (2, 1, None), (3, 2, None), (2, 3, None), (2, 2, 1), (3, 1, 2)]

    @property
    @override
    def tolerance(self) -> float:
        return joint_rounding(self.num_steps, latent_dim=3, obs_dim=3)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        model, x, inputs = self._instance(case, seed)
        exact = JointNormal(model.moments(), self.num_steps, inputs, len(x))
        return moments_distance(kalman.smooth(model, x, inputs=inputs), exact, x)

    @torch.no_grad()
    @override
    def control_residual(self, case: Case, seed: int) -> float:
        model, x, inputs = self._instance(case, seed)
        exact = JointNormal(model.moments(), self.num_steps, inputs, len(x))
        moments = model.moments()
        feedthrough = moments.pop("feedthrough_matrix", None)
        centred = x if inputs is None or feedthrough is None else x - inputs @ feedthrough.T
        network = NoisyRNN(**moments)  # type: ignore[arg-type]
        found = kalman.smooth(network, centred, inputs=inputs, method="extended")
        return moments_distance(found, exact, x)

    def _instance(self, case: Case, seed: int) -> tuple[LinearGaussianSSM, Tensor, Tensor | None]:
        model, inputs = system(case, seed), driven(case, seed, self.num_sequences, self.num_steps)
        return model, model.sample(self.num_sequences, self.num_steps, seed=seed, inputs=inputs).x, inputs
