"""Theorem 5 and Remark 1: the graphical model with Delta hidden states has the RNN's law, given x_1.

P(X_{2:T} | X_1 = x_1) = prod_{t=1}^{T-1} g(h_t)(x_{t+1}),   h_t = f(h_{t-1}, x_t)
"""

from collections.abc import Sequence
from itertools import product

import pyro
import torch
from pyro import poutine
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.claim import Claim, largest, rounding, smallest
from pgm_rnn.claims.hidden_chain import HiddenChain, reachable_chain, sequences_of
from pgm_rnn.claims.instances import random_rnn
from pgm_rnn.claims.torch_recursion import log_likelihood
from pgm_rnn.emissions import Bernoulli, Categorical
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.rnn import RNN
from pgm_rnn.sequence_model import First, Rendering

Case = tuple[str, int, int]
"""A cell, its number of layers, and the number of symbols."""

CASES: list[Case] = list(product(CELLS, (1, 2), (2, 3)))

BIT_CASES: list[Case] = [case for case in CASES if case[2] == 2]

HIDDEN_DIM = 4

RENDERINGS: tuple[Rendering, ...] = ("unrolled", "fused")


def instance(case: Case, seed: int) -> RNN:
    """A random RNN over bits, as in the paper's text, or over symbols, its "general discrete" case."""
    cell, num_layers, num_symbols = case
    family = Bernoulli() if num_symbols == 2 else Categorical(num_symbols)
    return random_rnn(cell, family, num_layers, seed, HIDDEN_DIM)


def trace_log_probs(
    rnn: RNN,
    x: Tensor,
    lengths: Tensor | None = None,
    first: First = "condition",
    rendering: Rendering = "unrolled",
) -> Tensor:
    """log p(x, h) - log q(h) at the hidden states h that the guide draws, from the Pyro traces: (batch,), nats.

    All sites count, including the Delta sites: each must give its value density one, or the sum is infinite. With Delta
    distributions there is only one h to draw, and the result is the log likelihood.
    """
    options = {"rendering": rendering, "memory": "sampled", "first": first}
    with pyro.settings.context(module_local_params=True):
        guide_trace = poutine.trace(rnn.guide).get_trace(x, lengths, **options)
        trace = poutine.trace(poutine.replay(rnn.model, trace=guide_trace)).get_trace(x, lengths, **options)
    return _log_prob(trace, len(x)) - _log_prob(guide_trace, len(x))


def _log_prob(trace: poutine.Trace, batch: int) -> Tensor:
    trace.compute_log_prob()
    log_probs = [site["log_prob"] for site in trace.nodes.values() if "log_prob" in site]
    return torch.stack([log_prob.expand(batch) for log_prob in log_probs]).sum(0)


def difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference of two tensors' entries."""
    return float((a - b).abs().max())


