"""The parameters of a linear-Gaussian chain, and how missing observations change them.

z_1 ~ N(m, P),   z_t = A z_{t-1} + b_t + N(0, Q),   x_t = C z_t + N(0, R)
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pgm_rnn.kernels import doors


class GaussianChain(NamedTuple):
    """Parameters of the chain. Each may vary over steps and sequences: (...), (steps, ...), (B, 1 or steps, ...).

    Attributes:
        initial_mean: m, (D,) or (B, D).
        initial_cov: P, (D, D) or (B, D, D).
        transition_matrix: A, (D, D); steps 2..T.
        transition_cov: Q, (D, D); steps 2..T.
        emission_matrix: C, (M, D); steps 1..T.
        emission_cov: R, (M, M); steps 1..T.
        state_offset: b, (D,), steps 2..T, or None for zero.
    """

    initial_mean: Tensor
    initial_cov: Tensor
    transition_matrix: Tensor
    transition_cov: Tensor
    emission_matrix: Tensor
    emission_cov: Tensor
    state_offset: Tensor | None = None

    @property
    def is_finite(self) -> bool:
        """Whether all parameters are finite numbers."""
        return all(bool(parameter.isfinite().all()) for parameter in self if parameter is not None)

    def with_all_axes(self) -> "GaussianChain":
        """The same parameters with the axes (1 or B, 1 or steps, ...), the initial ones (1 or B, ...)."""
        offset = self.state_offset
        if offset is None:
            offset = self.initial_mean.new_zeros(self.initial_mean.shape[-1:])
        return GaussianChain(
            _padded(self.initial_mean, 2),
            _padded(self.initial_cov, 3),
            _padded(self.transition_matrix, 4),
            _padded(self.transition_cov, 4),
            _padded(self.emission_matrix, 4),
            _padded(self.emission_cov, 4),
            _padded(offset, 3),
        )


def _padded(tensor: Tensor, num_axes: int) -> Tensor:
    return tensor.reshape((1,) * (num_axes - tensor.dim()) + tensor.shape)


def per_entry(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (B, T) or (B, T, M) in the shape of x (B, T, M).

    Raises:
        TypeError: an x of another dtype, or a mask that is no tensor of truth values.
        ValueError: shapes or devices that do not fit each other.
    """
    doors.main_tensor("x", x, "B, T, M")
    doors.mask("mask", mask, x, *x.shape[: 2 if mask.dim() == 2 else 3])
    return (mask if mask.dim() == x.dim() else mask[..., None]).expand(x.shape)


def without_missing(chain: GaussianChain, x: Tensor, observed: Tensor) -> tuple[GaussianChain, Tensor]:
    """The chain and x, changed so that missing entries carry no information about the states.

    A missing entry becomes 0, with a zero row in C and unit variance of its own. Each adds -1/2 log 2 pi to the log
    likelihood, which the caller takes off again.

    Raises:
        TypeError: an argument of another dtype.
        ValueError: shapes or devices that do not fit each other.
    """
    batch, num_steps, obs_dim = doors.main_tensor("x", x, "B, T, M")
    doors.mask("observed", observed, x, batch, num_steps, obs_dim)
    chain = chain.with_all_axes()
    doors.gaussian_parameters(chain, x, batch, num_steps, obs_dim)
    pattern = observed[:1] if bool((observed == observed[:1]).all()) else observed
    matrix = chain.emission_matrix.where(pattern[..., None], 0.0)
    both = pattern[..., None] & pattern[..., None, :]
    unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    cov = chain.emission_cov.where(both, unit.where(~pattern[..., None], 0.0))
    return chain._replace(emission_matrix=matrix, emission_cov=cov), x.where(observed, 0.0)


def detached(chain: GaussianChain) -> GaussianChain:
    """The same parameters without their gradients."""
    return GaussianChain(*(None if parameter is None else parameter.detach() for parameter in chain))  # type: ignore[arg-type]
