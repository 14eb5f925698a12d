"""The state of a particle filter, before an observation and after it."""

from typing import NamedTuple

from torch import Tensor


class Proposed(NamedTuple):
    """Particles before an observation.

    Attributes:
        z: states z_t, (N, B, *latent).
        h: their memory h_t, (N, B, dim), or None.
        log_weights: log W_{t-1} p(z_t | ...) / q(z_t | ...), (N, B), nats.
        resampled: whether they were resampled before the move, (B,).
        ancestors: index of each particle's ancestor, (N, B); None if each is its own.
    """

    z: Tensor
    h: Tensor | None
    log_weights: Tensor
    resampled: Tensor
    ancestors: Tensor | None


class Particles(NamedTuple):
    """Particles after an observation.

    Attributes:
        z: states, (N, B, *latent).
        h: their memory, (N, B, dim), or None.
        log_weights: log W_t, (N, B), nats.
        weights: W_t scaled so that the largest is 1, (N, B), without gradient.
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
    """Result of one step.

    Attributes:
        particles: the particles after the observation.
        log_normalizer: estimate of log p(x_t | x_{1:t-1}), (B,), nats.
        resampled: whether the particles were resampled before the observation, (B,).
        ancestors: index of each particle's ancestor, (N, B); None if each is its own.
    """

    particles: Particles
    log_normalizer: Tensor
    resampled: Tensor
    ancestors: Tensor | None
