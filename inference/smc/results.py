"""The results of a particle filter."""

from typing import NamedTuple

from torch import Tensor

from pgm_rnn.results import shown


class History(NamedTuple):
    """The particles of every step.

    Attributes:
        z: (T, N, B, *latent).
        log_weights: log W_t, (T, N, B), nats.
        ancestors: index of each particle's ancestor in the step before, (T, N, B).
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "z", "log_weights")

    z: Tensor
    log_weights: Tensor
    ancestors: Tensor


class Filtered(NamedTuple):
    """Result of `filter`.

    Attributes:
        log_marginal_likelihood: log of an unbiased estimate of p(x_{1:T}), (B,), nats.
        log_normalizers: its terms, estimates of log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding.
        particles: z at each sequence's end, (N, B, *latent).
        log_weights: unnormalised, (N, B), nats: their logsumexp is `log_marginal_likelihood`.
        ess: effective sample size after each step, (B, T).
        resampled: whether a step began with resampling, (B, T).
        means: weighted means of the functions that were asked for, by name, (B, T, ...).
        history: the particles of all steps if they were kept, else None.
        memory: h at each sequence's end, (N, B, dim), or None.
    """

    def __repr__(self) -> str:
        """The main numbers."""
        return shown(self, "log_marginal_likelihood", "particles", "means")

    log_marginal_likelihood: Tensor
    log_normalizers: Tensor
    particles: Tensor
    log_weights: Tensor
    ess: Tensor
    resampled: Tensor
    means: dict[str, Tensor]
    history: History | None
    memory: Tensor | None = None

    @property
    def ancestors(self) -> Tensor:
        """Index of each particle's ancestor in the step before, (T, N, B).

        Raises:
            ValueError: the history was not kept.
        """
        if self.history is None:
            raise ValueError("expected a filter that keeps its history, got one that does not; use keep='all'")
        return self.history.ancestors
