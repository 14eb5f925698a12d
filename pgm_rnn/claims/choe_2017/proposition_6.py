"""Proposition 6: a network that commutes with the belief update predicts what the hidden Markov model does.

    C.1  phi(alpha_1) = h_2                         C.2  phi(D_x V alpha) = f(phi(alpha), x)
    C.3  1' D_x V alpha / 1' alpha = g(phi(alpha))(x)

Three exact cases, alpha being the belief state and m the number of the HMM's states:

    normalisation   phi(alpha) = V alpha / 1' alpha                 k = m units
    log-odds        phi(alpha) = log (V alpha)_2 / (V alpha)_1      m = 2, k = 1: one unit is enough in their fig. 5
    lumping         phi(alpha) = S V alpha / 1' alpha, S sums blocks of three states that move and emit alike: m = 3 k

phi divides the scale out, which the prediction does not read: 1' alpha_t = P(x_{<=t}) tends to 0, and no hidden unit
that is bounded away from it could hold alpha itself. Our h_{t+1} has seen x_1..x_t, hence the V in phi.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.choe_2017.forward_algorithm import belief_states, linear_step, next_symbol_probs
from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.finite_chain import FiniteChain, random_rows
from pgm_rnn.claims.standard_errors import log_slope
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.models.belief_rnn import BeliefRNN

Kind = Literal["normalisation", "log-odds", "lumping"]
Case = tuple[Kind, int, int]
"""The kind of phi, the number of states that the network tracks, and the number of symbols."""

CASES: list[Case] = [
    ("normalisation", 2, 2),
    ("normalisation", 3, 2),
    ("normalisation", 4, 3),
    ("log-odds", 2, 2),
    ("log-odds", 2, 3),
    ("lumping", 2, 2),
    ("lumping", 2, 3),
    ("lumping", 3, 2),
]

BLOCK = 3
NUM_STEPS = 5


class Residuals(NamedTuple):
    """Deviations from conditions C.1-C.3, and of the predictions for whole sequences."""

    start: float
    update: float
    output: float
    prediction: float


class Pair(NamedTuple):
    """A hidden Markov model, a network, and phi from the belief states of the one to the hidden states of the other."""

    chain: FiniteChain
    rnn: BeliefRNN
    lumps: Tensor
    """S, (k, m)."""

    def phi(self, alpha: Tensor) -> Tensor:
        """The hidden state of belief states (batch, m)."""
        belief = (alpha @ self.chain.transition @ self.lumps.T) / alpha.sum(-1, keepdim=True)
        return belief if self.rnn.units == "probs" else (belief[:, 1:] / belief[:, :1]).log()

    @torch.no_grad()
    def residuals(self) -> Residuals:
        """C.1-C.3 at every belief state of every sequence, and the next symbol's law, relative."""
        chain, rnn, words = self.chain, self.rnn, all_sequences(self.chain.num_symbols, NUM_STEPS)
        symbols = torch.arange(chain.num_symbols)
        h = rnn.recurrence(rnn.initial_memory.expand(len(words), -1), None, words[:, 0])
        start, update, output, prediction = [], [], [], []
        for t, alpha in enumerate(belief_states(chain, words), start=1):
            image, probs = self.phi(alpha), next_symbol_probs(chain, alpha)
            start += [_distance(image, h)] if t == 1 else []
            output.append(_distance(self._probs(image, symbols) / probs, torch.ones_like(probs)))
            prediction.append(_distance(self._probs(h, symbols) / probs, torch.ones_like(probs)))
            for x in symbols:
                after = self.phi(linear_step(chain, alpha, x.expand(len(alpha))))
                update.append(_distance(after, rnn.recurrence(image, None, x.expand(len(image)))))
            if t < NUM_STEPS:
                h = rnn.recurrence(h, None, words[:, t])
        return Residuals(largest(start), largest(update), largest(output), largest(prediction))

    def _probs(self, h: Tensor, symbols: Tensor) -> Tensor:
        """The network's law of the next symbol, (batch, S)."""
        return self.rnn.emission(None, h[:, None]).log_prob(symbols).exp()


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def pair(case: Case, seed: int) -> Pair:
    """A random instance that satisfies C.1-C.3."""
    kind, k, _ = case
    small = small_chain(case, seed)
    rnn = BeliefRNN(small.hmm(), units="log-odds" if kind == "log-odds" else "probs")
    if kind != "lumping":
        return Pair(small, rnn, torch.eye(k, dtype=torch.float64))
    lumps = torch.eye(k, dtype=torch.float64).repeat_interleave(BLOCK, dim=1)
    return Pair(lumpable(small, seed), rnn, lumps)


def small_chain(case: Case, seed: int) -> FiniteChain:
    """The chain whose beliefs the network holds."""
    return FiniteChain.random(*case[1:], seed=seed)


def lumpable(small: FiniteChain, seed: int) -> FiniteChain:
    """Three states for each: they emit alike, and all go to a block with its probability, to its states at random."""
    generator = torch.Generator().manual_seed((seed + 1) % 2**63)
    k, m = small.num_states, BLOCK * small.num_states
    within = random_rows(m * k, BLOCK, generator).reshape(m, k * BLOCK)
    first = random_rows(k, BLOCK, generator).flatten()
    return FiniteChain(
        small.initial.repeat_interleave(BLOCK) * first,
        small.transition.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1) * within,
        small.emission.repeat_interleave(BLOCK, 0),
    )


def disturbed(instance: Pair, other: FiniteChain, epsilon: float) -> Pair:
    """Transition rows (1 - epsilon) old + epsilon of another chain's; the network stays as it is."""
    transition = (1 - epsilon) * instance.chain.transition + epsilon * other.transition
    return instance._replace(chain=instance.chain._replace(transition=transition))


