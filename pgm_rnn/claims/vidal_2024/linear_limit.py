"""A linear dynamical system whose states have little noise is nearly a linear recurrent network, and how nearly.

z_t = A z_{t-1} + B x_{t-1} + b + s L e_t,   x_t = C z_t + d + v_t,   e_t standard normal,  z_1 = m + s L_1 e_1
log p_s(x) = log p_0(x) + s^2 / 2 (tr H + |grad|^2) + O(s^4)      of l(d) = log p_0 with states displaced by d
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, rounding
from pgm_rnn.claims.instances import random_rnn
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.emissions import Gaussian
from pgm_rnn.inference import kalman
from pgm_rnn.models.cells import StackedCell
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded

NUM_SEQUENCES = 3
Case = tuple[int, int, int]
"""Entries of a state, entries of an observation, steps."""


class Instance(NamedTuple):
    """A linear network, factors of the noise of z_1 and of the later states, (D, D), and observations (B, T, M)."""

    rnn: RNN
    first: Tensor
    later: Tensor
    x: Tensor


def instance(case: Case, seed: int) -> Instance:
    """A random network whose scales do not read its state, random noise, and observations that the network draws.

    The noise is of the size at which the largest |eigenvalue| of H, which no observation enters, is one.
    """
    dim, obs_dim, num_steps = case
    rnn = random_rnn("elman-linear", Gaussian(obs_dim), 1, seed, hidden_dim=dim)
    with torch.no_grad():
        rnn.readout.weight[obs_dim:].zero_()
        layer_of(rnn).recurrent_map(0)[0].mul_(0.5)
    with seeded(seed, stream=2):
        first, later = (torch.randn(dim, dim, dtype=torch.float64).tril() + torch.eye(dim) for _ in range(2))
    given = Instance(rnn, first, later, rnn.sample(NUM_SEQUENCES, num_steps, seed=seed).x)
    size = torch.linalg.eigvalsh(derivatives(given, given.x[0])[1]).abs().max().sqrt()
    return given._replace(first=first / size, later=later / size)


def layer_of(rnn: RNN) -> StackedCell:
    """The network's cell, which is one layer."""
    assert isinstance(rnn.cell, StackedCell)
    return rnn.cell


def parameters(rnn: RNN) -> dict[str, Tensor]:
    """m, A, B, b, C, d and the scales of x of the system without noise in its states."""
    (A, c), (B, b), (loc, raw) = layer_of(rnn).recurrent_map(0), layer_of(rnn).input_map(0), rnn.readout.bias.chunk(2)
    assert rnn.initial_memory is not None
    return {
        "m": rnn.initial_memory,
        "A": A,
        "B": B,
        "b": b + c,
        "C": rnn.readout.weight[: len(loc)],
        "d": loc,
        "scale": F.softplus(raw),
    }


def by_kalman(given: Instance, scale: float, shift: float) -> Tensor:
    """log p_s(x) of the system, (B,), by the Kalman filter; the past observations and a constant are its inputs.

    `shift` is the mean of the noise in each direction, in standard deviations.
    """
    own, (_, first, later, x) = parameters(given.rnn), given
    moved = own["b"] + scale * shift * later.sum(-1)
    system = LinearGaussianSSM(
        own["m"] + scale * shift * first.sum(-1),
        scale**2 * first @ first.T,
        own["A"],
        scale**2 * later @ later.T,
        own["C"],
        own["scale"].square().diag(),
        torch.cat([own["B"], moved[:, None]], -1),
        F.pad(own["d"][:, None], (x.shape[-1], 0)),
    )
    before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    inputs = torch.cat([before, torch.ones_like(x[..., :1])], -1)
    return kalman.filter(system, x, inputs=inputs).log_marginal_likelihood


def displaced(given: Instance, x: Tensor, noise: Tensor) -> Tensor:
    """log p(x) of one sequence (T, M) by the network with `noise` (T, D) in its states, by a loop."""
    own = parameters(given.rnn)
    z, total = own["m"] + given.first @ noise[0], x.new_zeros(())
    for t, x_t in enumerate(x):
        if t > 0:
            z = own["A"] @ z + own["B"] @ x[t - 1] + own["b"] + given.later @ noise[t]
        residual = (x_t - own["C"] @ z - own["d"]) / own["scale"]
        total = total - (residual.square() / 2 + own["scale"].log() + 0.5 * torch.log(torch.tensor(2 * torch.pi))).sum()
    return total


