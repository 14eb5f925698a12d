"""Where a particle filter stands, before an observation and after it."""

from typing import NamedTuple

from torch import Tensor


class Proposed(NamedTuple):
    """Particles before an observation.

    Attributes:
        z: states z_t, (N, B, *latent).
        h: their memory h_t, (N, B, dim), or None.
        log_weights: log W_{t-1} p(z_t | ...) / q(z_t | ...), (N, B), nats.
        resampled: whether they were resampled on the way, (B,).
        ancestors: which particle each came from, (N, B); None for itself.
    """

    z: Tensor
    h: Tensor | None
    log_weights: Tensor
    resampled: Tensor
    ancestors: Tensor | None


class Particles(NamedTuple):
    """Where a filter stands after an observation.

    Attributes:
        z: states, (N, B, *latent).
        h: their memory, (N, B, dim), or None.
        log_weights: log W_t, (N, B), nats.
        weights: in proportion to W_t, the largest one, (N, B), without gradient.
        x: the observation, (B, *event).
        ess: effective sample size 1 / sum_n (W_t^n)^2, (B,).
    """

    z: Tensor
    h: Tensor | None
    log_weights: Tensor
    weights: Tensor
    x: Tensor
    ess: Tensor


class Step(NamedTuple):
    """What one observation did.

    Attributes:
        particles: after it.
        log_normalizer: estimate of log p(x_t | x_{1:t-1}), (B,), nats.
        resampled: whether the particles were resampled before it, (B,).
        ancestors: which particle each came from, (N, B); None where each came from itself.
    """

    particles: Particles
    log_normalizer: Tensor
    resampled: Tensor
    ancestors: Tensor | None