def stranger(instance: Pair, seed: int) -> FiniteChain:
    """An unrelated chain of as many states, with the instance's emissions."""
    generator = torch.Generator().manual_seed((seed + 2) % 2**63)
    rows = random_rows(instance.chain.num_states, instance.chain.num_states, generator)
    return instance.chain._replace(transition=rows)


class Proposition6(Claim):
    """C.1-C.3 hold, and so do the predictions, for phi that normalises, takes log-odds or lumps."""

    id = "proposition-6"
    source = f"{PAPER}, Proposition 6"
    statement = "if phi satisfies C.1-C.3, the network h_t = f(h_{t-1}, x_t) predicts what the hidden Markov model does"
    quotation = "the two sequences yield the same calculations of conditional probabilities"
    meaning = (
        "A small network filters a large hidden Markov model exactly if a map phi compresses belief states, keeps "
        "what predictions need (C.3), and commutes with the update: compressing and then updating is updating and "
        "then compressing (C.2). The compressed belief state is the hidden state of the network."
    )
    hypotheses = "phi commutes with the belief update, starts right, and keeps what the prediction reads"
    routes = (
        "the linear recursion of belief states and phi, against the recurrence and the emission of BeliefRNN: C.1, C.2 "
        "and C.3 at every belief state of every sequence, and every prediction"
    )
    control = "the HMM's transition mixed with 5 % of another: phi no longer commutes"
    proof = (
        "h_1 = phi(alpha_1), by C.1. If h_t = phi(alpha_t), then h_{t+1} = f(h_t, x) = f(phi(alpha_t), x) = phi(D_x V "
        "alpha_t) = phi(alpha_{t+1}) by C.2. So h_t = phi(alpha_t) for all t, and the network's prediction g(h_t) = "
        "g(phi(alpha_t)) is the hidden Markov model's by C.3. Example: the states fall into blocks of equal "
        "emissions, and all states of a block have the same probability of moving to each block; phi sums the belief "
        "over each block, and these sums follow a recursion of their own."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return CASES

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=9) * 4**2  # log-odds: rare states' relative errors are not of order one

    @override
    def residual(self, case: Case, seed: int) -> float:
        return largest(pair(case, seed).residuals())

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        instance = pair(case, seed)
        residuals = disturbed(instance, stranger(instance, seed), 0.05).residuals()
        return min(residuals.update, residuals.prediction)

    @override
    def notes(self, seed: int) -> Sequence[str]:
        chain = pair(CASES[0], seed).chain
        alphas = belief_states(chain, all_sequences(2, 10))
        scales = ", ".join(f"{float(alphas[t - 1].sum(-1).max()):.1e}" for t in (1, 5, 10))
        return [f"1' alpha_t, which phi divides out, is at most {scales} at t = 1, 5, 10."]


class LumpingSlope(Claim):
    """Where a chain is nearly lumpable, the network nearly predicts: errors grow like epsilon."""

    id = "proposition-6-slope"
    source = f"{PAPER}, Proposition 6, C.2"
    statement = "for an HMM at distance epsilon from a lumpable one, C.2 and the predictions are off by O(epsilon)"
    quotation = (
        "the conditions in Proposition 6 could be significantly violated, resulting in large biases in prediction"
    )
    meaning = (
        "How wrong is a network that is too small? If the hidden Markov model is at distance epsilon from one that can "
        "be compressed, the errors in C.2 and in the predictions are proportional to epsilon."
    )
    hypotheses = "the transition leaves the lumpable one in a direction that does not keep the blocks"
    routes = (
        "the slope of the log of C.2's residual, and of the predictions' error, against log epsilon, and the number one"
    )
    control = "the same epsilon in a direction that keeps the blocks: only rounding errors remain, and the slope is 0"
    kind = "slope"
    unit = "slope"
    proof = (
        "Let the transition be V + epsilon E, with V lumpable. Both sides of C.2, phi(D_x (V + epsilon E) alpha) and "
        "f(phi(alpha), x), are smooth functions of epsilon, for they are quotients of polynomials with positive "
        "denominators, and they agree at epsilon = 0. So their difference is c epsilon + O(epsilon^2), and so is that "
        "of the predictions, compositions of T such steps: the slope of the logarithms is one. c = 0 only where E "
        "keeps the blocks; then the chain stays lumpable and the difference is zero for every epsilon."
    )

    epsilons = torch.logspace(-6, -4, 9, dtype=torch.float64)

    @override
    def cases(self) -> Sequence[Case]:
        return [case for case in CASES if case[0] == "lumping"] + [("lumping", 4, 2)]

    @property
    @override
    def tolerance(self) -> float:
        """The remainder: error = a epsilon (1 + b epsilon + ...) has slope 1 + O(b epsilon), b at most 100."""
        return 100 * float(self.epsilons[-1])

    @override
    def residual(self, case: Case, seed: int) -> float:
        instance = pair(case, seed)
        return self._distance(instance, stranger(instance, seed))

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        instance = pair(case, seed)
        return self._distance(instance, lumpable(small_chain(case, seed), seed + 3))

    def _distance(self, instance: Pair, other: FiniteChain) -> float:
        """The larger distance of the two slopes from one."""
        found = [disturbed(instance, other, float(epsilon)).residuals() for epsilon in self.epsilons]
        update = torch.tensor([residuals.update for residuals in found], dtype=torch.float64)
        prediction = torch.tensor([residuals.prediction for residuals in found], dtype=torch.float64)
        return largest(abs(log_slope(self.epsilons, errors) - 1) for errors in (update, prediction))