def derivatives(given: Instance, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (T D,) and Hessian (T D, T D) of `displaced` at no noise, by automatic differentiation."""
    still = x.new_zeros(len(x), len(given.first))

    def value(noise: Tensor) -> Tensor:
        return displaced(given, x, noise.reshape(still.shape))

    gradient = torch.func.grad(value)
    return gradient(still.flatten()), torch.func.jacrev(gradient)(still.flatten())


class LinearRnnLimit(Claim):
    """Without noise in its states a linear dynamical system is the linear RNN, and the rate is that of Q."""

    id = "linear-rnn-limit"
    source = f"{PAPER}, RNNs vs LDSs"
    statement = "as Q = s^2 Q_1 -> 0, an LDS's log p(x) tends to that of the linear RNN, at the rate s^2 of Q"
    quotation = "No noise w_t, v_t when RNN used for prediction instead of generation."
    meaning = (
        "A linear state-space model and a linear recurrent network differ in the noise of the state alone. Where that "
        "noise is small, so is the difference of their log likelihoods: it is proportional to the noise's variance, "
        "with a factor that derivatives of the network give."
    )
    hypotheses = "f and g are linear, Q and the variance of z_1 are s^2 times fixed matrices, the noise is centred"
    routes = (
        "the Kalman filter at s = 1/64 and 1/128 minus RNN('elman-linear').log_prob, quotients with s^2 extrapolated, "
        "against (tr H + |grad|^2) / 2 by automatic differentiation of the network written as a loop"
    )
    control = "noise whose mean is one standard deviation from zero, whose effect is of first order"
    kind = "limit"
    unit = "limit"
    proof = (
        "Given the noise e the system is the network with its states displaced by s L_t e_t, so p_s(x) = E exp F(s e) "
        "with F(d) = log p_0(x) of the displaced network. F is quadratic, with gradient g and Hessian H, hence "
        "E exp F(s e) = exp F(0) det(I - s^2 H)^{-1/2} exp(s^2 g' (I - s^2 H)^{-1} g / 2), and log p_s = F(0) + "
        "s^2 (tr H + |g|^2) / 2 + O(s^4). At s = 0 every gain K_t = P C' (C P C' + R)^{-1} is zero, since P is: the "
        "filter no longer corrects its state, which is what the recurrent network does. A mean of e other than zero "
        "keeps the term s g' E e of first order."
    )

    scales = (1 / 64, 1 / 128)

    @override
    def cases(self) -> Sequence[Case]:
        return [(1, 1, 1), (1, 1, 4), (2, 1, 4), (2, 2, 3), (3, 2, 5)]

    @property
    @override
    def tolerance(self) -> float:
        """The next term, and the rounding of a log likelihood over s^2, relative to 1 + |c|, c = (tr H + |g|^2) / 2.

        Extrapolation leaves s^4 / 4 (tr H^3 / 6 + g' H^2 g / 2), whose parentheses are at most 2 T D / 3 + |c| where
        the eigenvalues of H are in [-1, 0]; T D is at most 15.
        """
        return 10 * self.scales[0] ** 4 / 4 + 2 * rounding(5, width=3) / self.scales[1] ** 2

    @override
    def residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, shift=0.0)

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        return self._distance(case, seed, shift=1.0)

    @torch.no_grad()
    def _distance(self, case: Case, seed: int, shift: float) -> float:
        given = instance(case, seed)
        limit = given.rnn.log_prob(given.x)
        coarse, fine = ((by_kalman(given, s, shift) - limit) / s**2 for s in self.scales)
        found = [derivatives(given, row) for row in given.x]
        expected = torch.stack([0.5 * (H.trace() + g.square().sum()) for g, H in found])
        return float(((4 * fine - coarse) / 3 - expected).abs().max() / (1 + expected.abs().max()))
