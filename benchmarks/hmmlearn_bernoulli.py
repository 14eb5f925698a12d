"""An HMM of independent bits for hmmlearn, which has none: its C++ recursion and EM, and numpy for the emission."""

import numpy as np
from hmmlearn.base import BaseHMM
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


class BernoulliHMM(BaseHMM):
    """p(x_t | z_t = k) = prod_d probs[k, d]^x_d (1 - probs[k, d])^(1 - x_d), in float64.

    The likelihoods are one matrix product, less each step's largest, so that hmmlearn's scaled recursion, its faster
    one, does not underflow; they are added to the log likelihood again.
    """

    def __init__(self, startprob: Doubles, transmat: Doubles, probs: Doubles, num_iterations: int) -> None:
        super().__init__(
            len(startprob), n_iter=num_iterations, tol=-np.inf, params="ste", init_params="", implementation="scaling"
        )
        self.startprob_, self.transmat_, self.probs_ = startprob, transmat, probs

    def _check(self) -> None:
        super()._check()
        self.n_features = self.probs_.shape[1]

    def _get_n_fit_scalars_per_param(self) -> dict[str, int]:
        states = self.n_components
        return {"s": states - 1, "t": states * (states - 1), "e": self.probs_.size}

    def _compute_likelihood(self, X: Doubles) -> Doubles:
        log_prob = X @ (np.log(self.probs_) - np.log1p(-self.probs_)).T + np.log1p(-self.probs_).sum(-1)
        largest = log_prob.max(-1, keepdims=True)
        self._shift = float(largest.sum())
        return np.exp(log_prob - largest)

    def _fit_scaling(self, X: Doubles) -> tuple[Doubles, ...]:
        likelihood, log_prob, *lattices = super()._fit_scaling(X)
        return likelihood, log_prob + self._shift, *lattices

    def _initialize_sufficient_statistics(self) -> dict[str, Doubles]:
        return super()._initialize_sufficient_statistics() | {
            "states": np.zeros(self.n_components),
            "ones": np.zeros_like(self.probs_),
        }

    def _accumulate_sufficient_statistics(self, stats, X, lattice, posteriors, fwdlattice, bwdlattice):
        super()._accumulate_sufficient_statistics(stats, X, lattice, posteriors, fwdlattice, bwdlattice)
        stats["states"] += posteriors.sum(0)
        stats["ones"] += posteriors.T @ X

    def _do_mstep(self, stats: dict[str, Doubles]) -> None:
        super()._do_mstep(stats)
        limits = np.finfo(np.float64)
        self.probs_ = np.clip(stats["ones"] / stats["states"][:, None], limits.tiny, 1 - limits.eps)
