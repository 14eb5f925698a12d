"""With noisy hidden states the bound stays, and its gap is a divergence: eq. (12)-(14) and sec. 3.

    K = E_q[sum_t log p(x_t | h_t)] <= log p(X) = L,    L - K = KL(q(H | X) || p(H | X))

for q the generative conditionals p(h_t | h_{t-1}, x_{t-1}), of which a state-space model ignores x_{t-1}.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, rounding
from pgm_rnn.claims.finite_chain import FiniteChain, random_rows
from pgm_rnn.claims.sohl_dickstein_2015 import PAPER
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.models.linear_gaussian import LinearGaussianSSM

Case = tuple[str, int]
"""The kind of states, finitely many or Gaussian, and their number or dimension."""

NUM_STEPS = 4


class Terms(NamedTuple):
    """L, K and the divergence, each (batch,), nats."""

    log_likelihood: Tensor
    bound: Tensor
    divergence: Tensor

    def residual(self) -> float:
        """Distance of L - K from the divergence, and excess of K over L, relative to 1 + the largest divergence."""
        difference = float((self.log_likelihood - self.bound - self.divergence).abs().max())
        above = max(0.0, float((self.bound - self.log_likelihood).max()))
        return (difference + above) / (1 + float(self.divergence.abs().max()))


@torch.no_grad()
def finite_terms(chain: FiniteChain, q: FiniteChain, x: Tensor) -> Terms:
    """L by the model, K by marginals of q carried forward, the divergence by the table of all paths.

    Args:
        chain: the generative model.
        q: initial law and transitions of the inference model.
        x: symbols, (batch, T).
    """
    marginal, bound = q.initial, torch.zeros(len(x), dtype=torch.float64)
    for x_t in x.unbind(1):
        bound = bound + chain.emission.log().T[x_t] @ marginal
        marginal = marginal @ q.transition
    joint = chain.path_probs(x)
    posterior = joint / joint.sum(-1, keepdim=True)  # (batch, K^T)
    blind = FiniteChain(q.initial, q.transition, torch.ones_like(chain.emission))
    inference = blind.path_probs(x)
    divergence = (inference * (inference / posterior).log()).sum(-1)
    return Terms(chain.hmm().log_prob(x), bound, divergence)


class Gaussian(NamedTuple):
    """A linear-Gaussian chain z_1 ~ N(m, P), z_t = A z_{t-1} + N(0, Q), x_t = C z_t + N(0, R)."""

    m: Tensor
    P: Tensor
    A: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor

    @staticmethod
    def random(dim: int, seed: int) -> "Gaussian":
        """Matrices of order one, covariances away from zero, two observed entries."""
        generator = torch.Generator().manual_seed(seed % 2**63)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        def cov(size: int) -> Tensor:
            root = normal(size, size) / size
            return root @ root.T + 0.3 * torch.eye(size, dtype=torch.float64)

        return Gaussian(normal(dim), cov(dim), 0.6 * normal(dim, dim) / dim**0.5, cov(dim), normal(2, dim), cov(2))

    def states(self) -> tuple[Tensor, Tensor]:
        """Mean (T D,) and covariance (T D, T D) of all states, the sums of their noises' shares written out."""
        D = len(self.m)
        shares = torch.zeros(NUM_STEPS * D, NUM_STEPS * D, dtype=torch.float64)  # z = shares (noise_1, ..., noise_T)
        for t in range(NUM_STEPS):
            for s in range(t + 1):
                power = torch.linalg.matrix_power(self.A, t - s)
                shares[t * D : (t + 1) * D, s * D : (s + 1) * D] = power
        noise = torch.block_diag(self.P, *[self.Q] * (NUM_STEPS - 1))
        return shares[:, :D] @ self.m, shares @ noise @ shares.T

    def model(self) -> LinearGaussianSSM:
        """The model under test."""
        return LinearGaussianSSM(self.m, self.P, self.A, self.Q, self.C, self.R)


