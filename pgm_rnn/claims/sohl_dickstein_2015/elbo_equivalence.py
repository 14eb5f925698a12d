"""The RNN's training objective is a variational bound, and the bound is tight: eq. (3)-(15).

K = E_q[log p(H, X) / q(H | X)] = sum_t log p(x^t | h^t) = log p(X)     for q(h^t | .) = p(h^t | .) = delta
"""

import math
from collections.abc import Sequence
from itertools import product

import pyro
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest, rounding, smallest
from pgm_rnn.claims.instances import NoisyMemory, random_rnn
from pgm_rnn.claims.sohl_dickstein_2015 import PAPER
from pgm_rnn.claims.torch_recursion import log_likelihood
from pgm_rnn.emissions import Bernoulli, Categorical, Emission, Gaussian, Poisson
from pgm_rnn.models.cells import CELLS
from pgm_rnn.models.rnn import RNN
from pgm_rnn.randomness import seeded
from pgm_rnn.sequence_model import Rendering

Case = tuple[str, Emission]

ELBOS = (Trace_ELBO, TraceMeanField_ELBO)
RENDERINGS: tuple[Rendering, ...] = ("unrolled", "fused")


def bound_residual(rnn: RNN, x: Tensor, lengths: Tensor, num_draws: int = 3) -> float:
    """Largest distance of Pyro's ELBO, q(H | X) = p(H | X), from log p(X) in every draw, and of their gradients.

    log p(X) and its gradient come from torch's cells. Values and gradients are compared relative to one plus the
    largest of each, so that a tolerance for one step and width serves sums over many sequences.
    """
    parameters = list(rnn.parameters())
    exact = log_likelihood(rnn, x, lengths).sum()
    gradients = torch.autograd.grad(exact, parameters)
    differences = []
    for elbo, rendering, _ in product(ELBOS, RENDERINGS, range(num_draws)):
        bound = -surrogate_loss(elbo(), rnn, x, lengths, rendering)
        differences.append(_relative_difference(bound, exact))
        found = torch.autograd.grad(bound, parameters)
        differences += [_relative_difference(a, b) for a, b in zip(found, gradients, strict=True)]
    return largest(differences)


def surrogate_loss(
    elbo: Trace_ELBO, rnn: RNN, x: Tensor, lengths: Tensor, rendering: Rendering, noise: float = 0.0
) -> Tensor:
    """One draw of the negative ELBO, with gradients: hidden states latent, model and guide with equal conditionals."""
    model, guide = rnn.model, rnn.guide
    if noise:
        model, guide = NoisyMemory(noise)(model), NoisyMemory(noise)(guide)
    with pyro.settings.context(module_local_params=True):
        return elbo.differentiable_loss(model, guide, x, lengths, rendering=rendering, memory="sampled")


@torch.no_grad()
def noise_gap(rnn: RNN, x: Tensor, lengths: Tensor, num_draws: int = 16, noise: float = 0.3) -> float:
    """log mean exp of draws of the ELBO minus their mean, with noisy hidden states: nats, the smaller rendering's.

    By Jensen it is positive unless all draws are equal; it estimates the gap between log p(X) and the bound K.
    """
    gaps = []
    for rendering in RENDERINGS:
        draws = [-surrogate_loss(Trace_ELBO(), rnn, x, lengths, rendering, noise) for _ in range(num_draws)]
        bounds = torch.stack(draws)
        gaps.append(float(bounds.logsumexp(0) - math.log(num_draws) - bounds.mean()))
    return smallest(gaps)


def _relative_difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max().detach() / (1 + b.abs().max().detach()))


class ElboEquivalence(Claim):
    """Pyro's ELBO equals the log likelihood, sample by sample, and so does the gradient of every parameter."""

    id = "elbo-equivalence"
    source = f"{PAPER}, eq. (3)-(15)"
    statement = "with q(H | X) = p(H | X) the variational bound K and its gradient are those of the log likelihood"
    quotation = (
        "the variational Bayesian training objective is identical to the standard log likelihood training objective"
    )
    meaning = (
        "Training a recurrent network by maximum likelihood is variational inference with a guide that already is the "
        "posterior. The bound is an equality for every sequence and every draw, and so are the gradients: SVI on the "
        "Pyro program takes exactly the steps of backpropagation through time."
    )
    hypotheses = "p(h^t | h^{t-1}, x^{t-1}) is a point mass, and the guide is the model's own conditional"
    routes = (
        "log likelihood and gradient by torch's cells, against every draw of Pyro's Trace_ELBO and TraceMeanField_ELBO "
        "and its gradient, in the unrolled and the fused rendering, on ragged sequences"
    )
    control = "model and guide with normal noise of scale 0.3 around f: Jensen's gap opens"
    proof = (
        "With q(H | X) = prod_t p(h^t | x^{t-1}, h^{t-1}) the conditionals of the hidden states cancel in eq. (12), "
        "which leaves K = E_q sum_t log p(x^t | h^t), eq. (14). If they are point masses, q has all of its mass on "
        "the path F(X), and the expectation is the value there, eq. (15): the log likelihood of eq. (5). Two "
        "functions of the parameters that are equal have equal gradients; a draw from a Delta is the function f "
        "itself, so that the gradient passes through it. In general log p(X) - K = KL(q(H | X) || p(H | X)), zero if "
        "and only if q is the posterior; noise of scale 0.3 makes it positive."
    )

    num_sequences = 5
    num_steps = 6
    hidden_dim = 4

    @override
    def cases(self) -> Sequence[Case]:
        return list(product(CELLS, (Bernoulli(), Bernoulli(3), Categorical(3), Gaussian(2), Poisson())))

    @property
    @override
    def tolerance(self) -> float:
        return rounding(self.num_steps, width=4 * self.hidden_dim)

    @override
    def residual(self, case: Case, seed: int) -> float:
        return bound_residual(*self._instance(case, seed))

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        with seeded(seed, stream=4):
            return noise_gap(*self._instance(case, seed))

    def _instance(self, case: Case, seed: int) -> tuple[RNN, Tensor, Tensor]:
        cell, emission = case
        rnn = random_rnn(cell, emission, num_layers=1 + seed % 2, seed=seed, hidden_dim=self.hidden_dim)
        x = rnn.sample(self.num_sequences, self.num_steps, seed=seed).x
        return rnn, x, torch.arange(self.num_steps - self.num_sequences, self.num_steps) + 1
