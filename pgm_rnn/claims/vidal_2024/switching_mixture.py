"""A linear system whose matrices switch: its law is a mixture with one normal component per path of regimes.

p(x_{1:T}) = sum over s_{1:T} of p(s_{1:T}) prod_t N(x_t; C m_t + d, C P_t C' + R)      m_t, P_t: a filter along s
gpb2, gpb1, imm: K normal laws in place of K^T, exact for T <= 2, 1 and 1
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from pgm_rnn.claims.claim import Claim, largest
from pgm_rnn.claims.regime_paths import RegimePaths, regime_paths
from pgm_rnn.claims.vidal_2024 import PAPER
from pgm_rnn.claims.vidal_2024.joint_normal import joint_rounding
from pgm_rnn.inference import mixture_kalman
from pgm_rnn.models.switching_linear import SwitchingLinearSSM

NUM_STEPS = 4
EXACT_UNTIL = {"gpb2": 2, "gpb1": 1, "imm": 1}
"""Number of steps for which the filters that keep one law per regime are exact."""
Case = tuple[int, int, int]
"""Regimes, entries of a state, entries of an observation."""


def log_marginal(paths: RegimePaths, x: Tensor) -> Tensor:
    """log p(x_{1:T}) of one sequence (T, M), ()."""
    return (paths.log_probs + paths.densities(x)).logsumexp(0)


def collapsed_distance(model: SwitchingLinearSSM, x: Tensor, method: str) -> float:
    """The largest difference of log p(x) and of the last step's filtered moments between `method` and the mixture."""
    paths = regime_paths(model, len(x))
    found = mixture_kalman.approximate(model, x[None], method=method)  # type: ignore[arg-type]
    exact = (log_marginal(paths, x), *paths.last(x, model.num_regimes))
    last = (found.filtered_probs[0, -1], found.filtered_means[0, -1], found.filtered_covs[0, -1])
    pairs = zip((found.log_marginal_likelihood[0], *last), exact, strict=True)
    return largest(float((one - other).abs().max()) for one, other in pairs)


class SwitchingMixture(Claim):
    """Kalman filters along every path, and collapsed filters while they are exact, beside stacked normal laws."""

    id = "switching-mixture"
    source = f"{PAPER}, RNNs vs LDSs, with matrices that switch"
    statement = "with K regimes, p(x_{1:T}) of a switching linear system is a mixture of K^T normal laws, one per path"
    quotation = "Distributions of z_t and y_t has closed-form due the Gaussian assumption"
    meaning = (
        "If a hidden chain chooses the matrices of a linear system, everything is normal once its path is known. The "
        "closed form remains, but it is a sum over K^T paths, and grows with every step. Filters that keep K normal "
        "laws are exact only for as long as there is nothing to merge: two steps for gpb2, one for gpb1 and imm."
    )
    hypotheses = "the regimes are a Markov chain that does not read the state, and every path keeps a law of its own"
    routes = (
        "log p(s, x) of every path by the engine's Kalman filter along it (RegimeModel), and log p(x) and moments by "
        "gpb2, gpb1 and imm for T <= 2, 1 and 1, against stacked normal laws conditioned with no recursion"
    )
    control = "one step more of gpb2, gpb1 and imm, which merge paths into one normal law"
    proof = (
        "Given s_{1:T} the system is linear with normal noise and matrices that depend on the step, so x_{1:T} is "
        "normal, and a Kalman filter finds its density as the product of N(x_t; C m_t + d, C P_t C' + R). Summing "
        "p(s) p(x | s) over the K^T paths gives the mixture. After the first step there is one component per regime, "
        "and after the second K per regime, (s_1, s_2): gpb2 updates all K^2 of them before it merges those of equal "
        "s_2, so its likelihood and moments of step 2 are exact. imm and gpb1 merge before the update of step 2. A "
        "merged law has the mixture's mean and covariance, but not its shape, and the next update sees the shape."
    )

    @override
    def cases(self) -> Sequence[Case]:
        return [(2, 1, 1), (3, 1, 1), (2, 2, 1), (3, 2, 2), (2, 3, 2)]

    @property
    @override
    def tolerance(self) -> float:
        return joint_rounding(NUM_STEPS, latent_dim=3, obs_dim=2)

    @torch.no_grad()
    @override
    def residual(self, case: Case, seed: int) -> float:
        model, x = self._instance(case, seed)
        paths = regime_paths(model, NUM_STEPS)
        repeated = x.expand(len(paths.regimes), -1, -1)
        along = mixture_kalman.RegimeModel(model).log_prob(repeated, paths.regimes)
        merged = [collapsed_distance(model, x[:last], method) for method, last in EXACT_UNTIL.items()]
        return largest([float((along - paths.log_probs - paths.densities(x)).abs().max()), *merged])

    @torch.no_grad()
    @override
    def control_residual(self, case: Case, seed: int) -> float:
        model, x = self._instance(case, seed)
        return min(collapsed_distance(model, x[: last + 1], method) for method, last in EXACT_UNTIL.items())

    def _instance(self, case: Case, seed: int) -> tuple[SwitchingLinearSSM, Tensor]:
        model = SwitchingLinearSSM.random(*case, seed=seed).double()
        return model, model.sample(1, NUM_STEPS, seed=seed).x[0]

    @torch.no_grad()
    @override
    def notes(self, seed: int) -> Sequence[str]:
        """The errors of the collapsed filters in log p(x) for some T."""
        model = SwitchingLinearSSM.random(2, 2, 1, seed=seed).double()
        x, found = model.sample(1, 8, seed=seed).x[0], []
        for num_steps in (2, 4, 8):
            exact = log_marginal(regime_paths(model, num_steps), x[:num_steps])
            errors = [
                f"{method} {float(self._collapsed(model, x[:num_steps], method) - exact):+.1e}"
                for method in EXACT_UNTIL
            ]
            found.append(f"T = {num_steps}, {2**num_steps} components, errors in log p(x): {', '.join(errors)}")
        return found

    def _collapsed(self, model: SwitchingLinearSSM, x: Tensor, method: str) -> Tensor:
        return mixture_kalman.approximate(model, x[None], method=method).log_marginal_likelihood[0]  # type: ignore[arg-type]
