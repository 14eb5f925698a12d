"""All steps of a particle filter along the guide of a deep model, compiled as one function (`guides`).

Ancestors are drawn systematically as in `particle_runs`, from noise and uniforms that are given, so that results depend
on no number of threads. What the gradient of the draws reads is kept on the way: the states that a filter has drawn
need not be drawn again to differentiate them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import doors, positive
from pgm_rnn.kernels.gated import flat, run_rows
from pgm_rnn.kernels.hmm_lanes import LANES
from pgm_rnn.kernels.lineages import Lineage
from pgm_rnn.kernels.weights import least_exponent


class Particles(NamedTuple):
    """N particles of each of B sequences, n-th particle of sequence b in row b N + n.

    Attributes:
        noise: e_t, (B N, T, D).
        uniforms: one for each resampling, (B, T), float64.
        lengths: steps of each sequence, (B,), on the CPU.
        threshold: resample where the effective sample size is at most this number.
    """

    noise: Tensor
    uniforms: Tensor
    lengths: Tensor
    threshold: float

    @property
    def num(self) -> int:
        """N."""
        return len(self.noise) // len(self.lengths)

    def repeated(self, values: Tensor) -> Tensor:
        """Values of sequences (B, ...) for each of their rows."""
        return values.repeat_interleave(self.num, 0)

    def check(self, features: Tensor, dim: int) -> None:
        """Raise unless they fit features (B, T, F) of a guide and states of D entries.

        Raises:
            TypeError: noise, uniforms or lengths of another dtype.
            ValueError: shapes or devices that do not fit each other.
        """
        batch, num_steps = features.shape[:2]
        doors.lengths(self.lengths, features, batch, num_steps)
        doors.main_tensor("noise", self.noise, "B N, T, D")
        doors.tensor("noise", self.noise, features, max(1, self.num) * batch, num_steps, dim)
        doors.tensor("uniforms", self.uniforms, features.new_empty(0, dtype=torch.float64), batch, num_steps)


class Choices(NamedTuple):
    """How a filter has resampled.

    Attributes:
        lineage: the ancestors.
        resampled: whether a step began with resampling, (B, T).
        lost: the first step, from 1, that had no weights to go on with, and `particle_runs.NAN`, `INFINITE` or 0 for
            zeros, (B, 2).
    """

    lineage: Lineage
    resampled: Tensor
    lost: Tensor


class GuidedRun(NamedTuple):
    """A filter along a guide.

    Attributes:
        z: states, (B N, T, D).
        h: the memory that each was drawn with, (B N, T, S); None without one.
        scale: the guide's scale of each, (B N, T, D).
        lineage: as in `Choices`, and so are the others.
    """

    z: Tensor
    h: Tensor | None
    scale: Tensor
    lineage: Lineage
    resampled: Tensor
    lost: Tensor


def run(function: str, particles: Particles, given: Sequence[Tensor], space: Sequence[Tensor]) -> Choices:
    """Run a filter, which fills the room of its draws.

    Args:
        function: name of the compiled function.
        particles: checked noise, uniforms and lengths.
        given: features (B, T, F) and x (B, T, M), then what the function reads after its lengths.
        space: the room.
    """
    from pgm_rnn.kernels import guided_runs_compiled

    num, (batch, num_steps), dtype = particles.num, particles.uniforms.shape, particles.noise.dtype
    rows, size = num * batch, -(-num // LANES) * LANES
    ancestors = torch.empty(rows, num_steps, dtype=torch.int64)
    joint = torch.full((batch * size,), -torch.inf, dtype=dtype)
    chosen = torch.zeros(batch, size + 1, dtype=torch.int32)
    offset = torch.zeros(batch, 2, dtype=torch.float64)
    ess, log_normalizers = torch.zeros(2, batch, num_steps, dtype=dtype)
    resampled = torch.zeros(batch, num_steps, dtype=torch.bool)
    lost = torch.zeros(batch, 2, dtype=torch.int64)
    read = [flat(part) for part in (*given[:2], particles.noise)]
    maps, filled = [flat(part) for part in given[2:]], [part.view(-1) for part in (*space, ancestors)]
    weights = joint, torch.zeros_like(joint), chosen, offset, ess, log_normalizers, resampled, lost
    numbers = num, float(particles.threshold), math.exp(least_exponent(dtype)), positive.least_scale(dtype)
    run_rows(
        rows,
        getattr(guided_runs_compiled, function),
        *read,
        particles.uniforms,
        particles.lengths,
        *maps,
        *filled,
        *weights,
        *numbers,
    )
    return Choices(Lineage(ancestors, num), resampled, lost)
