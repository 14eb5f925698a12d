"""The filter whose particles are regimes is unbiased, with resampling and from any proposal: sec. 2.3 and 3.3.

    E p_hat(x_{1:T}) = p(x_{1:T}),   E [p_hat P_hat(s_T = k)] = p(s_T = k, x_{1:T}),   likewise for y_T

A particle carries a Kalman filter, so the target is the mixture of K^T normal laws.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from pgm_rnn.claims.choe_2017 import PAPER
from pgm_rnn.claims.choe_2017.rao_blackwell import Instance, instance
from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.standard_errors import MANY, z_score
from pgm_rnn.inference import mixture_kalman
from pgm_rnn.models.switching_linear import SwitchingLinearSSM

Case = tuple[str, int]
"""Proposal, and number of regimes."""


def evenly_moving(model: SwitchingLinearSSM) -> SwitchingLinearSSM:
    """The same system with regimes that are drawn anew at each step, so that its weights lack p(s_t | s_{t-1}) / q."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.transition_logits.zero_()
    return other


class MixtureFilterUnbiased(Claim):
    """Means over runs of the unnormalised estimates, beside the sum over all paths."""

    id = "mixture-filter-unbiased"
    source = f"{PAPER}, sec. 2.3, for a switching linear system"
    statement = (
        "with a Kalman filter per particle, resampling and either proposal, the filter's estimates of p(x_{1:T}), "
        "p(s_T, x_{1:T}) and E(y_T; x_{1:T}) are unbiased for the mixture of K^T normal laws"
    )
    quotation = (
        "It approximates the target distribution P(H_1, ..., H_T | x_1, ..., x_T) in an online fashion using a set of "
        "M weighted samples"
    )
    meaning = (
        "Few particles suffice for an answer that is right on average: with three of them, the mean over many runs is "
        "the sum over all K^T paths. That holds for p_hat and for p_hat times a filtered probability or mean. It holds "
        "for any proposal, as long as the weight has it in its denominator."
    )
    hypotheses = "weights are those of the proposal, resampling keeps expected numbers, and estimates are unnormalised"
    routes = (
        "3000 runs of mixture_kalman.filter with three particles that are resampled at every step, against the sum "
        "over all paths of stacked normal laws, in standard errors"
    )
    control = "regimes that are proposed evenly while the weight leaves out p(s_t | s_{t-1}) / q(s_t)"
    kind = "statistical"
    unit = "standard errors"
    proof = (
        "With y summed out, the regimes are a chain whose weight v_t = p(s_t | s_{t-1}) p(x_t | s_{1:t}, x_{1:t-1}) / "
        "q(s_t) is a function of the path, which the particle carries as its Kalman filter. Given the particles of "
        "step t - 1, the mean weight of step t has the mean that the sum over s_t gives, and resampling keeps "
        "weighted means in expectation. Backwards from T, for any function f of the last particle, E[p_hat times the "
        "weighted mean of f] = sum_s p(s, x) f(s) (Del Moral, 2004). f = 1, the indicator of s_T = k and the Kalman "
        "mean of y_T give the three statements. A weight without p(s_t | s_{t-1}) / q(s_t) is that of another chain, "
        "whose moves are q: the same argument makes the estimates unbiased for that chain, and not for this one."
    )

    num_runs = 3_000
    num_particles = 3

    @override
    def cases(self) -> Sequence[Case]:
        return [(proposal, num_regimes) for proposal in ("optimal", "bootstrap") for num_regimes in (2, 3)]

    @property
    @override
    def tolerance(self) -> float:
        return MANY

    @override
    def residual(self, case: Case, seed: int) -> float:
        given = instance((case[1], 1, 1), seed)
        return self._z_score(given.model, given, case, seed)

    @override
    def control_residual(self, case: Case, seed: int) -> float:
        given = instance((case[1], 1, 1), seed)
        return self._z_score(evenly_moving(given.model), given, case, seed)

    @torch.no_grad()
    def _z_score(self, run: SwitchingLinearSSM, given: Instance, case: Case, seed: int) -> float:
        """Largest distance of means over runs of a filter for the model `run` from those that `given` says."""
        options: dict[str, Any] = {"proposal": case[0], "resampling": "multinomial", "ess_threshold": 1.0}
        many = given.x.expand(self.num_runs, -1, -1)
        found = mixture_kalman.filter(run, many, num_particles=self.num_particles, seed=seed, **options)
        ratio = (found.log_marginal_likelihood - given.log_marginal()).exp()[:, None]
        last = given.paths.last(given.x, case[1])
        scores = [z_score(ratio, 1.0), z_score(ratio * found.filtered_probs[:, -1], last.probs)]
        return largest([*scores, z_score(ratio * found.filtered_means[:, -1], last.mean)])