@torch.no_grad()
def gaussian_terms(chain: Gaussian, q: Gaussian, x: Tensor) -> Terms:
    """L by the model, K by the moments of q, the divergence by the joint normal law of all states; x (batch, T, M)."""
    (q_mean, q_cov), (mean, cov) = q.states(), chain.states()
    C = torch.block_diag(*[chain.C] * NUM_STEPS)
    R = torch.block_diag(*[chain.R] * NUM_STEPS)
    seen = x.flatten(1)
    law = torch.distributions.MultivariateNormal(C @ q_mean, R)
    bound = law.log_prob(seen) - 0.5 * torch.trace(torch.linalg.solve(R, C @ q_cov @ C.T))
    gain = torch.linalg.solve(C @ cov @ C.T + R, C @ cov).T
    post_mean, post_cov = mean + (seen - C @ mean) @ gain.T, cov - gain @ C @ cov
    ratio = torch.linalg.solve(post_cov, q_cov)
    error = post_mean - q_mean
    distance = (error * torch.linalg.solve(post_cov, error.T).T).sum(-1)
    divergence = 0.5 * (torch.trace(ratio) - len(mean) - torch.logdet(ratio) + distance)
    return Terms(chain.model().log_prob(x), bound, divergence)


class StochasticBound(Claim):
    """L, K and the divergence, for every sequence of a finite chain and for random ones of a Gaussian chain."""

    id = "stochastic-bound"
    source = f"{PAPER}, eq. (12)-(14)"
    statement = "with stochastic hidden states K <= L, and L - K = KL(q(H | X) || p(H | X))"
    quotation = (
        "the variational bound on the log likelihood in Equation 14 would continue to hold, but it would no longer be "
        "identical to the true log likelihood"
    )
    meaning = (
        "With noisy hidden states the same guide gives a bound below the likelihood. The gap is the divergence of the "
        "guide, which looks at the past alone, from the posterior, which looks at the future too."
    )
    hypotheses = "q(H | X) is the product of the generative conditionals, so that they cancel in eq. (13)"
    routes = (
        "L by the HMM's and the Kalman filter's likelihood, K by marginals carried forward, the divergence by Bayes' "
        "rule on the table of all paths or the joint normal law of all states"
    )
    control = "K of eq. (14) with an inference model of other transitions, which do not cancel"
    proof = (
        "For every H, log p(X) = log p(X, H) - log p(H | X). Add and subtract log q(H | X) and average over q: log "
        "p(X) = E_q log [p(X, H) / q(H | X)] + KL(q(H | X) || p(H | X)). With eq. (6) the first term is eq. (14). A "
        "divergence is never negative, and zero only where q is the posterior."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return [("finite", 2), ("finite", 3), ("finite", 4), ("gaussian", 1), ("gaussian", 2), ("gaussian", 3)]

    @property
    @override
    def tolerance(self) -> float:
        """Sums over 4^4 paths, or solutions with covariances whose condition is about a hundred."""
        return rounding(NUM_STEPS, width=4**NUM_STEPS)

    @override
    def residual(self, case: Case, seed: int) -> float:
        return self._terms(case, seed, same=True).residual()

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        return self._terms(case, seed, same=False).residual()

    def _terms(self, case: Case, seed: int, same: bool) -> Terms:
        kind, size = case
        generator = torch.Generator().manual_seed((seed + 1) % 2**63)
        if kind == "finite":
            chain = FiniteChain.random(size, 2, seed)
            q = chain if same else chain._replace(transition=random_rows(size, size, generator))
            return finite_terms(chain, q, all_sequences(2, NUM_STEPS))
        linear = Gaussian.random(size, seed)
        x = torch.randn(20, NUM_STEPS, 2, generator=generator, dtype=torch.float64)
        return gaussian_terms(linear, linear if same else linear._replace(A=0.5 * linear.A), x)

    @override
    def notes(self, seed: int) -> Sequence[str]:
        chain = FiniteChain.random(2, 2, seed)
        terms = finite_terms(chain, chain, all_sequences(2, NUM_STEPS))
        gap = (terms.log_likelihood.exp() * terms.divergence).sum() / math.log(2)
        return [f"The gap of a random chain of two states is {float(gap):.3f} bits on average over its own sequences."]
