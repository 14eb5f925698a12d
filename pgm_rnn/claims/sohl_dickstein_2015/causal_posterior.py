"""Why the bound is tight: the posterior over hidden states factorises causally, sec. 3.

p(H | X) = prod_t p(h^t | x^{t-1}, h^{t-1})
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017.theorem_5 import BIT_CASES, Case, difference, instance
from pgm_rnn.claims.claim import Claim
from pgm_rnn.claims.hidden_chain import HiddenChain, reachable_chain, table_rounding
from pgm_rnn.claims.sohl_dickstein_2015 import PAPER
from pgm_rnn.claims.tables import Table
from pgm_rnn.models.hmm import HMM


class CausalPosterior(Claim):
    """Bayes' rule on the joint table gives the product of the model's own conditionals."""

    id = "causal-posterior"
    source = f"{PAPER}, sec. 3, eq. (8)"
    statement = "p(H | X) = prod_t p(h^t | x^{t-1}, h^{t-1}): no hidden state depends on later observations"
    quotation = "This structure stems from the deterministic dynamics of the RNN"
    meaning = (
        "In a model with noisy hidden states, later observations correct what one believes about earlier states: "
        "smoothing differs from filtering. In a recurrent network nothing is left to correct, and so the model that "
        "generates is also the one that infers."
    )
    hypotheses = "every p(h^t | h^{t-1}, x^{t-1}) is a point mass"
    routes = "Bayes' rule on the table of p(X, H), against the product of the kernels p(h^t | x^{t-1}, h^{t-1})"
    control = "a hidden Markov model, whose hidden states are noisy (its first one summed out)"
    proof = (
        "By Bayes' rule p(H | X) is proportional to prod_t p(h^t | h^{t-1}, x^{t-1}) p(x^t | h^t). If the first "
        "factors are point masses, their product is one for the path F(X) and zero for every other, and dividing by "
        "p(X) = prod_t p(x^t | F(X)^t) leaves that product: p(H | X) = prod_t p(h^t | x^{t-1}, h^{t-1}). In general "
        "p(h^t | h^{t-1}, X) is proportional to p(h^t | h^{t-1}, x^{t-1}) p(x^t, ..., x^T | h^t), and the last factor "
        "differs between values of h^t."
    )

    num_steps = 4

    @override
    def cases(self) -> Sequence[Case]:
        return BIT_CASES

    @property
    @override
    def tolerance(self) -> float:
        return table_rounding(self.num_steps)

    @override
    def residual(self, case: Case, seed: int) -> float:
        chain = reachable_chain(instance(case, seed), case[2], self.num_steps)
        return self._distance(chain)

    @torch.no_grad()
    @override
    def control_residual(self, case: Case, seed: int) -> float:
        hmm = HMM.random(num_states=2, num_symbols=2, seed=seed).double()
        start = hmm.initial_probs[:, None] * hmm.emission_probs  # p(z_1, x_1), (2, 2)
        first = start.sum(0, keepdim=True)  # p(x_1)
        arrival = ((start / first).T @ hmm.transition_probs)[None]  # p(z_2 | x_1), z_1 summed out: (1, 2, 2)
        move = hmm.transition_probs[:, None].expand(2, 2, 2)  # p(z_{t+1} | z_t), whatever x_t
        emissions = [first] + [hmm.emission_probs] * (self.num_steps - 1)
        return self._distance(HiddenChain(emissions, [arrival] + [move] * (self.num_steps - 2)))

    def _distance(self, chain: HiddenChain) -> float:
        joint = chain.joint(self.num_steps)
        return difference(_posterior(joint), _causal_product(chain, joint))


def _posterior(joint: Table) -> Tensor:
    """p(H | X) by Bayes' rule, with the joint table's axes."""
    observed = {name for name in joint.names if name.startswith("x")}
    return joint.probs / joint.marginal(observed)


def _causal_product(chain: HiddenChain, joint: Table) -> Tensor:
    """prod_t p(h^t | x^{t-1}, h^{t-1}) with the joint table's axes x_1, h_2, x_2, h_3, x_3, ..."""
    product = torch.ones_like(joint.probs)
    for number, kernel in enumerate(chain.kernels):
        axes = (0, 1) if number == 0 else (2 * number - 1, 2 * number, 2 * number + 1)
        factor = kernel[0] if number == 0 else kernel
        shape = [1] * joint.probs.dim()
        for axis, size in zip(axes, factor.shape, strict=True):
            shape[axis] = size
        product = product * factor.reshape(shape)
    return product
