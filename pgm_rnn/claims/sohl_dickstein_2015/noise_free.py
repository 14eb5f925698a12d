"""When noise on the hidden state costs likelihood, and when it does not: sec. 2.3.

    h_t = f(h_{t-1}, x_{t-1}) + sigma eps_t,   K(sigma) = E_eps[sum_t log p(x_t | h_t)]                       eq. (16)

For f linear and log p(x | h) concave in h, the sum is a concave function of (sigma eps), and its mean over eps and -eps
falls in sigma. For other f and p it need not: a mean over eps is at most its best eps*, a noise-free model with fixed
offsets sigma eps*_t, but the offsets that sigma -> 0 leaves are zero, and those may be worse than noise.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding, smallest
from pgm_rnn.claims.sohl_dickstein_2015 import PAPER
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM

Emission = Callable[[Tensor, Tensor], Tensor]
"""log p(x_t | output) of outputs (..., 2) and values of x_t (...)."""

SIGMAS = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)
NUM_STEPS = 4
HIDDEN = 2


class Network:
    """h_t = g(U h_{t-1} + w x_{t-1} + b) + sigma eps_t, output V h_t + c: equations only, no model of the package."""

    def __init__(self, activation: Callable[[Tensor], Tensor], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed % 2**63)
        shapes = ((HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN,), (HIDDEN,), (2, HIDDEN), (2,))
        draws = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        self.U, self.w, self.b, self.h_1, self.V, self.c = draws
        self.activation = activation
        self.x = (torch.rand(NUM_STEPS, generator=generator, dtype=torch.float64) < 0.5).double()

    def log_likelihoods(self, offsets: Tensor, emission: Emission) -> Tensor:
        """sum_t log p(x_t | h_t) of noise-free networks with offsets (n, T, D): (n,)."""
        h, total = self.h_1 + offsets[:, 0], torch.zeros(len(offsets), dtype=torch.float64)
        for t in range(NUM_STEPS):
            if t:
                h = self.activation(h @ self.U.T + self.w * self.x[t - 1] + self.b) + offsets[:, t]
            total = total + emission(h @ self.V.T + self.c, self.x[t])
        return total


def all_signs() -> Tensor:
    """Every eps of independent signs, the zero-centred law with the fewest values: (2^(T D), T, D)."""
    signs = list(product((-1.0, 1.0), repeat=NUM_STEPS * HIDDEN))
    return torch.tensor(signs, dtype=torch.float64).reshape(-1, NUM_STEPS, HIDDEN)


def bernoulli(output: Tensor, x: Tensor) -> Tensor:
    """One bit with logit output_1: concave."""
    return x * F.logsigmoid(output[..., 0]) + (1 - x) * F.logsigmoid(-output[..., 0])


def categorical(output: Tensor, x: Tensor) -> Tensor:
    """Two symbols with logits output: concave."""
    return output.log_softmax(-1)[..., int(x)]


def poisson(output: Tensor, x: Tensor) -> Tensor:
    """A count with rate exp(output_1): concave."""
    return x * output[..., 0] - output[..., 0].exp() - torch.lgamma(x + 1)


def gaussian(output: Tensor, x: Tensor) -> Tensor:
    """Normal around output_1: concave."""
    return -0.5 * (x - output[..., 0]) ** 2 - 0.5 * math.log(2 * math.pi)


def two_signs(output: Tensor, x: Tensor) -> Tensor:
    """|x| + 4 seen through a normal around |output_1|: two maxima, not concave."""
    return -0.5 * (x + 4 - output[..., 0].abs()) ** 2 - 0.5 * math.log(2 * math.pi)


CONCAVE: dict[str, Emission] = {
    "bernoulli": bernoulli,
    "categorical": categorical,
    "poisson": poisson,
    "gaussian": gaussian,
}


class NoiseFreeDynamics(Claim):
    """K falls in sigma: exactly for signs and for pairs of normal draws, and in closed form for Gaussian chains."""

    id = "noise-free-dynamics"
    source = f"{PAPER}, sec. 2.3, eq. (16)"
    statement = "for linear dynamics and an emission that is log-concave in h, K(sigma) decreases in sigma"
    quotation = "Often, noise-free dynamics is optimal w.r.t. K."
    meaning = (
        "When does noise in the hidden state only hurt? If the network is linear in h and each log p(x | h) is "
        "concave in h, more noise lowers the bound, and no noise is best."
    )
    hypotheses = "f is linear in h, log p(x | h) concave in h, and eps has the law of -eps"
    routes = (
        "K(sigma) enumerated over signs and averaged over pairs of common normal draws, each value at most that at the "
        "next smaller sigma; for a Gaussian chain against K(0) - sigma^2 / 2 sum_t tr R^-1 C S_t C'"
    )
    control = "an emission with two maxima in h: K rises with sigma"
    kind = "inequality"
    proof = (
        "With linear dynamics h^t = mu_t + sigma sum_s M_{ts} eps^s, so sum_t log p(x^t | h^t) = F(sigma eps) with F "
        "concave. Let K(sigma) = E F(sigma eps). As eps and -eps have the same law K is even, and as an average of "
        "concave functions of sigma it is concave. An even concave function is largest at 0 and does not rise for "
        "sigma > 0. For a Gaussian emission F is quadratic, and K(sigma) = K(0) - sigma^2 / 2 sum_t tr(R^{-1} C S_t "
        "C'), with S_t the covariance of h^t for sigma = 1."
    )

    @override
    def cases(self) -> Sequence[str]:
        return [*CONCAVE, "closed form"]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=4**NUM_STEPS)

    @override
    def residual(self, case: str, seed: int) -> float:
        if case == "closed form":
            return _closed_form_residual(seed)
        return largest(_rises(Network(_identity, seed), eps, CONCAVE[case]) for eps in self._noises(seed))

    @override
    def control_residual(self, case: str, seed: int) -> float:
        network = Network(_identity, seed)
        network.V, network.c = network.V.clone(), torch.zeros(2, dtype=torch.float64)
        network.U, network.h_1, network.b = 0.1 * network.U, 0.1 * network.h_1, 0.1 * network.b
        network.w = torch.zeros_like(network.w)
        return smallest(_rises(network, eps, two_signs) for eps in self._noises(seed))

    def _noises(self, seed: int) -> list[Tensor]:
        """All signs, and pairs of normal draws."""
        generator = torch.Generator().manual_seed((seed + 1) % 2**63)
        draws = torch.randn(200, NUM_STEPS, HIDDEN, generator=generator, dtype=torch.float64)
        return [all_signs(), torch.cat([draws, -draws])]


def _identity(x: Tensor) -> Tensor:
    return x


def _rises(network: Network, eps: Tensor, emission: Emission) -> float:
    """The largest rise of K from one sigma to the next, nats; relative to one plus |K|."""
    K = torch.stack([network.log_likelihoods(sigma * eps, emission).mean() for sigma in SIGMAS])
    return max(0.0, float((K.diff() / (1 + K[1:].abs())).max()))


@torch.no_grad()
def _closed_form_residual(seed: int) -> float:
    """Distance of K(0) - sigma^2 / 2 sum_t tr C S_t C', S_t the covariance of h_t / sigma, from K(sigma)."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    A, C = (torch.randn(HIDDEN, HIDDEN, generator=generator, dtype=torch.float64) for _ in range(2))
    x = torch.randn(1, NUM_STEPS, HIDDEN, generator=generator, dtype=torch.float64)
    A, one = 0.5 * A, torch.eye(HIDDEN, dtype=torch.float64)
    mean = torch.ones(HIDDEN, dtype=torch.float64)
    almost = LinearGaussianSSM(mean, 1e-18 * one, A, 1e-18 * one, C, one)
    S, cost = one, 0.0
    for t in range(NUM_STEPS):
        S = A @ S @ A.T + one if t else S
        cost += float(torch.trace(C @ S @ C.T))
    K = [float(almost.log_prob(x)) - sigma**2 / 2 * cost for sigma in SIGMAS]
    return largest(abs(a - b) for a, b in zip(K, _moments_bound(A, C, mean, x[0]), strict=True))


