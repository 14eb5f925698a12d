"""The bound with L samples of the inference model: app. A without its last step.

    B_L = E_q[log 1/L sum_l w_l],   w_l = prod_t p(x_t | h_l^t) for q = p(H | X's past),   E[1/L sum_l w_l] = p(X)
    B_1 = K <= B_2 <= ... <= log p(X)

Burda, Grosse & Salakhutdinov (2016) name it; it is eq. (26) with the logarithm inside, whole trajectories weighed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.finite_chain import FiniteChain
from pgm_rnn.claims.sohl_dickstein_2015 import PAPER
from pgm_rnn.claims.standard_errors import MANY, z_score
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.inference import smc

NUM_STEPS = 3
NUM_RUNS = 4000
LONGEST = 4


def enumerated_bounds(chain: FiniteChain, x: Tensor) -> list[float]:
    """B_1, ..., B_4 of one sequence x (1, T) of a chain of two states, over all tuples of its 2^T paths."""
    prior = chain._replace(emission=torch.ones_like(chain.emission)).path_probs(x)[0]  # q(H)
    weights = chain.path_probs(x)[0] / prior
    bounds = []
    for num_samples in range(1, LONGEST + 1):
        tuples = all_sequences(len(prior), num_samples)
        bounds.append(float((prior[tuples].prod(-1) * weights[tuples].mean(-1).log()).sum()))
    return bounds


class ImportanceWeighted(Claim):
    """The filter that never resamples, many times over, beside the sums over all tuples of paths."""

    id = "importance-weighted"
    source = f"{PAPER}, app. A, eq. (26)"
    statement = "the mean of L weights is unbiased for p(X); its expected logarithm rises with L, up to log p(X)"
    quotation = "L = E_{q(X)} [log E_{q(H|X)} [1/L sum_l p(H_l, X) / q(H_l|X)]]"
    meaning = (
        "The mean of L importance weights is right on average for every L; its logarithm is too low on average, and "
        "less so the more samples there are. Weights belong to whole trajectories: averaged step by step, they "
        "estimate another law."
    )
    hypotheses = "samples of q are independent, and whole trajectories are weighed"
    routes = (
        "4000 runs of smc.log_marginal_likelihood with resample='never' and L = 1..4, against sums over all L-tuples "
        "of paths: means of estimates and their logarithms in standard errors; infinite if B_L falls or is above log p"
    )
    control = "weights averaged at each step, as eq. (27) has them: the mean over runs is not p(X)"
    kind = "statistical"
    unit = "standard errors"
    proof = (
        "E_q w = sum_H q(H | X) p(H, X) / q(H | X) = p(X), so the mean W_L of L weights has mean p(X), and E log W_L "
        "<= log p(X) by Jensen's inequality. W_{L+1} is the mean of the L + 1 averages that leave one weight out; by "
        "Jensen again log W_{L+1} >= the mean of their logarithms, each of which has the law of log W_L. So E log "
        "W_{L+1} >= E log W_L (Burda, Grosse & Salakhutdinov, 2016)."
    )

    @override
    def cases(self) -> Sequence[int]:
        return list(range(1, LONGEST + 1))

    @property
    @override
    def tolerance(self) -> float:
        return MANY

    @override
    def residual(self, case: int, seed: int) -> float:
        chain, x = self._instance(seed)
        bounds, exact = enumerated_bounds(chain, x), float(chain.probs(x).log())
        if any(b < a for a, b in zip(bounds, [*bounds[1:], exact], strict=True)):
            return float("inf")
        draws = smc.log_marginal_likelihood(
            chain.hmm(),
            x.expand(NUM_RUNS, -1),
            num_particles=case,
            resample="never",
            proposal="bootstrap",
            seed=seed,
        ).detach()
        return largest([z_score(draws, bounds[case - 1]), z_score(draws.exp(), chain.probs(x)[0])])

    @override
    def control_residual(self, case: int, seed: int) -> float:
        chain, x = self._instance(seed)
        generator = torch.Generator().manual_seed((seed + 1) % 2**63)
        prior = chain._replace(emission=torch.ones_like(chain.emission)).path_probs(x)[0]
        paths = all_sequences(chain.num_states, NUM_STEPS)
        number = max(case, 2)  # with one sample both are one
        drawn = torch.multinomial(prior, NUM_RUNS * number, replacement=True, generator=generator)
        z = paths[drawn].reshape(NUM_RUNS, number, NUM_STEPS)
        return z_score(chain.emission[z, x[0]].mean(1).prod(-1), chain.probs(x)[0])

    def _instance(self, seed: int) -> tuple[FiniteChain, Tensor]:
        """A chain that stays where it is, and a sequence of one symbol: trajectories differ in how well they fit."""
        return FiniteChain.sticky(seed), torch.zeros(1, NUM_STEPS, dtype=torch.int64)