class Theorem5(Claim):
    """The whole table of the conditional law, by the recursion, by the trace and by summing out the hidden states."""

    id = "theorem-5"
    source = f"{PAPER}, Theorem 5"
    statement = "M(G; f, g) with Delta hidden states induces the RNN's conditional law of x_2..x_T given x_1"
    quotation = (
        "induces the same conditional distribution of (X_2, ..., X_T) given X_1 as one induced by the corresponding RNN"
    )
    meaning = (
        "A recurrent network can be written as a graphical model whose hidden states are random variables, without "
        "changing one prediction, if each hidden state has all of its mass at the value that the network computes. "
        "Everything that is known about graphical models then applies to the network."
    )
    hypotheses = "every P(H_t | H_{t-1}, X_t) is a point mass at f(h_{t-1}, x_t)"
    routes = (
        "torch's cells in a loop, against the traces of both renderings of the Pyro program, against summing the "
        "reachable hidden states out by variable elimination and, for T <= 4, by TraceEnum_ELBO, both of which take "
        "any stochastic kernel"
    )
    control = "hidden states that with probability 0.05 are drawn uniformly instead"
    proof = (
        "Let h*_t be the network's hidden states for x_{<=t}. By induction P(H_t = . | x_{<=t}) is a point mass at "
        "h*_t. It is for t = 1, by definition. If it is for t - 1, a further observation x_t cannot move a point "
        "mass, and so P(H_t = h | x_{<=t}) = sum_{h'} P(h | h', x_t) P(h' | x_{<=t}) = 1[h = f(h*_{t-1}, x_t)], a "
        "point mass at h*_t. Hence P(x_{t+1} | x_{<=t}) = sum_h g(h)(x_{t+1}) P(H_t = h | x_{<=t}) = "
        "g(h*_t)(x_{t+1}), the network's prediction, and the product over t is its conditional law. With noise in H_t "
        "the sum keeps more than one term."
    )

    longest = 8
    longest_enumerated = 4

    @override
    def cases(self) -> Sequence[Case]:
        return CASES

    @property
    @override
    def tolerance(self) -> float:
        return rounding(self.longest, width=4 * HIDDEN_DIM)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        rnn = instance(case, seed)
        chain = reachable_chain(rnn, case[2], self.longest)
        differences = []
        for num_steps in range(2, self.longest + 1):
            x = sequences_of(rnn, case[2], num_steps)
            recursion = log_likelihood(rnn, x, condition=True)
            differences += [
                *(difference(trace_log_probs(rnn, x, rendering=rendering), recursion) for rendering in RENDERINGS),
                difference(chain.conditional_law(num_steps).log(), recursion),
            ]
            if num_steps <= self.longest_enumerated:
                differences.append(difference(chain.enumerated_log_likelihoods(x.long()), recursion))
        return largest(differences)

    @torch.no_grad()
    @override
    def control_residual(self, case: Case, seed: int) -> float:
        rnn = instance(case, seed)
        chain = reachable_chain(rnn, case[2], self.longest)
        return smallest(self._noise_effect(rnn, chain, case[2], num_steps) for num_steps in range(2, self.longest + 1))

    def _noise_effect(self, rnn: RNN, chain: HiddenChain, num_symbols: int, num_steps: int) -> float:
        x = sequences_of(rnn, num_symbols, num_steps)
        return difference(chain.noisy(0.05).conditional_law(num_steps).log(), log_likelihood(rnn, x, condition=True))


class Remark1(Claim):
    """The distributions that the RNN normalises: the one given x_1, and the joint one if x_1 has a distribution."""

    id = "remark-1"
    source = f"{PAPER}, Remark 1"
    statement = "the conditional law sums to one for each x_1; with a model of x_1 the joint law sums to one"
    quotation = "The RNN does not model the marginal distribution of X_1."
    meaning = (
        "A network that predicts the next symbol says nothing about the first one. Given x_1 its predictions multiply "
        "to a law of the rest; a law of whole sequences needs one more factor, p(x_1)."
    )
    hypotheses = "every emission is normalised; for the joint law, x_1 has an emission too"
    routes = "the trace of the Pyro program summed over all K^T sequences, against the number one"
    control = "the conditional law taken for a joint one: it sums to K"
    proof = (
        "Sum prod_t g(h_t)(x_{t+1}) over x_T first. No h_t, t < T, depends on x_T, so the last factor sums to one; "
        "then sum over x_{T-1}, and so on down to x_2. So the conditional law sums to one for each x_1, and the table "
        "over all x_{1:T} sums to K, the number of symbols. With an emission for x_1 the argument goes one step "
        "further, and the table sums to one."
    )

    num_steps = 6

    @override
    def cases(self) -> Sequence[Case]:
        return CASES

    @property
    @override
    def tolerance(self) -> float:
        return rounding(self.num_steps, width=4 * HIDDEN_DIM)

    @override
    def residual(self, case: Case, seed: int) -> float:
        conditional, joint = self._laws(case, seed)
        per_first = conditional.reshape(case[2], -1).sum(-1)
        return largest([difference(per_first, torch.ones(case[2])), abs(float(joint.sum()) - 1)])

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        conditional, _ = self._laws(case, seed)
        return abs(float(conditional.sum()) - 1)

    @torch.no_grad()
    def _laws(self, case: Case, seed: int) -> tuple[Tensor, Tensor]:
        rnn = instance(case, seed)
        x = sequences_of(rnn, case[2], self.num_steps)
        return trace_log_probs(rnn, x).exp(), trace_log_probs(rnn, x, first="model").exp()
