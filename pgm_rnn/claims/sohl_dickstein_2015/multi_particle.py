"""Several particles: what eq. (17) bounds, and what it is.

    eq. (18)-(24)   p(X) = E_{q(H_1) .. q(H_L)}[1/L sum_l p(H_l, X) / q(H_l | X)]        for any q
    one trajectory  p(X) = 1/L sum_l prod_t p(x^t | h_l^t)                               L deterministic starts
    eq. (17)        K = sum_t log 1/L sum_l p(x^t | h_l^t)

Eq. (27) takes the logarithm of a mean of products for the sum over t of logarithms of means. K is the exact log
likelihood of another model, which draws the particle anew at every step, and bounds the first in neither direction. The
divergence between the two laws says on which data: E[K] <= E[log p] for X from the first, and >= for X from the second.
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.finite_chain import FiniteChain, random_rows
from pgm_rnn.claims.instances import random_rnn
from pgm_rnn.claims.sohl_dickstein_2015 import PAPER
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.claims.torch_recursion import step_log_probs
from pgm_rnn.emissions import Categorical
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.multi_particle_rnn import MultiParticleRNN

Case = tuple[str, int]
"""A cell and the number of particles."""

CASES: list[Case] = [*product(CELLS, (2,)), ("gru", 1), ("gru", 3), ("gru", 5)]

NUM_STEPS = 6
HIDDEN_DIM = 4


@torch.no_grad()
def particles_and_networks(case: Case, seed: int) -> tuple[MultiParticleRNN, Tensor]:
    """A model, and log p(x^t | h_l^t) of every sequence of three symbols by torch's cells, (L, 3^T, T).

    The cells are those of L recurrent networks that differ in where they start.
    """
    (cell, num_particles), words = case, all_sequences(3, NUM_STEPS)
    rnn = random_rnn(cell, Categorical(3), 1, seed, HIDDEN_DIM)
    model = MultiParticleRNN(num_particles, cell, emission=Categorical(3), hidden_dim=HIDDEN_DIM).double()
    model.load_state_dict(dict(rnn.state_dict()) | {"initial_states": model.initial_states}, strict=False)
    generator = torch.Generator().manual_seed(seed % 2**63)
    model.initial_states.copy_(torch.randn(model.initial_states.shape, generator=generator, dtype=torch.float64))
    steps = []
    for start in model.initial_states:
        assert rnn.initial_memory is not None
        rnn.initial_memory.copy_(start)
        steps.append(step_log_probs(rnn, words))
    return model, torch.stack(steps)


class MultiParticle(Claim):
    """The mixture of trajectories by the model and by L networks, and eq. (18)-(24) for any q on a finite chain."""

    id = "multi-particle"
    source = f"{PAPER}, app. A, eq. (18)-(24)"
    statement = "p(X) = 1/L sum_l prod_t p(x^t | h_l^t) for L starts, and eq. (18)-(24) hold for any q(H | X)"
    quotation = "these multiple samples can be averaged over in the variational Bayesian framework"
    meaning = (
        "A network with L learned starts is a mixture of L networks: one start is drawn for a whole sequence, and "
        "p(X) is the mean of the L likelihoods. The appendix's identities for L samples of any guide hold as printed "
        "up to eq. (24)."
    )
    hypotheses = "one particle is drawn for a whole trajectory; q is positive wherever p is"
    routes = (
        "MultiParticleRNN's likelihood against torch's cells started L times; the expectation in eq. (24) summed over "
        "all L-tuples of paths of a random chain and a random q, against the sum over single paths"
    )
    control = "the particle's index drawn anew at every step, as in eq. (17)"
    proof = (
        "Eq. (19) multiplies and divides by q(H_l | X). Eq. (20) and (21) multiply by the integrals of q over the "
        "other samples, each of which is one. Eq. (22) to (24) collect the factors of q and exchange sum and "
        "integral: p(X) = E_q [1/L sum_l w_l], w_l = p(H_l, X) / q(H_l | X), and each E_q w_l = sum_H p(H, X) = p(X) "
        "wherever q is positive. For L deterministic paths and a start drawn uniformly, summing the index out gives "
        "p(X) = 1/L sum_l prod_t p(x^t | h_l^t)."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return CASES

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=8**3)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        model, steps = particles_and_networks(case, seed)
        mixture = steps.sum(-1).logsumexp(0) - math.log(len(steps))
        by_model = model.log_prob(all_sequences(3, NUM_STEPS))
        return largest([float((by_model - mixture).abs().max()), self._eq_24(min(case[1], 3), seed)])

    @torch.no_grad()
    @override
    def control_residual(self, case: Case, seed: int) -> float:
        _, steps = particles_and_networks((case[0], max(case[1], 2)), seed)  # one particle has nothing to draw
        anew = (steps.logsumexp(0) - math.log(len(steps))).sum(-1)
        mixture = steps.sum(-1).logsumexp(0) - math.log(len(steps))
        return float((anew - mixture).abs().max())

    def _eq_24(self, num_particles: int, seed: int) -> float:
        """Relative difference of eq. (24)'s expectation, over all L-tuples of the 2^3 paths, from p(X)."""
        chain, x = FiniteChain.random(2, 2, seed), all_sequences(2, 3)
        joint = chain.path_probs(x)  # (8, 8): sequences, paths
        q = random_rows(len(x), joint.shape[1], torch.Generator().manual_seed((seed + 1) % 2**63))
        tuples = all_sequences(joint.shape[1], num_particles)  # (8^L, L)
        chance, ratios = q[:, tuples].prod(-1), (joint / q)[:, tuples].mean(-1)
        return float(((chance * ratios).sum(-1) / chain.probs(x) - 1).abs().max())


