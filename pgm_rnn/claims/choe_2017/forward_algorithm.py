"""The forward algorithm is linear in the belief state alpha_t(k) = P(H_t = k, X_{<=t} = x_{<=t}): sec. 3.2.

    alpha_1 = D_{x_1} P(H_1),   alpha_{t+1} = D_{x_{t+1}} V alpha_t,   V_ij = P(H_{t+1} = i | H_t = j)
    P(X_{t+1} = x | x_{<=t}) = 1' D_x V alpha_t / 1' alpha_t

The paper begins with alpha_0 = P(H_1) and applies the same step from t = 0 on, here and in the proof of Proposition 6:
one transition too many, unless P(H_1) is stationary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.claim import Claim, largest, rounding
from pgm_rnn.claims.finite_chain import FiniteChain
from pgm_rnn.claims.tables import all_sequences

Case = tuple[int, int]
"""Numbers of states and of symbols."""

CASES: list[Case] = [(1, 2), (2, 2), (3, 2), (4, 2), (2, 3), (3, 3), (3, 4), (5, 2)]

NUM_STEPS = 5


def linear_step(chain: FiniteChain, alpha: Tensor, x: Tensor) -> Tensor:
    """D_x V alpha for belief states (batch, K) and symbols (batch,): (batch, K)."""
    V = chain.transition.T
    return chain.emission.T[x] * (alpha @ V.T)


def belief_states(chain: FiniteChain, x: Tensor) -> list[Tensor]:
    """alpha_1, ..., alpha_T, each (batch, K), of symbols x (batch, T)."""
    return later_beliefs(chain, chain.emission.T[x[:, 0]] * chain.initial, x)


def later_beliefs(chain: FiniteChain, alpha_1: Tensor, x: Tensor) -> list[Tensor]:
    """alpha_1 and what the linear step makes of it."""
    alphas = [alpha_1]
    for t in range(1, x.shape[1]):
        alphas.append(linear_step(chain, alphas[-1], x[:, t]))
    return alphas


def next_symbol_probs(chain: FiniteChain, alpha: Tensor) -> Tensor:
    """1' D_x V alpha / 1' alpha for every symbol x: (batch, S)."""
    steps = [linear_step(chain, alpha, torch.full((len(alpha),), x)) for x in range(chain.num_symbols)]
    return torch.stack([step.sum(-1) for step in steps], -1) / alpha.sum(-1, keepdim=True)


def stationary_probs(transition: Tensor) -> Tensor:
    """The law pi = V pi, (K,), by least squares with the equation that it sums to one."""
    K = len(transition)
    equations = torch.cat([transition.T - torch.eye(K, dtype=transition.dtype), transition.new_ones(1, K)])
    return torch.linalg.lstsq(equations, torch.eye(K + 1, dtype=transition.dtype)[:, -1:]).solution[:, 0]


def distance_from_paths(chain: FiniteChain, x: Tensor, alphas: list[Tensor]) -> float:
    """Largest difference of alpha_t from the sum over paths, relative to the largest entry."""
    differences = []
    for t, alpha in enumerate(alphas, start=1):
        paths = chain.joint_with_last(x[:, :t])
        differences.append(float(((alpha - paths).abs() / paths.amax(-1, keepdim=True)).max()))
    return largest(differences)


class ForwardIsLinear(Claim):
    """Belief states and predictions by the linear recursion, by the sum over paths, and by the package's HMM."""

    id = "forward-is-linear"
    source = f"{PAPER}, sec. 3.2"
    statement = "alpha_{t+1} = D_x V alpha_t, and the next symbol's law is 1' D_x V alpha_t / 1' alpha_t"
    quotation = "update rules for belief states can be expressed by linear mappings"
    meaning = (
        "Filtering in a hidden Markov model is a linear recurrence in the vector of joint probabilities P(H_t = k, "
        "x_{<=t}): a recurrent network without nonlinearity, in which the input chooses the matrix. Only the "
        "prediction, a ratio, is not linear."
    )
    hypotheses = "a hidden Markov model, whose emissions and transitions do not depend on t"
    routes = "the linear recursion, against the sum over all paths of states, and against the HMM's log likelihood"
    control = "V with rows and columns exchanged"
    proof = (
        "alpha_{t+1}(k) = P(H_{t+1} = k, x_{<=t+1}) = sum_j P(H_t = j, x_{<=t}) P(H_{t+1} = k | H_t = j) P(x_{t+1} | "
        "H_{t+1} = k), because H_{t+1} is independent of X_{<=t} given H_t, and X_{t+1} of all before it given "
        "H_{t+1}. With V_kj = P(H_{t+1} = k | H_t = j) and D_x = diag P(x | H = k) this is D_x V alpha_t. Summed over "
        "k it is P(x_{<=t+1}) = 1' D_x V alpha_t; dividing by P(x_{<=t}) = 1' alpha_t gives the prediction."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return CASES[1:]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=5)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        chain, x = FiniteChain.random(*case, seed=seed), all_sequences(case[1], NUM_STEPS)
        alphas = belief_states(chain, x)
        log_probs = [chain.hmm().log_prob(x[:, :t]) for t in range(1, NUM_STEPS + 1)]
        differences = [distance_from_paths(chain, x, alphas)]
        for t in range(1, NUM_STEPS):
            predicted = next_symbol_probs(chain, alphas[t - 1]).gather(-1, x[:, t, None])[:, 0]
            by_paths = chain.probs(x[:, : t + 1]) / chain.probs(x[:, :t])
            by_model = log_probs[t] - log_probs[t - 1]
            differences += [float((predicted / by_paths - 1).abs().max())]
            differences += [float((predicted.log() - by_model).abs().max())]
        return largest(differences)

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        chain, x = FiniteChain.random(*case, seed=seed), all_sequences(case[1], NUM_STEPS)
        exchanged = chain._replace(transition=chain.transition.T)
        return distance_from_paths(chain, x, belief_states(exchanged, x))


