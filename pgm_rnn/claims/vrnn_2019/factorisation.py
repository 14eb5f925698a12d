"""The joint density of a variational recurrent network, and what it sums to.

p(x_{1:T}, z_{1:T}) = prod_t p(x_t | z_{<=t}, x_{<t}) p(z_t | x_{<t}, z_{<t})          Chung et al. (2015), eq. (10)
"""

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding, smallest
from pgm_rnn.claims.tables import all_sequences
from pgm_rnn.claims.vrnn_2019 import PAPER
from pgm_rnn.claims.vrnn_2019.written_out import CELLS, HIDDEN_DIM, Terms, WrittenOut, paths, random_vrnn
from pgm_rnn.models.vrnn import VRNN
from pgm_rnn.sequence_model import Rendering

WIDTH = 4 * HIDDEN_DIM
"""Terms of the longest dot product of a step, those of a cell's two inputs and its memory among them."""

LARGEST_TERM = 64
"""Nats: grid points lie up to some ten standard deviations from a mean, and rounding errors are relative."""


def trace_log_density(vrnn: VRNN, x: Tensor, z: Tensor, rendering: Rendering) -> Tensor:
    """log p(x, z) of the Pyro program's trace at given states: (batch,), nats."""
    sites = {"z": z} if rendering == "fused" else {f"z_{t + 1}": z_t for t, z_t in enumerate(z.unbind(1))}
    with pyro.settings.context(module_local_params=True):
        trace: Any = poutine.trace(poutine.condition(vrnn.model, data=sites)).get_trace(x, rendering=rendering)
    trace.compute_log_prob()
    log_probs = [site["log_prob"] for site in trace.nodes.values() if site["type"] == "sample" and "log_prob" in site]
    return torch.stack([log_prob.expand(len(x)) for log_prob in log_probs]).sum(0)


def words_and_paths(net: WrittenOut, num_steps: int) -> tuple[Tensor, Tensor, float]:
    """Every binary sequence with every path of states on the grid, (2^T n^T, T, 1) each, and the paths' weight."""
    grid, gap = net.grid()
    states = paths(grid, num_steps)
    words = all_sequences(2, num_steps).double()[..., None]
    x = words.repeat_interleave(len(states), dim=0)
    return x, states.repeat(len(words), 1, 1), gap**num_steps


class VrnnFactorisation(Claim):
    """The program's density is the product formula, and what it makes a law of is all binary sequences."""

    id = "vrnn-factorisation"
    source = f"{PAPER}, sec. 3; Chung et al. (2015), eq. (10)"
    statement = "p(x, z) = prod_t p(x_t | z_{<=t}, x_{<t}) p(z_t | x_{<t}, z_{<t}), which sums to one"
    quotation = (
        "this hidden state has the capability to incorporate the information x_{<=t} and z_{<=t} which makes prior "
        "conditioning work"
    )
    meaning = (
        "At every step a VRNN draws z_t from a prior that knows the past and then x_t from a decoder that knows z_t "
        "and the past. The products of these laws are a law of observations and states."
    )
    hypotheses = "prior and decoder read the memory h_t, which has seen x_{<t} and z_{<t} and no more"
    routes = (
        "both renderings' traces of the Pyro program at given states, against the four networks written out around "
        "torch's cells; the first summed over all words and over z on a grid, against the number one"
    )
    control = "a decoder that reads h_{t+1}, which has seen x_t"
    proof = (
        "The chain rule in the order z_1, x_1, z_2, x_2, ... gives p(x, z) = prod_t p(z_t | x_{<t}, z_{<t}) p(x_t | "
        "z_{<=t}, x_{<t}). The memory h_t is a function of x_{<t} and z_{<t}, so the prior at h_t and the decoder at "
        "(z_t, h_t) are conditional laws of these kinds. Summed in reverse order, x_T, z_T, x_{T-1}, ..., each factor "
        "gives one. A decoder at h_{t+1} has read x_t: its factor is no law of x_t given the past, and the sum is not "
        "one."
    )

    num_steps = 4
    num_summed = 2

    @override
    def cases(self) -> Sequence[str]:
        return list(CELLS)

    @property
    @override
    def tolerance(self) -> float:
        return LARGEST_TERM * rounding(self.num_steps, WIDTH)

    @torch.no_grad()
    @override
    def residual(self, case: str, seed: int) -> float:
        vrnn, x, z = self._instance(case, seed)
        net = WrittenOut(vrnn)
        terms = net.terms(x, z)
        product = (terms.prior + terms.decoder).sum(1)
        found = [self._distance(vrnn, x, z, product, rendering) for rendering in ("fused", "unrolled")]
        words, states, weight = words_and_paths(net, self.num_summed)
        total = trace_log_density(vrnn, words, states, "fused").exp().sum() * weight
        return largest([*found, abs(float(total) - 1)])

    @torch.no_grad()
    @override
    def control_residual(self, case: str, seed: int) -> float:
        vrnn, x, z = self._instance(case, seed)
        terms = WrittenOut(vrnn).terms(x, z)
        return self._distance(vrnn, x, z, (terms.prior + terms.late_decoder).sum(1), "fused")

    def _instance(self, case: str, seed: int) -> tuple[VRNN, Tensor, Tensor]:
        vrnn = random_vrnn(case, seed)
        drawn = vrnn.sample(16, self.num_steps, seed=seed)
        assert drawn.z is not None
        return vrnn, drawn.x, drawn.z

    def _distance(self, vrnn: VRNN, x: Tensor, z: Tensor, product: Tensor, rendering: Rendering) -> float:
        return float((trace_log_density(vrnn, x, z, rendering) - product).abs().max())


