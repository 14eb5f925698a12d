"""Results of the functions of the engine."""

from typing import NamedTuple

from torch import Tensor

from pgm_rnn.inference.smc import History
from pgm_rnn.results import shown


class Filtered(NamedTuple):
    """Result of `filter`: that of a particle filter whose particles are regimes, and filtered moments of the states.

    Attributes:
        log_marginal_likelihood: log of an unbiased estimate of p(x_{1:T}), (B,), nats.
        log_normalizers: its terms, estimates of log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding.
        filtered_probs: p(s_t = k | x_{1:t}), (B, T, K), 0 in the padding like the moments.
        filtered_means: E(y_t | x_{1:t}), (B, T, D).
        filtered_covs: Cov(y_t | x_{1:t}), (B, T, D, D).
        particles: regimes s at each sequence's end, (N, B).
        means: moments of y at each sequence's end given the particle's regimes, (N, B, D).
        covs: (N, B, D, D).
        log_weights: unnormalised, (N, B), nats: their logsumexp is `log_marginal_likelihood`.
        ess: effective sample size after each step, (B, T).
        resampled: whether a step began with resampling, (B, T).
        history: the regimes of all steps if they were kept, else None.
    """

    log_marginal_likelihood: Tensor
    log_normalizers: Tensor
    filtered_probs: Tensor
    filtered_means: Tensor
    filtered_covs: Tensor
    particles: Tensor
    means: Tensor
    covs: Tensor
    log_weights: Tensor
    ess: Tensor
    resampled: Tensor
    history: History | None

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "filtered_probs", "filtered_means")


class Smoothed(NamedTuple):
    """Result of `smooth`; 0 in the padding.

    Attributes:
        paths: draws of z = (s, y) of equal weight, (num_paths, B, T, 1 + D).
        log_marginal_likelihood: the filter's estimate, (B,), nats.
        smoothed_probs: p(s_t = k | x_{1:T}), shares of the paths, (B, T, K).
        smoothed_means: E(y_t | x_{1:T}), the mean of the exact smoothers of the paths' regimes, (B, T, D).
        smoothed_covs: Cov(y_t | x_{1:T}), likewise, (B, T, D, D).
    """

    paths: Tensor
    log_marginal_likelihood: Tensor
    smoothed_probs: Tensor
    smoothed_means: Tensor
    smoothed_covs: Tensor

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "smoothed_probs", "smoothed_means")


class Collapsed(NamedTuple):
    """Result of `approximate`: one normal law per regime and step; 0 in the padding.

    Attributes:
        log_marginal_likelihood: an approximation of log p(x_{1:T}), (B,), nats; differentiable.
        log_normalizers: its terms, (B, T).
        filtered_probs: p(s_t = k | x_{1:t}), (B, T, K).
        filtered_means: E(y_t | x_{1:t}), (B, T, D).
        filtered_covs: Cov(y_t | x_{1:t}), (B, T, D, D).
        regime_means: E(y_t | s_t = k, x_{1:t}), (B, T, K, D).
        regime_covs: Cov(y_t | s_t = k, x_{1:t}), (B, T, K, D, D).
    """

    log_marginal_likelihood: Tensor
    log_normalizers: Tensor
    filtered_probs: Tensor
    filtered_means: Tensor
    filtered_covs: Tensor
    regime_means: Tensor
    regime_covs: Tensor

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "filtered_probs", "filtered_means")
