"""The Kalman filter's mean is the state of a linear recurrent network whose gate is the gain.

z_{t+1|t} = A (I - K_t C) z_{t|t-1} + A K_t x_t          K_t = P_t C' (C P_t C' + R)^{-1}, which no x enters
m_t = (1 - k) m_{t-1} + k x_t                            a random walk in noise, steady: a minGRU with gate k
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.inference import kalman
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.linear_cells import LinearCell, MinGRU
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.randomness import seeded

NUM_SEQUENCES, NUM_STEPS = 3, 12
Case = tuple[str, int, int]
"""Kind of system, entries of a state, entries of an observation."""


def gains(system: LinearGaussianSSM, num_steps: int) -> Tensor:
    """K_1, ..., K_T, (T, D, M), by Riccati's equation, which reads no observation."""
    given = system.moments()
    A, C = given["transition_matrix"], given["emission_matrix"]
    P, found = given["initial_cov"], []
    for _ in range(num_steps):
        found.append(P @ C.T @ torch.linalg.inv(C @ P @ C.T + given["emission_cov"]))
        P = A @ (P - found[-1] @ C @ P) @ A.T + given["transition_cov"]
    return torch.stack(found)


def linear_network(system: LinearGaussianSSM, gates: Tensor, x: Tensor) -> Tensor:
    """z_{t|t-1}, t = 1..T, (B, T, D), of the network with these gates (T, D, M): h' = A (I - K C) h + A K x."""
    given = system.moments()
    A, C, h = given["transition_matrix"], given["emission_matrix"], given["initial_mean"].expand(len(x), -1)
    states = [h]
    for gate, x_t in zip(gates[:-1], x[:, :-1].unbind(1), strict=True):
        recurrent, input_ = A - A @ gate @ C, A @ gate
        h = h @ recurrent.T + x_t @ input_.T
        states.append(h)
    return torch.stack(states, 1)


def steady_levels(dim: int, seed: int, started: float) -> tuple[LinearGaussianSSM, Tensor]:
    """Random walks seen in noise, from `started` times their steady variance, and the gains (D,) of the steady state.

    p = (q + (q^2 + 4 q r)^{1/2}) / 2 solves p = p - p^2 / (p + r) + q, and k = p / (p + r).
    """
    with seeded(seed):
        q, r, m = torch.rand(dim).double() + 0.1, torch.rand(dim).double() + 0.1, torch.randn(dim).double()
    p, one = (q + (q.square() + 4 * q * r).sqrt()) / 2, torch.eye(dim).double()
    return LinearGaussianSSM(m, (started * p).diag(), one, q.diag(), one, r.diag()), p / (p + r)


def min_gru(gains: Tensor) -> LinearCell:
    """A minGRU whose gates are the numbers `gains` (D,) and whose candidate is its input."""
    cell = CELLS["min-gru"](len(gains), len(gains), 1).double()
    assert isinstance(cell, LinearCell)
    (layer,) = cell.layers
    assert isinstance(layer, MinGRU)
    zero = torch.zeros(len(gains), len(gains))
    layer.input.weight.copy_(torch.cat([zero, torch.eye(len(gains))]))
    layer.input.bias.copy_(torch.cat([torch.logit(gains), zero[0]]))
    return cell


class KalmanGate(Claim):
    """The mean of the Kalman filter is a linear RNN whose gate is the gain."""

    id = "kalman-gate"
    source = f"{PAPER}, Extended Kalman Filters for RNNs"
    statement = "the Kalman filter's mean is a linear RNN in x with gate K_t; for a steady random walk it is a minGRU"
    quotation = "z_{t+1|t} = A z_{t|t-1} + A K_t (y_t - C z_{t|t-1})"
    meaning = (
        "The filter keeps a share of its old mean and takes a share of the new observation. The shares are the gain's, "
        "which depends on the step and not on the data: that is a recurrent network without an activation, whose gate "
        "is computed in place of learned. For a random walk seen in noise the gain tends to a constant k, and "
        "m_t = (1 - k) m_{t-1} + k x_t is the minGRU whose gate is k and whose candidate is the observation."
    )
    hypotheses = "the system is linear and Gaussian; for the minGRU, a random walk in its steady state"
    routes = (
        "the engine's predicted means, against h' = A (I - K_t C) h + A K_t x_t in a loop, with gains of Riccati's "
        "equation; the engine's filtered means of random walks, against the cell min-gru by its scan"
    )
    control = "gates that are not the gains: the first one at all steps; random walks that begin at twice the variance"
    proof = (
        "Given x_{1:t-1}, z_t ~ N(z_{t|t-1}, P_t), and conditioning on x_t moves the mean by K_t (x_t - C z_{t|t-1}), "
        "K_t = P_t C' (C P_t C' + R)^{-1}. Through z_{t+1} = A z_t + w this is A (I - K_t C) z_{t|t-1} + A K_t x_t, "
        "which is affine in the old mean. P_{t+1} = A (I - K_t C) P_t A' + Q contains no x, so that neither does K_t. "
        "For A = C = 1 the filtered mean is m_t = (1 - K_t) m_{t-1} + K_t x_t, and P_1 = P with P = (1 - k) P + Q "
        "makes K_t = k for every t, which is (1 - s) h + s n with s = k and n = x_t."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return [("any", 1, 1), ("steady", 1, 1), ("any", 3, 2), ("any", 2, 1), ("steady", 3, 3), ("any", 2, 3)]

    @property
    @override
    def tolerance(self) -> float:
        """Means are of order one, inverses of covariances near the identity lose a factor of about ten."""
        return 10 * rounding(NUM_STEPS, width=6)

    @override
    def residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, sound=True)

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, sound=False)

    @torch.no_grad()
    def _distance(self, case: Case, seed: int, sound: bool) -> float:
        kind, dim, obs_dim = case
        if kind == "steady":
            system, gate = steady_levels(dim, seed, started=1.0 if sound else 2.0)
            x = system.sample(NUM_SEQUENCES, NUM_STEPS, seed=seed).x
            network = min_gru(gate).unroll(x.transpose(0, 1), system.moments()["initial_mean"])[1:].transpose(0, 1)
            return _largest_difference(kalman.filter(system, x).filtered_means, network)
        system = LinearGaussianSSM.random(dim, obs_dim, seed=seed).double()
        x = system.sample(NUM_SEQUENCES, NUM_STEPS, seed=seed).x
        gates = gains(system, NUM_STEPS)
        gates = gates if sound else gates[:1].expand_as(gates)
        return _largest_difference(kalman.filter(system, x).predicted_means, linear_network(system, gates, x))


def _largest_difference(one: Tensor, other: Tensor) -> float:
    return largest([float((one - other).abs().max()), 0.0 if one.shape == other.shape else math.inf])
