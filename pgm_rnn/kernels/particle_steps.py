"""The weights of a particle filter whose states are anyone's: a compiled call per step for all that is not the model's.

    l_t^n = log W_{t-1}^n + log p(x_t | z_t^n) + log p(z_t^n | ...) / q(z_t^n | ...)
    log p(x_t | x_{1:t-1}) ~ log sum_n exp l_t^n

From the log ratios of a step follow weights, effective sample size, whether to resample, and the ancestors. Arrays are
allocated once per run. Results do not depend on the number of threads.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pgm_rnn.kernels import doors
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.resampling import SMALL, draw_ancestors, uniforms_shape
from pgm_rnn.kernels.threads import Repeated, run_compiled
from pgm_rnn.kernels.weights import least_exponent

COMPILED = ("systematic", "stratified")
"""Schemes whose ancestors are drawn by a compiled function; the others are those of `pgm_rnn.kernels.resampling`."""


class ParticleWeights:
    """Weights of N particles for each of B sequences, from step to step; steps are counted from 0.

    Args:
        num_particles: N.
        lengths: steps of each sequence, (B,), on the CPU.
        num_steps: T.
        dtype: of the weights.
        scheme: one of `pgm_rnn.kernels.resampling.SCHEMES`.
        threshold: resample where the effective sample size is at most this number.

    Raises:
        TypeError, ValueError: lengths that are not in 1..T.

    Attributes:
        log_normalizers: estimates of log p(x_t | x_{1:t-1}), (B, T), nats, 0 in the padding; -inf where all weights
            were zero, from where the filter goes on with equal ones.
        ess: effective sample size after each step, (B, T).
        resampled: whether a step began with resampling, (B, T).
        lost: the first step, from 1, that had no weights to go on with, and `particle_runs.NAN`, `INFINITE` or 0 for
            zeros, (B, 2).
    """

    def __init__(
        self, num_particles: int, lengths: Tensor, num_steps: int, dtype: torch.dtype, scheme: str, threshold: float
    ) -> None:
        batch, padded = len(lengths), -(-num_particles // LANES) * LANES
        self.lengths, self.scheme, self.threshold, self.num_particles = lengths, scheme, threshold, num_particles
        self._joint = torch.full((batch, padded), -torch.inf, dtype=dtype)
        doors.lengths(lengths, self._joint, batch, num_steps)
        self._weights = torch.zeros_like(self._joint)
        self._offset = torch.zeros(batch, 2, dtype=torch.float64)
        self.log_normalizers, self.ess = torch.zeros(2, batch, num_steps, dtype=dtype)
        self.resampled = torch.zeros(batch, num_steps, dtype=torch.bool)
        self.lost, found = torch.zeros(batch, 2, dtype=torch.int64), torch.zeros(2, dtype=torch.bool)
        self._places = torch.zeros(num_particles, batch, dtype=torch.int64)
        self._found = found.numpy()
        state = self._joint.view(-1), self._weights.view(-1), self._offset
        ancestors = torch.zeros(batch, padded + 1, dtype=torch.int32)
        results = self.log_normalizers, self.ess, self.resampled, self.lost
        self._weighed = *(value.numpy() for value in (*state, *results)), self._found
        self._drawn = tuple(value.numpy() for value in (*state[1:], self.ess, ancestors, self._places))
        # a weight of exp(least) and less counts as zero
        self._limits = lengths.numpy(), float(threshold), math.exp(least_exponent(dtype))
        self._weigh, self._draw = _for_size(batch, num_particles)

    def weigh(self, t: int, log_ratios: Tensor) -> bool:
        """Weights after step t from log p(x_t | z_t) p(z_t | ...) / q(z_t | ...), (N, B): False if one is lost.

        Raises:
            TypeError: an argument of another dtype.
            ValueError: another shape or device.
        """
        if log_ratios.shape != self._places.shape or log_ratios.dtype is not self._joint.dtype:
            doors.tensor("log_ratios", log_ratios, self._joint, *self._places.shape)
        self._weigh(t, log_ratios.detach().contiguous().numpy(), *self._limits, *self._weighed)
        return not self._found[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self._joint.dtype

    @property
    def uneven(self) -> bool:
        """Whether some sequence is to be resampled before the next step."""
        return bool(self._found[0])

    def places(self, t: int, uniforms: Tensor) -> Tensor:
        """Where the particles before step t come from: n' B + b for ancestor n' of sequence b, (N, B).

        The next call overwrites them. Uniforms, float64, have the shape `uniforms_shape`.

        Raises:
            TypeError: an argument of another dtype.
            ValueError: another shape or device.
        """
        doors.tensor("uniforms", uniforms, self._offset, *self.uniforms_shape)
        if self.scheme in COMPILED:
            lengths, threshold, _ = self._limits
            self._draw(t, uniforms.mT.contiguous().numpy(), lengths, threshold, *self._drawn)
            return self._places
        batch = len(self.lengths)
        chosen = (self.ess[:, t - 1] <= self.threshold) & (t < self.lengths)
        ancestors = draw_ancestors(self.weights, self.scheme, uniforms, chosen)
        return ancestors * batch + torch.arange(batch)

    @property
    def uniforms_shape(self) -> torch.Size:
        """Shape of the uniforms for `places`."""
        return uniforms_shape(self.scheme, self.num_particles, len(self.lengths))

    @property
    def weights(self) -> Tensor:
        """Weights scaled so that the largest is 1, (N, B); the next step overwrites them."""
        return self._weights[:, : self.num_particles].mT

    @property
    def log_weights(self) -> Tensor:
        """log W_t, (N, B), nats."""
        return self._joint[:, : self.num_particles].mT - self._offset[:, 0].to(self._joint.dtype)


def _for_size(batch: int, num_particles: int) -> list[Any]:
    """The two functions of a step; sequences run beside each other where that is worth waking other threads."""
    from pgm_rnn.kernels import particle_steps_compiled as compiled

    functions = compiled.weigh, compiled.draw
    if batch == 1 or batch * num_particles < SMALL:
        return [Repeated(function) for function in functions]
    return [partial(run_compiled, function) for function in functions]