def _moments_bound(A: Tensor, C: Tensor, mean: Tensor, x: Tensor) -> list[float]:
    """E[sum_t log N(x_t; C h_t, 1)] over all signs of eps, whose moments are those of normal noise."""
    bounds = []
    for sigma in SIGMAS:
        h, total = mean + sigma * all_signs()[:, 0], torch.zeros(1, dtype=torch.float64)
        for t in range(NUM_STEPS):
            h = h @ A.T + sigma * all_signs()[:, t] if t else h
            error = x[t] - h @ C.T
            total = total - 0.5 * (error**2).sum(-1) - HIDDEN / 2 * math.log(2 * math.pi)
        bounds.append(float(total.mean()))
    return bounds


def chosen_signs(values: Tensor) -> Tensor:
    """Signs (T, D), each the one of larger mean over the signs that follow, from values in the order of `all_signs`."""
    signs = []
    for _ in range(NUM_STEPS * HIDDEN):
        halves = values.reshape(2, -1)
        better = int(halves.mean(1).argmax())
        signs.append(2.0 * better - 1.0)
        values = halves[better]
    return torch.tensor(signs, dtype=torch.float64).reshape(NUM_STEPS, HIDDEN)


@torch.no_grad()
def offset_log_likelihood(network: Network, offsets: Tensor) -> float:
    """log p of the network's bits by torch's cell, to whose state an offset (T, D) is added after each step."""
    cell = nn.RNNCell(1, HIDDEN, dtype=torch.float64)
    parts = (network.w[:, None], network.U, network.b, torch.zeros_like(network.b))
    for parameter, value in zip(cell.parameters(), parts, strict=True):
        parameter.copy_(value)
    h, total = (network.h_1 + offsets[0])[None], 0.0
    for t, x_t in enumerate(network.x):
        logit = F.linear(h, network.V[:1], network.c[:1])[0, 0]
        total -= float(F.binary_cross_entropy_with_logits(logit, x_t))
        if t + 1 < NUM_STEPS:
            h = cell(x_t.reshape(1, 1), h) + offsets[t + 1]
    return total


