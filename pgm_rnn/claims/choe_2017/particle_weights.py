"""The limit of a particle filter, and its rate of convergence: sec. 2.3 and 4.2.

    right      w = p(x_t | H_t) P(H_t | H_{t-1}) / q   limit  mu_t(h) ~ sum_k mu_{t-1}(k) P(h | k) p(x_t | h)
    printed    w = P(H_t | x_t, H_{t-1}) / q           limit  nu_t(h) = sum_k nu_{t-1}(k) P(h | x_t, k)

The printed weight lacks the factor p(x_t | H_{t-1}), for P(H_t | x_t, H_{t-1}) p(x_t | H_{t-1}) = p(x_t | H_t) P(H_t |
H_{t-1}), and that factor differs from particle to particle: the second limit is not the posterior.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.choe_2017.textbook_filter import Weights, filtered_estimates, printed_weights, right_weights
from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.finite_chain import FiniteChain, random_rows
from pgm_rnn.claims.standard_errors import MANY, log_slope, slope_error, z_score
from pgm_rnn.inference import smc

X = [0, 1, 1, 0, 1]


def limit(chain: FiniteChain, x: list[int], weights: Weights) -> Tensor:
    """The law of the weighted particles of infinitely many, (K,): it does not depend on the proposal."""
    law, uniform = chain.initial * chain.emission[:, x[0]], torch.ones_like(chain.transition)
    for x_t in x[1:]:
        law = (law / law.sum()) @ weights(chain, uniform, x_t)
    return law / law.sum()


def posterior(chain: FiniteChain, x: list[int]) -> Tensor:
    """p(z_T | x_{1:T}) by the sum over all paths, (K,)."""
    joint = chain.joint_with_last(torch.tensor([x]))[0]
    return joint / joint.sum()


def contrasting_chain(num_states: int, seed: int) -> FiniteChain:
    """A random chain for which the two limits differ by 0.05 at least."""
    while True:
        chain = FiniteChain.random(num_states, 2, seed)
        if float((limit(chain, X, printed_weights) - posterior(chain, X)).abs().max()) > 0.05:
            return chain
        seed += 1_000_003


class ParticleWeights(Claim):
    """Filters with both weights, from a proposal of its own, beside the posterior and beside what they converge to."""

    id = "particle-weights"
    source = f"{PAPER}, sec. 2.3, W_t"
    statement = "the weight is p(x_t | H_t) P(H_t | H_{t-1}) / q; only with it the particles converge to the posterior"
    quotation = "Compute the weights W_t^(i) = P(H_t | x_t, H_{t-1}) / q(H_t | H_{t-1})."
    meaning = (
        "The weight of a particle proposed from q is the ratio of two probabilities: that of the particle and the new "
        "observation under the model, and that of the particle under q. The printed numerator has already been divided "
        "by p(x_t | H_{t-1}), so it forgets how well the particle's past predicted x_t."
    )
    hypotheses = "p(x_t | H_{t-1}) differs between states"
    routes = (
        "200 runs of 2000 particles with the right weight against the sum over all paths, and with the printed weight "
        "against the limit that its recursion has, in standard errors"
    )
    control = "as printed, P(H_t | x_t, H_{t-1}) / q, against the posterior"
    kind = "erratum"
    unit = "standard errors"
    proof = (
        "Importance sampling divides the target by the proposal. The targets p(h_{1:t}, x_{1:t}) grow by the factor "
        "p(h_t | h_{t-1}) p(x_t | h_t) from step to step, so the weight is w_t = p(x_t | h_t) p(h_t | h_{t-1}) / "
        "q(h_t | h_{t-1}). By Bayes' rule p(h_t | x_t, h_{t-1}) = p(x_t | h_t) p(h_t | h_{t-1}) / p(x_t | h_{t-1}), "
        "so the printed weight is w_t / p(x_t | h_{t-1}). Its particles tend to the law proportional to p(h_{1:t}, "
        "x_{1:t}) / prod_s p(x_s | h_{s-1}), s = 2..t, which is the posterior only where no p(x_s | h_{s-1}) depends "
        "on h_{s-1}."
    )
    erratum = "wrong"
    example = (
        "Two states that never change, P(H_1) = (1/2, 1/2), p(x = 1 | H) = (0.9, 0.1), proposals from the model. "
        "After x_1 = 1 the first state has probability 0.9, after x_2 = 1 it has 0.81 / 0.82 = 0.988. The printed "
        "weight of step 2 is 1 / 1 for every particle: 0.9 stays 0.9."
    )

    num_runs = 200
    num_particles = 2000

    @override
    def cases(self) -> Sequence[int]:
        return [2, 3, 4]

    @property
    @override
    def tolerance(self) -> float:
        return MANY

    @override
    def residual(self, case: int, seed: int) -> float:
        chain = contrasting_chain(case, seed)
        right = self._z_score(chain, right_weights, posterior(chain, X), seed)
        printed = self._z_score(chain, printed_weights, limit(chain, X, printed_weights), seed)
        return largest([right, printed])

    @override
    def control_residual(self, case: int, seed: int) -> float:
        chain = contrasting_chain(case, seed)
        return self._z_score(chain, printed_weights, posterior(chain, X), seed)

    def _z_score(self, chain: FiniteChain, weights: Weights, expected: Tensor, seed: int) -> float:
        """The bias of a ratio of averages, O(1 / N), is below a standard error, about (N runs)^(-1/2)."""
        q = self._proposal(chain, seed)
        found = filtered_estimates(chain, q, X, self.num_particles, self.num_runs, weights, seed)
        return z_score(found, expected)

    def _proposal(self, chain: FiniteChain, seed: int) -> Tensor:
        other = random_rows(chain.num_states, chain.num_states, torch.Generator().manual_seed(seed % 2**63))
        return 0.7 * chain.transition + 0.3 * other

    @override
    def notes(self, seed: int) -> Sequence[str]:
        chain = contrasting_chain(2, seed)
        right, printed = posterior(chain, X)[0], limit(chain, X, printed_weights)[0]
        return [
            f"p(z_5 = 0 | x) = {right:.3f} and the printed weight's limit is {printed:.3f}, two states, seed {seed}."
        ]


class ParticleFilterRate(Claim):
    """The root mean square error of filtered probabilities falls like N to the power -1/2."""

    id = "particle-filter-rate"
    source = f"{PAPER}, sec. 4.2"
    statement = (
        "as the number N of particles grows, the filter approaches the forward algorithm: its error is O(N^(-1/2))"
    )
    quotation = "with enough particles, a particle filter will perform identically to the forward algorithm"
    meaning = (
        "Four times as many particles halve the error of the filtered probabilities. With the wrong weight the error "
        "stays, however many particles there are."
    )
    hypotheses = "weights are right; the error is in p(z_T | x_{1:T}) after a fixed number of steps"
    routes = (
        "the slope of the log root mean square error of smc.filter over 300 runs against log N, N = 128..2048, and "
        "-1/2; the error is against the sum over all paths"
    )
    control = "the filter with the printed weight, whose error tends to a constant: the slope is 0"
    kind = "slope"
    unit = "slope"
    proof = (
        "Given the past, propagating and resampling N particles adds an error of mean zero and variance O(1/N) to the "
        "estimate of p(z_t | x_{1:t}); Bayes' rule passes earlier errors on with a bounded factor. After a fixed "
        "number of steps the mean square error is O(1/N), and sqrt(N) times the error tends to a normal law (Chopin, "
        "2004): the root mean square error has slope -1/2 in log N. With the printed weight the particles tend to "
        "another law, and the error to a constant: slope 0."
    )

    sizes = (128, 256, 512, 1024, 2048)
    num_runs = 300

    @override
    def cases(self) -> Sequence[int]:
        return [2, 3]

    @property
    @override
    def tolerance(self) -> float:
        """Six standard errors, and a remainder: the error is a N^(-1/2) (1 + c / N), c below 20 for five steps.

        Over four doublings the slope of log (1 + c / N) is at most 0.4 c / N for the smallest N.
        """
        return MANY * slope_error(self._sizes, self.num_runs) + 8 / self.sizes[0]

    @override
    def residual(self, case: int, seed: int) -> float:
        chain = FiniteChain.sticky(seed, case)
        x = torch.tensor([X]).expand(self.num_runs, -1)
        found = []
        for number, size in enumerate(self.sizes):
            result = smc.filter(
                chain.hmm(),
                x,
                num_particles=size,
                proposal="bootstrap",
                resampling="multinomial",
                ess_threshold=1.0,
                seed=10 * seed + number,
            )
            weights = result.log_weights.softmax(0)  # (N, runs)
            found.append((weights * (result.particles == 0)).sum(0))
        return self._distance(chain, found)

    @override
    def control_residual(self, case: int, seed: int) -> float:
        chain = FiniteChain.sticky(seed, case)
        found = [
            filtered_estimates(
                chain, chain.transition, X, size, self.num_runs // 5, printed_weights, 10 * seed + number
            )
            for number, size in enumerate(self.sizes)
        ]
        return self._distance(chain, [estimates[:, 0] for estimates in found])

    def _distance(self, chain: FiniteChain, found: list[Tensor]) -> float:
        errors = [(estimates - posterior(chain, X)[0]).square().mean().sqrt() for estimates in found]
        return abs(log_slope(self._sizes, torch.stack(errors)) + 0.5)

    @property
    def _sizes(self) -> Tensor:
        return torch.tensor(self.sizes, dtype=torch.float64)
