"""Remark 7: a network that is trained on an HMM's sequences finds its predictions without being told of phi.

    2 n KL(p || p_n)  tends to a chi-square law of at most d degrees of freedom         (Wilks' theorem)

p is the HMM's law, p_n the network's after n sequences, d the number of its parameters. The n sequences are counted,
and training sees each distinct one with its frequency, so that large n costs what small n does. Afterwards phi is
estimated: hidden states are regressed on polynomials of the belief's log-odds.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.choe_2017.forward_algorithm import belief_states, next_symbol_probs
from pgm_rnn.claims.claim import Claim, largest, smallest
from pgm_rnn.claims.finite_chain import FiniteChain
from pgm_rnn.claims.standard_errors import MANY
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.emissions import Categorical
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded

Case = tuple[str, int]
"""A cell and its number of hidden units."""

NUM_STEPS = 6
SAMPLES = (2000, 20_000)
ITERATIONS = 150
DEGREE = 5


def trained(case: Case, frequencies: Tensor, seed: int) -> RNN:
    """A network after maximum likelihood by L-BFGS on all sequences of two symbols with these frequencies, (2^T,)."""
    cell, hidden_dim = case
    with seeded(seed):
        rnn = RNN(cell, emission=Categorical(2), hidden_dim=hidden_dim).double()
    seen = frequencies > 0
    words, weights = all_sequences(2, NUM_STEPS)[seen], frequencies[seen]
    optimiser = torch.optim.LBFGS(
        rnn.parameters(), max_iter=ITERATIONS, history_size=30, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -(weights * rnn.log_prob(words)).sum()
        value.backward()
        return value

    optimiser.step(loss)
    return rnn


def sampled_frequencies(law: Tensor, num_samples: int, seed: int) -> Tensor:
    """Frequencies of n draws from a law over sequences, (2^T,)."""
    draws = torch.multinomial(law, num_samples, True, generator=torch.Generator().manual_seed(seed % 2**63))
    return torch.bincount(draws, minlength=len(law)).double() / num_samples


@torch.no_grad()
def divergence(law: Tensor, rnn: RNN) -> float:
    """KL(p || p_n) in nats per sequence; divided by T it is in nats per step."""
    return float((law * (law.log() - rnn.log_prob(all_sequences(2, NUM_STEPS)))).sum())


def excess(law: Tensor, rnn: RNN, num_samples: int) -> float:
    """By how many standard deviations 2 n KL exceeds the mean of a chi-square law of d degrees of freedom."""
    degrees = sum(parameter.numel() for parameter in rnn.parameters())
    return (2 * num_samples * divergence(law, rnn) - degrees) / math.sqrt(2 * degrees)


class Remark7(Claim):
    """The divergence of trained networks from the HMM's law, beside what n sequences cannot decide."""

    id = "remark-7"
    source = f"{PAPER}, Remark 7"
    statement = "phi need not be known: a network trained on n sequences has the HMM's predictions up to KL = O(1 / n)"
    quotation = "we do not need to find phi explicitly to construct the RNN"
    meaning = (
        "Training finds the compression by itself. If the class of networks contains the hidden Markov model's "
        "predictions, training on n sequences brings the network to within about d / 2n nats of them, where d is its "
        "number of parameters."
    )
    hypotheses = "the network's class comes close enough to a phi with C.1-C.3, and training finds the optimum"
    routes = (
        "the divergence of the trained RNN from the sum over all paths, for every sequence, against the chi-square law "
        "of 2 n KL with as many degrees of freedom as parameters, n = 2000 and 20000; in standard deviations"
    )
    control = "the same training on sequences of independent symbols, in which the past predicts nothing"
    kind = "statistical"
    unit = "standard errors"
    proof = (
        "If the class contains the law p at parameters theta*, the maximum likelihood estimate from n sequences is "
        "approximately N(theta*, (n I)^{-1}), with I the Fisher information of a sequence. To second order KL(p || "
        "p_theta) = 1/2 (theta - theta*)' I (theta - theta*), so 2 n KL tends to a chi-square law with d degrees of "
        "freedom (Wilks, 1938), and E KL = d / 2n + o(1/n). If the past says nothing about the next symbol, training "
        "learns only the marginal probabilities, and the divergence does not fall with n."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return [("elman", 2), ("gru", 2), ("elman", 4)]

    @property
    @override
    def tolerance(self) -> float:
        return MANY

    @override
    def residual(self, case: Case, seed: int) -> float:
        law = FiniteChain.sticky(seed).law(NUM_STEPS)
        return max(0.0, largest(self._excesses(law, law, case, seed)))

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        chain = FiniteChain.sticky(seed)
        one = chain.law(1)
        apart = one[all_sequences(2, NUM_STEPS)].prod(-1)
        return smallest(self._excesses(chain.law(NUM_STEPS), apart, case, seed))

    def _excesses(self, law: Tensor, drawn_from: Tensor, case: Case, seed: int) -> list[float]:
        return [excess(law, trained(case, sampled_frequencies(drawn_from, num, seed), seed), num) for num in SAMPLES]

    @override
    def notes(self, seed: int) -> Sequence[str]:
        chain, case = FiniteChain.sticky(seed), self.cases()[0]
        law, told = chain.law(NUM_STEPS), []
        for num in (200, *SAMPLES):
            rnn = trained(case, sampled_frequencies(law, num, seed), seed)
            told.append(f"{divergence(law, rnn) / NUM_STEPS:.1e} ({num})")
        start, update, output = estimated_residuals(chain, rnn)
        return [
            f"Advantage of the HMM's predictions in nats per step, by the number of sequences: {', '.join(told)}.",
            f"phi estimated as a polynomial of degree {DEGREE} of the log-odds: residuals C.1 {start:.1e} and C.2 "
            f"{update:.1e} of the hidden state's spread, C.3 {output:.1e} in probability.",
        ]


@torch.no_grad()
def estimated_residuals(chain: FiniteChain, rnn: RNN) -> tuple[float, float, float]:
    """Root mean squares of C.1, C.2 and C.3 for phi fitted by least squares to the hidden states of all sequences."""
    words = all_sequences(2, NUM_STEPS)
    assert rnn.initial_memory is not None
    alphas, h, states = belief_states(chain, words), rnn.initial_memory.expand(len(words), -1), []
    for x_t in words.unbind(1):
        h = rnn.recurrence(h, None, x_t)
        states.append(h)
    powers = [_powers(alpha) for alpha in alphas]
    images = torch.cat(powers) @ torch.linalg.lstsq(torch.cat(powers), torch.cat(states)).solution
    phi = list(images.split(len(words)))
    spread = torch.cat(states).std(0).norm()
    update = [phi[t + 1] - rnn.recurrence(phi[t], None, words[:, t + 1]) for t in range(NUM_STEPS - 1)]
    symbols = torch.arange(2)
    output = [
        rnn.emission(None, image[:, None]).log_prob(symbols).exp() - next_symbol_probs(chain, alpha)
        for image, alpha in zip(phi, alphas, strict=True)
    ]
    return (
        float((phi[0] - states[0]).square().sum(-1).mean().sqrt() / spread),
        float(torch.cat(update).square().sum(-1).mean().sqrt() / spread),
        float(torch.cat(output).square().mean().sqrt()),
    )


def _powers(alpha: Tensor) -> Tensor:
    """1, l, ..., l^5 of the log-odds l of two states, (batch, 6)."""
    log_odds = (alpha[:, 1] / alpha[:, 0]).log()
    return torch.stack([log_odds**power for power in range(DEGREE + 1)], -1)