class VrnnPast(Claim):
    """An erratum: the observation's factor conditions on what came before it."""

    id = "vrnn-past"
    source = f"{PAPER}, sec. 3"
    statement = (
        "the factor of x_t in P(x_{<=T}, z_{<=T}) is P(x_t | z_{<=t}, x_{<t}); printed: x_{<=t}, x_t itself given"
    )
    quotation = "P(x_{<=T}) = prod_t P(x_t | z_{<=t}, x_{<=t}) P(z_t | x_{<t}, z_{<t})"
    meaning = (
        "The factor of x_t may know the observations before it, not x_t itself. Writing <= in place of < turns a "
        "prediction into a copy."
    )
    hypotheses = "each factor is a normalised law, so that all of them sum to one over words and states"
    routes = "the product of the networks written out, summed over all words and over z on a grid, against one"
    control = "as printed: factors that know x_t, which are one, or a decoder at the h_{t+1} that has read x_t"
    kind = "erratum"
    proof = (
        "P(x_t | z_{<=t}, x_{<=t}) conditions x_t on itself, so it is one. What remains, prod_t P(z_t | x_{<t}, "
        "z_{<t}), integrates over z to one for every word, and summed over all K^T words to K^T. With x_{<t} in its "
        "place the product is the chain rule's, and sums to one."
    )
    erratum = "wrong"
    example = (
        "One step and two symbols: the printed factor is P(x_1 | z_1, x_1) = 1 for either symbol, and the two "
        "'probabilities' sum to 2."
    )

    num_steps = 2

    @override
    def cases(self) -> Sequence[str]:
        return list(CELLS)

    @property
    @override
    def tolerance(self) -> float:
        return LARGEST_TERM * rounding(self.num_steps, WIDTH)

    @override
    def residual(self, case: str, seed: int) -> float:
        terms, weight = self._terms(case, seed)
        return _excess(terms.prior + terms.decoder, weight)

    @override
    def control_residual(self, case: str, seed: int) -> float:
        terms, weight = self._terms(case, seed)
        return smallest([_excess(terms.prior, weight), _excess(terms.prior + terms.late_decoder, weight)])

    def _terms(self, case: str, seed: int) -> tuple[Terms, float]:
        net = WrittenOut(random_vrnn(case, seed))
        x, z, weight = words_and_paths(net, self.num_steps)
        return net.terms(x, z), weight


class VrnnMarginal(Claim):
    """An erratum: a law of x alone has the states integrated out."""

    id = "vrnn-marginal"
    source = f"{PAPER}, sec. 2 and 3"
    statement = "P(X) is the integral of P(X|z) P(z) over z, for steps too; printed: their product at a z left open"
    quotation = "P(X) = P(X|z)P(z)"
    meaning = (
        "The right side is the joint density of X and z and depends on z; the left side does not. The integral over z "
        "is missing, and it is what makes training hard."
    )
    hypotheses = "none beyond those of the model"
    routes = "the product of the networks written out, summed over all words, against one: integrated on a grid, or not"
    control = "as printed: the product at the state z_t = E(z_t | x_{<t}, z_{<t}) for the probability of x"
    kind = "erratum"
    proof = (
        "By the definition of conditional laws P(X | z) P(z) = P(X, z). The law of total probability sums z out: P(X) "
        "= int P(X | z) P(z) dz, and for a VRNN p(x) = int prod_t p(x_t | z_{<=t}, x_{<t}) p(z_t | x_{<t}, z_{<t}) "
        "dz. Summed over all words the integral gives one. The product at chosen states is a density in z, and its "
        "sum over words is another number."
    )
    erratum = "wrong"
    example = (
        "z ~ N(0, 1) and P(X = 1 | z) = 1/2 for every z. P(X = 1) = 1/2; the product at z = 0 is 0.5 * 0.399 = 0.199."
    )

    num_steps = 2

    @override
    def cases(self) -> Sequence[tuple[str, int]]:
        return [(cell, num_steps) for cell in CELLS for num_steps in (1, 2)]

    @property
    @override
    def tolerance(self) -> float:
        return LARGEST_TERM * rounding(self.num_steps, WIDTH)

    @override
    def residual(self, case: tuple[str, int], seed: int) -> float:
        net = WrittenOut(random_vrnn(case[0], seed))
        x, z, weight = words_and_paths(net, case[1])
        terms = net.terms(x, z)
        return _excess(terms.prior + terms.decoder, weight)

    @override
    def control_residual(self, case: tuple[str, int], seed: int) -> float:
        net = WrittenOut(random_vrnn(case[0], seed))
        words = all_sequences(2, case[1]).double()[..., None]
        h, states = net.h_1.expand(len(words), -1), []
        for x_t in words[..., 0].unbind(1):
            states.append(net.prior(h)[0])
            h = net.hidden(x_t, states[-1], h)
        terms = net.terms(words, torch.stack(states, dim=1)[..., None])
        return _excess(terms.prior + terms.decoder, weight=1.0)


def _excess(log_factors: Tensor, weight: float) -> float:
    """Distance of the weighted sum of the products' exponentials from one."""
    return abs(float(log_factors.sum(1).exp().sum()) * weight - 1)
