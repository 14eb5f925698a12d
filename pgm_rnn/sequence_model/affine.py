"""A normal law of a model as a linear function of the state, N(A z + b, S), read by evaluating the law.

    b = mean(0),   A e_i = (mean(s e_i) - b) / s,   S = Cov(0)

e_i are the D unit vectors. The step s is a power of two of the size of b, which keeps the digits of the difference.
That the mean is affine and the covariance constant is checked at random states of several sizes. A mean or covariance
that is not finite is an error where laws are validated at all (`pyro.enable_validation`). Pyro's samplers turn that
off: they may propose parameters that overflow, and get NaN there, as from any other density.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from pyro.distributions.util import is_validation_enabled
from torch import Tensor

from pgm_rnn.distributions.normal_moments import NormalMoments, normal_moments
from pgm_rnn.sequence_model.law_faults import kind

SIZES = (0.25, 1.0, 4.0, 16.0)
"""Sizes of the random states, the two larger ones in units of s."""


class Affine(NamedTuple):
    """The parts of the law, over axes of sequences and steps that have size 1 where the law does not vary.

    Attributes:
        matrix: A, (1 or B, 1 or T, N, D).
        offset: b, (1 or B, 1 or T, N).
        cov: S, (1 or B, 1 or T, N, N).
    """

    matrix: Tensor
    offset: Tensor
    cov: Tensor


class Reading(NamedTuple):
    """Which law is read, and the sizes that it must have.

    Attributes:
        law: the law, a function of states (num, 1, 1, D).
        name: its name for errors, such as "Tracker.transition".
        batch: (B, T).
        width: N.
        first_step: number of the step that the first row of the axis of steps belongs to, for errors.
    """

    law: Callable[[Tensor], object]
    name: str
    batch: tuple[int, int]
    width: int
    first_step: int

    def at(self, states: Tensor) -> NormalMoments:
        """Mean (num, 1 or B, 1 or T, N) and covariance (1 or num, 1 or B, 1 or T, N, N) at states (num, 1, 1, D).

        Raises:
            TypeError: a law that is not normal, or of another dtype.
            ValueError: a law of another shape, or, if laws are validated, with a mean or covariance that is not finite.
        """
        law = self.law(states)
        found = moments_of(law, self.name, self.width, states)
        mean, cov = _with_axes(found.mean, 4), _with_axes(found.cov, 5)
        for part, own in ((mean, 1), (cov, 2)):
            leading = part.shape[: part.dim() - own]
            if len(leading) != 3 or any(
                n not in (1, m) for n, m in zip(leading, (len(states), *self.batch), strict=True)
            ):
                raise ValueError(
                    f"expected laws from {self.name} whose batch shape broadcasts to {(len(states), *self.batch)} "
                    f"(values of z, sequences, steps), got {tuple(leading)}"
                )
            if is_validation_enabled() and not bool(part.isfinite().all()):
                place = self.place(~part.isfinite(), own)
                raise ValueError(
                    f"expected finite means and covariances from {self.name}, got NaN or infinity at {place}"
                )
        return NormalMoments(mean.expand(len(states), *mean.shape[1:]), cov)

    def place(self, where: Tensor, own_axes: int) -> str:
        """The first step at which `where` (num, 1 or B, 1 or T, ...) is true, in words."""
        steps = where.flatten(-own_axes).any(-1).nonzero()
        sequence, step = steps[0, 1:].tolist()
        return f"step {step + self.first_step} of sequence {sequence}"


def moments_of(law: object, name: str, width: int, like: Tensor) -> NormalMoments:
    """The moments of a law of vectors with `width` entries in the dtype of `like`; `name` is for errors.

    Raises:
        TypeError: a law that is not normal, or of another dtype.
        ValueError: a law of vectors of another size.
    """
    found = normal_moments(law)
    if found is None:
        event = tuple(getattr(law, "event_shape", ()))
        raise TypeError(
            f"expected normal laws of vectors from {name}, such as Normal(...).to_event(1) or MultivariateNormal, "
            f"because the model's states are GaussianStates, got {kind(law)} with event shape {event}; use "
            "smc or svi, which take any law"
        )
    if found.mean.shape[-1] != width:
        raise ValueError(f"expected laws of {width} entries from {name}, got {found.mean.shape[-1]}")
    for part in found:
        if part.dtype != like.dtype:
            raise TypeError(
                f"expected laws from {name} of dtype {like.dtype}, as the observations have, got {part.dtype}; make "
                "constants in the dtype of z or of a parameter"
            )
    return found


def affine(reading: Reading, like: Tensor, dim: int, *, check: bool) -> Affine:
    """The law that is read, as a linear function of states with D = `dim` entries.

    Args:
        reading: the law and its sizes.
        like: a tensor whose dtype and device the states get.
        dim: D.
        check: whether to verify that the law is affine in z with a constant covariance.

    Raises:
        TypeError: a law that is not normal.
        ValueError: a law of another shape, that is not affine in z, or whose covariance depends on z.
    """
    zero = like.new_zeros(1, 1, 1, dim)
    offset, cov = reading.at(zero)
    size = power_of_two(float(offset.detach().abs().max()))
    columns = (
        reading.at(size * torch.eye(dim, dtype=like.dtype, device=like.device)[:, None, None]).mean - offset
    ) / size
    found = Affine(columns.movedim(0, -1), offset[0], cov[0])
    if check and all(bool(part.isfinite().all()) for part in found):
        _check(reading, found, like, dim, size)
    return found


def power_of_two(size: float) -> float:
    """The power of two next above a size, at least 1; 1 for a size that is not finite."""
    return 2.0 ** math.ceil(math.log2(size)) if 1.0 < size < math.inf else 1.0


def _check(reading: Reading, found: Affine, like: Tensor, dim: int, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([n * (size if n > 1 else 1.0) for n in SIZES], dtype=torch.float64)
    states = scales[:, None] * torch.randn(len(SIZES), dim, dtype=torch.float64, generator=generator)
    states = states.to(like)[:, None, None]  # (num, 1, 1, D)
    mean, cov = (part.detach() for part in reading.at(states))
    offset, matrix, tolerance = found.offset.detach(), found.matrix.detach().mT, torch.finfo(like.dtype).eps ** 0.5
    expected = offset + (states[..., None, :] @ matrix)[..., 0, :]
    allowed = offset.abs() + (states.abs()[..., None, :] @ matrix.abs())[..., 0, :]
    wrong = (mean - expected).abs() > tolerance * allowed
    if bool(wrong.any()):
        raise ValueError(
            f"expected a mean of {reading.name} that is affine in z, because the states are GaussianStates({dim}, "
            f"linear=True), got another one at {reading.place(wrong, 1)}; use GaussianStates({dim}) with "
            "method='extended', 'unscented' or 'iterated'"
        )
    spread = found.cov.diagonal(dim1=-2, dim2=-1).sqrt()
    wrong = (cov - found.cov).abs() > tolerance * spread[..., :, None] * spread[..., None, :]
    if bool(wrong.any()):
        raise ValueError(
            f"expected a covariance of {reading.name} that does not depend on z, because the states are "
            f"GaussianStates({dim}, linear=True), got another one at {reading.place(wrong, 2)}; use "
            f"GaussianStates({dim}) with method='extended', 'unscented' or 'iterated'"
        )


def _with_axes(value: Tensor, num: int) -> Tensor:
    """A tensor with axes of size 1 in front, so that it has `num` of them."""
    return value.reshape((1,) * (num - value.dim()) + value.shape)
