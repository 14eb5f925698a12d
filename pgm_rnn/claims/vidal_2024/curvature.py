"""The extended Kalman filter has no guarantees: its error grows with the curvature of the network.

g_k(a) = tanh(k a) / k,   k -> 0 linear;      z k is the state of a network with tanh, k^2 P, k^2 Q and C / k
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.inference import kalman, smc
from pgm_rnn.models.noisy_rnn import NoisyRNN


def curved(model: NoisyRNN, curvature: float, activation: str = "tanh") -> NoisyRNN:
    """The network with g_k in place of the identity, written in the state k z, its C of norm one."""
    return NoisyRNN(
        curvature * model.initial_mean,
        curvature**2 * model.initial_cov,
        model.transition_matrix,
        curvature**2 * model.transition_cov,
        model.emission_matrix / (curvature * model.emission_matrix.norm()),
        model.emission_cov,
        activation=activation,
    )


class ExtendedKalmanCurvature(Claim):
    """Errors at curvature k and 2 k, measured against a particle filter with common random numbers."""

    id = "extended-kalman-curvature"
    source = f"{PAPER}, Extended Kalman Filters for RNNs"
    statement = "the extended filter's error in log p(x) grows with the curvature k of g_k(a) = tanh(k a) / k"
    quotation = "Therefore, we don't have any optimality guarantees."
    meaning = (
        "The extended filter's error depends on how strongly the network curves over the spread of the state: the less "
        "curvature, the less error."
    )
    hypotheses = "g_k is curved; its first deviation from a line is of order k^2"
    routes = (
        "root mean square over 16 sequences of the difference between log p(x) by the extended filter and by 2^15 "
        "particles: the ratio of that at k = 1/4 to that at 2 k, at most 2^(-1/2)"
    )
    control = "the identity in place of g_k: what is left is the particles' noise, the same at every k, ratio one"
    kind = "limit"
    unit = "limit"
    proof = (
        "g_k(a) = tanh(k a) / k = a - k^2 a^3 / 3 + O(k^4), so g_k'' is O(k^2). At each step the linearisation misses "
        "terms of the size of g_k'' times moments of the state's spread, and the smooth updates pass these errors on: "
        "the error in log p(x) is O(k^2) and vanishes at k = 0. Halving k then divides it by up to four. The check "
        "asks for the square root of two, since the likelihood that it is compared with comes from particles and has "
        "noise of its own."
    )

    num_sequences = 16
    num_steps = 4
    num_particles = 2**15
    curvatures = (0.25, 0.5)

    @override
    def cases(self) -> Sequence[tuple[int, int]]:
        return [(1, 1), (2, 1)]

    @property
    @override
    def tolerance(self) -> float:
        """Growth by at least a factor of sqrt(2) as k doubles; it tends to 4 for small k, which the particles blur."""
        return 2**-0.5

    @override
    def residual(self, case: tuple[int, int], seed: int) -> float:
        return self._ratio(case, seed, "tanh")

    @override
    def control_residual(self, case: tuple[int, int], seed: int) -> float:
        return self._ratio(case, seed, "identity")

    @torch.no_grad()
    def _ratio(self, case: tuple[int, int], seed: int, activation: str) -> float:
        base = NoisyRNN.random(*case, seed=seed).double()
        x = curved(base, self.curvatures[0], "identity").sample(self.num_sequences, self.num_steps, seed=seed).x
        little, more = (self._error(curved(base, k, activation), x, seed) for k in self.curvatures)
        return little / more

    def _error(self, model: NoisyRNN, x: Tensor, seed: int) -> float:
        approximate = kalman.filter(model, x, method="extended").log_marginal_likelihood
        particles = smc.filter(model, x, num_particles=self.num_particles, ess_threshold=1, seed=seed)
        return float((approximate - particles.log_marginal_likelihood).square().mean().sqrt())