class ForwardStart(Claim):
    """The first belief state has made no transition."""

    id = "forward-start"
    source = f"{PAPER}, sec. 3.2, alpha_0 and C.1"
    statement = (
        "the recursion starts at alpha_1 = D_{x_1} P(H_1); starting from alpha_0 = P(H_1) is right only if P(H_1) is "
        "stationary"
    )
    quotation = "the initial belief state alpha_0 := (P(H_1 = 1), ..., P(H_1 = m))"
    meaning = (
        "The printed start applies one transition too many: the law of the first state is propagated by one step "
        "before the first observation is used. It makes no difference only for a chain that starts in its stationary "
        "law."
    )
    hypotheses = "P(H_1) is the law of the state that emits x_1"
    routes = "the recursion from alpha_1, against the sum over all paths; from alpha_0 where P(H_1) is stationary"
    control = "as printed: alpha_0 = P(H_1), so that alpha_1 = D_{x_1} V P(H_1)"
    kind = "erratum"
    proof = (
        "By definition alpha_1(k) = P(H_1 = k) P(x_1 | H_1 = k), which is alpha_1 = D_{x_1} P(H_1). The printed start "
        "gives alpha_1 = D_{x_1} V P(H_1), and V P(H_1) is the law of H_2. Summed over x_1 the two are P(H_1) and V "
        "P(H_1), so they agree for every x_1 if and only if P(H_1) is stationary."
    )
    erratum = "wrong"
    example = (
        "P(H_1) = (1, 0), V exchanges the two states, P(x = 1 | H) = (0.9, 0.2). Then P(x_1 = 1) = 0.9; from the "
        "printed start it is 1' D_1 V (1, 0)' = 0.2."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return CASES[1:]

    @property
    @override
    def tolerance(self) -> float:
        return rounding(NUM_STEPS, width=5)

    @override
    def residual(self, case: Case, seed: int) -> float:
        chain, x = FiniteChain.random(*case, seed=seed), all_sequences(case[1], NUM_STEPS)
        stationary = chain._replace(initial=stationary_probs(chain.transition))
        return largest(
            [
                distance_from_paths(chain, x, belief_states(chain, x)),
                distance_from_paths(stationary, x, self._as_printed(stationary, x)),
            ]
        )

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        chain, x = FiniteChain.random(*case, seed=seed), all_sequences(case[1], NUM_STEPS)
        return distance_from_paths(chain, x, self._as_printed(chain, x))

    def _as_printed(self, chain: FiniteChain, x: Tensor) -> list[Tensor]:
        alpha_0 = chain.initial.expand(len(x), -1)
        return later_beliefs(chain, linear_step(chain, alpha_0, x[:, 0]), x)