class NoiseCanHelp(Claim):
    """Random tanh networks on random bits: the best offsets are never worse than noise, no noise often is."""

    id = "noise-can-help"
    source = f"{PAPER}, sec. 2.3"
    statement = (
        "for any model there are fixed offsets eps* that are at least as good as noise: K(sigma) is at most the log "
        "likelihood of the noise-free network h_t = f(h_{t-1}, x_{t-1}) + sigma eps*_t"
    )
    quotation = "This contribution of the noise to h^t can trivially be minimized by letting sigma -> 0"
    meaning = (
        "The paper says that noise-free dynamics is often optimal, and argues that noise makes x^t harder to predict. "
        "As a rule it fails: noise can lead a network away from a bad path, and then K(sigma) > K(0). What always "
        "holds is weaker: some fixed displacement of the hidden states is at least as good as the noise."
    )
    hypotheses = "sigma is any scale and eps has any zero-centred law; the offsets need not be zero"
    routes = (
        "K(sigma) enumerated over all signs of eps, against torch's cell with fixed offsets, each chosen by "
        "the mean over those that follow; 300 networks"
    )
    control = "as printed, sigma -> 0, which leaves the offsets zero: how much better noise is, averaged over networks"
    kind = "erratum"
    proof = (
        "K(sigma) is the mean over eps of F(eps) = sum_t log p(x^t | h^t(eps)). Some values are at least the mean: "
        "choose eps*_1 with E[F | eps_1 = eps*_1] >= E F, then eps*_2 in the same way given eps*_1, and so on; at the "
        "end F(eps*) >= K(sigma). The network h^t = f(h^{t-1}, x^{t-1}) + sigma eps*_t has no noise. Letting sigma -> "
        "0 sets every offset to zero, which need not be a good choice."
    )
    erratum = "imprecise"
    example = (
        "One step, h = sigma eps, eps = -1 or 1 with probability 1/2, p(x = 1 | h) = 0.1 for h = 0 and 0.9 for |h| = "
        "1. For x = 1, K(0) = log 0.1 = -2.30 and K(1) = log 0.9 = -0.105; so is the value at the fixed offset eps* = "
        "1."
    )

    num_networks = 300

    @override
    def cases(self) -> Sequence[float]:
        return [0.3, 1.0]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=4**NUM_STEPS)

    @override
    def residual(self, case: float, seed: int) -> float:
        excesses = []
        for network, values, _ in self._networks(case, seed):
            offsets = case * chosen_signs(values)
            excesses.append(float(values.mean()) - offset_log_likelihood(network, offsets))
        return max(0.0, largest(excesses))

    @override
    def control_residual(self, case: float, seed: int) -> float:
        return sum(self._gains(case, seed)) / self.num_networks

    @override
    def notes(self, seed: int) -> Sequence[str]:
        return [
            f"With signs of scale {sigma} noise is better than none in {sum(gain > 0 for gain in gains)} of "
            f"{self.num_networks} random networks with random bits."
            for sigma in self.cases()
            for gains in [self._gains(sigma, seed)]
        ]

    def _gains(self, sigma: float, seed: int) -> list[float]:
        return [max(0.0, float(values.mean() - still)) for _, values, still in self._networks(sigma, seed)]

    def _networks(self, sigma: float, seed: int) -> list[tuple[Network, Tensor, Tensor]]:
        """Networks with their likelihoods at every eps and at none."""
        eps = all_signs()
        found = []
        for number in range(self.num_networks):
            network = Network(torch.tanh, 1000 * seed + number)
            still = network.log_likelihoods(torch.zeros_like(eps[:1]), bernoulli)[0]
            found.append((network, network.log_likelihoods(sigma * eps, bernoulli), still))
        return found