class MultiParticleBound(Claim):
    """Both laws sum to one, so neither bounds the other; Jensen's bound is below both."""

    id = "multi-particle-bound"
    source = f"{PAPER}, eq. (17) and (27)"
    statement = (
        "K of eq. (17) is the exact log likelihood of another model, whose particle is drawn anew at each step; "
        "1/L sum_l sum_t log p(x^t | h_l^t) is below both laws; on average over data from the mixture L >= K, and over "
        "data from the other model L <= K"
    )
    quotation = "L >= K = E_{q(X)} [E_{delta(H - F(X))} [sum_t log (1/L sum_l p(x^t | h_l^t))]]"
    meaning = (
        "Eq. (17) takes the logarithm of the particles' mean at every step and adds up. That is the exact log "
        "likelihood of a model that draws a particle anew at each step. It is no bound on the mixture of L networks, "
        "in which a particle is drawn once: for some sequences it is above, for others below."
    )
    hypotheses = "the particles differ"
    routes = (
        "MultiParticleRNN with average='step' and average_log_prob, against torch's cells started L times; sums over "
        "all sequences against one; Gibbs' inequality in both directions"
    )
    control = "as printed, log p(X) >= K for every X: by how much K exceeds log p(X), at most"
    kind = "erratum"
    proof = (
        "exp K(X) = prod_t 1/L sum_l p(x^t | h_l^t) sums to one over all X (sum x^T out first), so it is a normalised "
        "law, and so is p(X) = 1/L sum_l prod_t p(x^t | h_l^t). Two laws that differ cannot satisfy p(X) >= exp K(X) "
        "for every X, or the sums would differ. On average over data from p, E [log p - K] is a divergence and not "
        "negative; over data from exp K it is not positive. What Jensen's inequality does give is log p(X) >= 1/L "
        "sum_l sum_t log p(x^t | h_l^t)."
    )
    erratum = "wrong"
    example = (
        "Two particles, two steps, p(x^t = 1 | h_1^t) = (0.9, 0.1), p(x^t = 1 | h_2^t) = (0.1, 0.9). For X = (1, 1) "
        "the mixture has log p(X) = log 0.09 = -2.41, and K = 2 log 0.5 = -1.39 is above it."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return [case for case in CASES if case[1] > 1]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=3**NUM_STEPS)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        model, steps = particles_and_networks(case, seed)
        words = all_sequences(3, NUM_STEPS)
        anew = (steps.logsumexp(0) - math.log(len(steps))).sum(-1)
        mixture, jensen = model.log_prob(words), steps.sum(-1).mean(0)
        differences = [model.average_log_prob(words) - anew, anew.exp().sum() - 1, mixture.exp().sum() - 1]
        violations = [
            jensen - mixture,
            jensen - anew,
            -(mixture.exp() * (mixture - anew)).sum(),
            -(anew.exp() * (anew - mixture)).sum(),
        ]
        return largest([float(d.abs().max()) for d in differences] + [max(0.0, float(v.max())) for v in violations])

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        return float(self._excess(case, seed).max())

    @override
    def notes(self, seed: int) -> Sequence[str]:
        excess = torch.cat([self._excess(case, seed + number) for number, case in enumerate(self.cases())])
        return [f"K exceeds log p(X) for {int((excess > 0).sum())} of {len(excess)} sequences of {NUM_STEPS} symbols."]

    @torch.no_grad()
    def _excess(self, case: Case, seed: int) -> Tensor:
        """K - log p(X) of every sequence, by torch's cells."""
        _, steps = particles_and_networks(case, seed)
        anew = (steps.logsumexp(0) - math.log(len(steps))).sum(-1)
        return anew - steps.sum(-1).logsumexp(0) + math.log(len(steps))
